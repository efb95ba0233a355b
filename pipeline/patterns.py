"""Patterns of relative POSIX paths: globs, and globs whose `{fields}` say what they matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

from pipeline.keys import escape

_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^]]*\]|\{[^{}]*\}|.", re.DOTALL)
_FOLDERS = "(?:/[^/]*)*?"
_UNCLEAR = re.compile(r"%[0-9A-F]{2}|[\ud800-\udfff]")


@dataclass(frozen=True)
class Pattern:
    """A glob in which `{field}` stands for one or more characters of one part of a path.

    A pattern without `/` is matched against the last part, as in .gitignore; `./` is the root. As
    with `*`, what comes first takes as much as it can. Raises ValueError for braces that hold no
    name.

    Examples
    --------
    >>> scene = Pattern("{tile}/*_{band}.tif")
    >>> scene.match("31UFS/2026_11_B04.tif")
    {'tile': '31UFS', 'band': 'B04'}
    >>> scene.without("31UFS/2026_11_B04.tif", "band")
    '31UFS/2026_11_{band}.tif'
    """

    text: str

    def __post_init__(self) -> None:
        """Refuse braces that hold no name."""
        for token in _TOKEN.findall(self.text):
            if token in "{}" or (token[0] == "{" and not token[1:-1].isidentifier()):
                message = f"holds {token!r}, which is no field; write {{band}}, or [{{] for a brace"
                raise ValueError(message)

    @property
    def fields(self) -> tuple[str, ...]:
        """Its fields in the order of their first appearance."""
        return tuple(dict.fromkeys(self._places))

    @property
    def within_folder(self) -> bool:
        """Whether it names files by their last part alone."""
        return "/" not in self.text

    def match(self, name: str) -> dict[str, str] | None:
        """What each field stands for in a path that matches; None for one that does not."""
        found = self._spans(name)
        return None if found is None else {field: name[low:high] for field, low, high in found}

    def without(self, name: str, field: str) -> str:
        """A matching path as a key, with `{field}` where the field's text was."""
        key, end = "", 0
        for place, low, high in self._spans(name) or ():
            if place == field:
                key, end = f"{key}{escape(name[end:low])}{{{field}}}", high
        return key + escape(name[end:])

    def _spans(self, name: str) -> list[tuple[str, int, int]] | None:
        """Where in a path that matches each field stands: first and past the last character."""
        found = self._rule.fullmatch(
            (name.rsplit("/", 1)[-1] if self.within_folder else name)[::-1]
        )
        if found is None:
            return None
        n = len(name)
        backwards = [found.span(group + 1) for group in range(len(self._places))]
        spans = zip(self._places, reversed(backwards), strict=True)
        return [(field, n - high, n - low) for field, (low, high) in spans]

    @cached_property
    def _places(self) -> tuple[str, ...]:
        """The field of each group of the rule, the last group first."""
        return tuple(t[1:-1] for t in _TOKEN.findall(self.text) if t[0] == "{")

    @cached_property
    def _rule(self) -> re.Pattern[str]:
        return re.compile(_translate(self.text.removeprefix("./"), fields=True), re.DOTALL)


@lru_cache(maxsize=64)
def patterns_of(texts: tuple[str, ...]) -> tuple[Pattern, ...]:
    """Some patterns, each compiled once. Raises ValueError."""
    return tuple(Pattern(text) for text in texts)


def fields_of(texts: tuple[str, ...]) -> tuple[str, ...]:
    """All fields of some patterns, each once."""
    return tuple(dict.fromkeys(f for pattern in patterns_of(texts) for f in pattern.fields))


def text_of(value: str) -> str:
    """What a field stands for, as text that every table can hold; no two values become one.

    Bytes that are not UTF-8 make it a key, and so does what could be taken for one.

    >>> text_of("50%"), text_of("caf\\udce9"), text_of("caf%E9")
    ('50%', 'caf%E9', 'caf%25E9')
    """
    return escape(value) if _UNCLEAR.search(value) else value


@lru_cache(maxsize=64)
def compile_globs(globs: Sequence[str]) -> Callable[[str], bool]:
    """Match relative POSIX paths: `*` and `?` stay within a part, `**/` spans any number of them.

    A pattern without `/` is matched against the last part, as in .gitignore.

    >>> match = compile_globs(("*.png", "scans/**/a?.tif"))
    >>> match("x/y.png"), match("scans/1/2/a7.tif"), match("other/a7.tif")
    (True, True, False)
    """
    rules = [("/" in glob, re.compile(_translate(glob, fields=False), re.DOTALL)) for glob in globs]

    def match(name: str) -> bool:
        last = name.rsplit("/", 1)[-1]
        return any(rule.fullmatch((name if whole else last)[::-1]) for whole, rule in rules)

    return match


def _translate(glob: str, *, fields: bool) -> str:
    """A rule for paths that are written backwards.

    There each wildcard takes the least that lets follow what precedes it in the pattern; so what
    comes first takes the most, and no wildcard is tried twice (`(?>`), however long a name is. Only
    fields that stand twice, and `**` within a part, may have to be.
    """
    tokens = list(_tokens(glob, fields=fields))
    named = [token for token in tokens if token[0] == "{" and len(token) > 1]
    once = len(named) == len(set(named)) and not _spans_within(tokens)
    seen: set[str] = set()
    groups = (
        "/".join(_part(part, seen, once=once) for part in _backwards(group, "/"))
        for group in _backwards(tokens, "**/")
    )
    first, *others = groups
    return first + _chain([f"{_FOLDERS}{group}" for group in others], r"(?=/|\Z)", once=once)


def _tokens(glob: str, *, fields: bool) -> Iterator[str]:
    """Wildcards, fields, classes and characters; in a pattern of one part `**` is `*`."""
    for token in _TOKEN.findall(glob):
        if token[0] == "*" and token != "**/":
            yield "**" if len(token) > 1 and "/" in glob else "*"
        elif (token[0] == "{" and not fields) or (token[0] == "[" and not _class(token)):
            yield from token
        else:
            yield token


def _spans_within(tokens: Sequence[str]) -> bool:
    """Whether folders may begin within a part, as in `a**` and `a**/b`."""
    pairs = pairwise(("/", *tokens))
    return any(t == "**" or (t == "**/" and before[-1] != "/") for before, t in pairs)


def _backwards(tokens: Sequence[str], at: str) -> list[list[str]]:
    """What stands between some tokens, the last first."""
    found: list[list[str]] = [[]]
    for token in tokens:
        if token == at:
            found.insert(0, [])
        else:
            found[0].append(token)
    return found


def _part(tokens: Sequence[str], seen: set[str], *, once: bool) -> str:
    """The rule for one part. seen: fields of parts that follow it."""
    runs = [""]
    for token in reversed(tokens):
        if token == "**":
            runs.append(".*?")
        elif token == "*":
            runs.append("[^/]*?")
        elif token == "?":
            runs[-1] += "[^/]"
        elif len(token) == 1:
            runs[-1] += re.escape(token)
        elif token[0] == "[":
            runs[-1] += _class(token)
        elif token in seen:
            runs[-1] += f"((?P={token[1:-1]}))"
        else:
            runs.append(f"(?P<{token[1:-1]}>[^/]+?)")
            seen.add(token)
    return runs[0] + _chain(runs[1:], "", once=once)


def _chain(runs: Sequence[str], end: str, *, once: bool) -> str:
    """Wildcards, each with what follows it; all but the last end as early as they can."""
    if not once:
        return "".join(runs)
    return "".join(f"(?>{run}{end})" for run in runs[:-1]) + "".join(runs[-1:])


def _class(token: str) -> str:
    """The rule of a class such as [a-z]; empty where it is none, as in a shell."""
    inner = re.sub(r"([\[\\&|~])", r"\\\1", token[1:-1].replace("!", "^", token[1:2] == "!"))
    try:
        re.compile(f"[{inner}]")
    except re.error:
        return ""
    return f"(?!/)[{inner}]"

"""Patterns of relative POSIX paths: globs, and globs whose `{fields}` say what they matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from pipeline.keys import escape

_TOKEN = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^]]*\]|\{[^{}]*\}|.", re.DOTALL)
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
        found = self._match(name)
        return None if found is None else dict(zip(self._places, found.groups(), strict=True))

    def without(self, name: str, field: str) -> str:
        """A matching path as a key, with `{field}` where the field's text was."""
        found = self._match(name)
        assert found is not None
        start = len(name) - len(found.string)
        key, end = "", 0
        for group, place in enumerate(self._places, 1):
            if place == field:
                low, high = (start + at for at in found.span(group))
                key, end = f"{key}{escape(name[end:low])}{{{field}}}", high
        return key + escape(name[end:])

    def _match(self, name: str) -> re.Match[str] | None:
        return self._rule.fullmatch(name.rsplit("/", 1)[-1] if self.within_folder else name)

    @cached_property
    def _places(self) -> tuple[str, ...]:
        """The field of each group of the rule."""
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
        return any(rule.fullmatch(name if whole else last) for whole, rule in rules)

    return match


def _translate(glob: str, *, fields: bool) -> str:
    out = ""
    seen: set[str] = set()
    for token in _TOKEN.findall(glob):
        if token == "**/":
            out += "(?:.*/)?"
        elif token.startswith("*"):
            out += ".*" if len(token) > 1 else "[^/]*"
        elif token == "?":
            out += "[^/]"
        elif token.startswith("{") and fields:
            out += f"((?P={token[1:-1]}))" if token in seen else f"(?P<{token[1:-1]}>[^/]+)"
            seen.add(token)
        elif token.startswith("[") and len(token) > 1:
            out += _character_class(token)
        else:
            out += re.escape(token)
    return out


def _character_class(token: str) -> str:
    """A class such as [a-z]; taken literally where it is none, as a shell does."""
    pattern = token.replace("[!", "[^", 1).replace("\\", "\\\\")
    try:
        re.compile(pattern)
    except re.error:
        return re.escape(token)
    return pattern

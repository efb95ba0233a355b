"""YAML text -> nodes: one pass over the parser's events, with limits, and without running code.

Scalars follow YAML 1.2's core schema (https://yaml.org/spec/1.2.2/#103-core-schema), not
PyYAML's 1.1: `NO`, `on` and `12:30` are text, `010` is ten, `1e-4` is a number. A number equal to
an integer is that integer, so `1e3` may stand where a whole number is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import yaml

from pipeline.config.nodes import Entry, Location, Node, Scalar, join_key, problem, shown
from pipeline.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 50_000

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
# more digits than any double has: such a number is read as a float, that is, as infinity
_INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
_BASED = re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_ADVICE = {
    "cannot start any token": "; indent with spaces, put text that starts with @ or % in quotes",
    "expected alphabetic or numeric": "; put text that starts with * or & in quotes",
    "did not find expected key": "; check the indentation of this line and the one above",
    "mapping values are not allowed": "; check the indentation, and put text with ': ' in quotes",
    "expected ',' or": "; check that every bracket is closed",
}


def read(path: Path) -> tuple[Node, tuple[str, ...]]:
    """Read a YAML file as `parse` does. Raises ConfigError."""
    name = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        text = f"cannot be read: {error.strerror}; check the path"
        raise problem(name, "", text) from error
    if len(data) > MAX_BYTES:
        text = f"is larger than {MAX_BYTES >> 20} MiB; put large weights into a .npy file"
        raise problem(name, "", text)
    try:
        return parse(data.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        place = f"{name}:{line}:{column}"
        raise problem(place, "", "is not UTF-8 text; save the file as UTF-8") from error


def parse(text: str, name: str) -> tuple[Node, tuple[str, ...]]:
    """Parse one YAML document into a node, and the problems that leave its structure clear.

    `name` stands for the file in messages. Raises ConfigError where nothing can be made of it.

    >>> node, problems = parse("{a: 1e3, b: NO, c: 010, d: [1e-4, 190:20:30]}", "x.yaml")
    >>> node.plain
    {'a': 1000, 'b': 'NO', 'c': 10, 'd': [0.0001, '190:20:30']}
    """
    composer = _Composer(yaml.parse(text, Loader=_LOADER), name)
    try:
        root = composer.document()
    except yaml.YAMLError as error:
        raise ConfigError((*composer.problems, _syntax(error, text, name))) from error
    return root, tuple(composer.problems)


def scalar(text: str) -> Scalar:
    """What an unquoted word means in YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if special := _SPECIAL.fullmatch(text):
        return float(f"{special[1]}inf") if special[2] else float("nan")
    if _FLOAT.fullmatch(text):
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    return text


class _Composer:
    """Builds nodes from events; keeps going after a problem that leaves the structure clear."""

    def __init__(self, events: Iterator[yaml.Event], name: str) -> None:
        self.events = events
        self.name = name
        self.anchors: dict[str, Node] = {}
        self.values = 0
        self.problems: list[str] = []

    def document(self) -> Node:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            text = "is empty; start it with 'version: 1'"
            raise problem(self.name, "", text)
        root = self.node(next(self.events), ())
        next(self.events)
        if isinstance(event := next(self.events), yaml.DocumentStartEvent):
            self.report(event, (), "holds a second document; remove everything from '---' on")
        return root

    def node(self, event: yaml.Event, loc: Location) -> Node:
        self.check(event, loc)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, loc)
        place = self.place(event)
        if isinstance(event, yaml.ScalarEvent):
            node = Node(place, scalar(event.value) if event.implicit[0] else event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            items = tuple(self.items(loc))
            node = Node(place, items, 1 + sum(item.size for item in items))
        else:
            entries = self.entries(loc)
            node = Node(place, entries, 1 + sum(entry.node.size for entry in entries.values()))
        if event.anchor:  # type: ignore[attr-defined]
            self.anchors[event.anchor] = node  # type: ignore[attr-defined]
        return node

    def check(self, event: yaml.Event, loc: Location) -> None:
        """Refuse tags, and stop where a file could cost seconds or run out of stack."""
        if tag := getattr(event, "tag", None):
            short = tag.replace("tag:yaml.org,2002:", "!!")
            self.report(event, loc, f"tags are not supported (got {shown(short)}); remove the tag")
        self.count(event, 1)
        if len(loc) > MAX_DEPTH:
            self.stop(event, f"is nested more than {MAX_DEPTH} levels deep; remove some brackets")

    def alias(self, event: yaml.AliasEvent, loc: Location) -> Node:
        name = str(event.anchor)
        if name not in self.anchors:
            text = f"unknown alias *{name}; put text that starts with * in quotes"
            self.report(event, loc, text)
            return Node(self.place(event), f"*{name}")
        self.count(event, self.anchors[name].size)
        return self.anchors[name]

    def items(self, loc: Location) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self.node(event, (*loc, index))
            index += 1

    def entries(self, loc: Location) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.stop(event, "a key must be a plain word; put text with brackets in quotes")
            key: str = event.value
            entry = Entry(self.place(event), self.node(next(self.events), (*loc, key)))
            if key == "<<":
                self.report(event, loc, "merge keys (<<) are not supported; write the keys out")
            elif key in entries:
                first = entries[key].place.rsplit(":", 2)[1]
                text = f"is given twice (first on line {first}); remove one"
                self.report(event, (*loc, key), text)
            else:
                entries[key] = entry
        return entries

    def count(self, event: yaml.Event, values: int) -> None:
        self.values += values
        if self.values > MAX_VALUES:
            text = f"holds more than {MAX_VALUES:,} values; put large weights into a .npy file"
            self.stop(event, text)

    def place(self, event: yaml.Event) -> str:
        mark = event.start_mark
        assert mark is not None  # events that were parsed have one
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}"

    def report(self, event: yaml.Event, loc: Location, text: str) -> None:
        self.problems += problem(self.place(event), join_key("", loc), text).problems

    def stop(self, event: yaml.Event, text: str) -> NoReturn:
        self.report(event, (), text)
        raise ConfigError(tuple(self.problems))


def _syntax(error: yaml.YAMLError, text: str, name: str) -> str:
    """A syntax error in one line, with advice for the usual slips."""
    said = str(getattr(error, "problem", None) or getattr(error, "reason", error))
    if mark := getattr(error, "problem_mark", None):
        name = f"{name}:{mark.line + 1}:{mark.column + 1}"
    elif (at := getattr(error, "position", None)) is not None:
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        name = f"{name}:{line}:{column}"
    advice = next((hint for words, hint in _ADVICE.items() if words in said), "")
    return f"{name}: is not valid YAML: {said}{advice}"

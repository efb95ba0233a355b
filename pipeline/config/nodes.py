"""A config file as values that remember where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pipeline.errors import ConfigError

T = TypeVar("T")
Scalar: TypeAlias = str | int | float | bool | None
Location: TypeAlias = tuple[str | int, ...]

MAX_PROBLEMS = 1_000


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place: `edges.yaml:5:5`, or the `--flag` it came from.

    `size` counts the scalars, lists and mappings below it and itself, aliases written out.
    """

    place: str
    value: Scalar | tuple[Node, ...] | dict[str, Entry]
    size: int = 1

    @classmethod
    def of(cls, place: str, value: Any) -> Node:
        """Wrap plain values that all stand at one place."""
        if isinstance(value, Mapping):
            return cls(place, {k: Entry(place, cls.of(place, v)) for k, v in value.items()})
        if isinstance(value, list | tuple):
            return cls(place, tuple(cls.of(place, item) for item in value))
        return cls(place, value)

    @property
    def entries(self) -> dict[str, Entry]:
        """The entries of a mapping; none for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> tuple[Node, ...]:
        """The items of a list; none for anything else."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def plain(self) -> Any:
        """The same as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain for key, entry in self.value.items()}
        if isinstance(self.value, tuple):
            return [item.plain for item in self.value]
        return self.value

    def with_entries(self, changed: Mapping[str, Entry]) -> Node:
        """The same mapping with entries replaced or added."""
        return Node(self.place, {**self.entries, **changed}, self.size)

    def only(self, keys: Iterable[str]) -> Node:
        """The same mapping with these keys alone, in the file's order."""
        wanted = set(keys)
        return Node(self.place, {k: e for k, e in self.entries.items() if k in wanted}, self.size)

    def walk(self, loc: Location) -> tuple[Location, Node]:
        """Follow pydantic's location, skipping the union members it names between the keys."""
        real: Location = ()
        node = self
        for part in loc:
            if isinstance(part, str) and part in node.entries:
                node, real = node.entries[part].node, (*real, part)
            elif isinstance(part, int) and part < len(node.items):
                node, real = node.items[part], (*real, part)
        return real, node


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping: where the key stands, and what it holds."""

    place: str
    node: Node


def join_key(key: str, loc: Location) -> str:
    """Write a location as people do.

    >>> join_key("filters", (1, "gabor", "wavelength", 0))
    'filters[1].gabor.wavelength[0]'
    """
    for part in loc:
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
    return key.lstrip(".")


def problem(place: str, key: str, text: str) -> ConfigError:
    """One problem as the error that reports it; a flag needs no key."""
    key = "" if place.startswith("--") else key
    return ConfigError((f"{place}: {key}: {text}" if key else f"{place}: {text}",))


def gather(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Call them all; raise one ConfigError with the problems of all that failed.

    Stops after a thousand problems: each costs a search for the nearest word.
    """
    results: list[T] = []
    problems: dict[str, None] = {}
    for call in calls:
        if len(problems) >= MAX_PROBLEMS:
            problems["there may be more problems; fix these first"] = None
            break
        try:
            results.append(call())
        except ConfigError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise ConfigError(tuple(problems))
    return results


def shown(value: Any, length: int = 40) -> str:
    """Quote a value in an error message, cut to one short line.

    >>> shown("gpu"), shown(True), shown(None), shown({"a": 1}), shown(list(range(99)))
    ("'gpu'", 'true', 'null', 'a mapping', 'a list of 99')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, dict):
        return "a mapping"
    text = repr(value)
    if len(text) <= length:
        return text
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return f"{text[: length - 4]}...{text[-1]}"

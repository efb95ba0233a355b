"""One entry of `filters:` -> instances of its family: shorthand written out, lists swept."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from functools import partial
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from pipeline.config.nodes import Entry, Node, gather, problem
from pipeline.config.words import build
from pipeline.errors import ConfigError
from pipeline.filters.base import FILTERS, Filter

MAX_FILTERS = 10_000


@dataclass(frozen=True)
class Family:
    """A family as one entry of the config names it.

    `place` and `key` (`filters[1]`) are the entry's; paths are relative to `folder`.
    """

    name: str
    place: str
    key: str
    folder: Path

    @property
    def cls(self) -> type[Filter]:
        """The registered class."""
        return FILTERS[self.name]

    @property
    def path(self) -> str:
        """What stands before a parameter in messages."""
        return f"{self.key}.{self.name}"

    def refuse(self, text: str) -> ConfigError:
        """One problem of the entry as a whole."""
        return problem(self.place, self.key, text)


def swept_fields(cls: type[Filter]) -> tuple[str, ...]:
    """Fields for which a list means one filter per value, in declared order."""
    unswept: frozenset[str] = getattr(cls, "not_swept", frozenset())
    return tuple(f.name for f in fields(cls) if f.name not in unswept)  # type: ignore[arg-type]


def needs_name(cls: type[Filter]) -> bool:
    """Whether a required field holds a list: no text of it would make a readable name."""
    required = (
        f.name
        for f in fields(cls)  # type: ignore[arg-type]
        if f.default is MISSING and f.default_factory is MISSING
    )
    return not set(required) <= set(swept_fields(cls))


def instances(family: Family, body: Node) -> tuple[tuple[Filter, tuple[str, ...]], ...]:
    """Every point of the sweep, with the names of the fields that were swept.

    The last swept field varies fastest. A list of one value is that value: it sweeps nothing.
    Raises ConfigError.
    """
    given = _spread(family, body)
    lists = {
        name: given.entries[name]
        for name in swept_fields(family.cls)
        if name in given.entries and isinstance(given.entries[name].node.value, tuple)
    }
    _check_lists(family, lists)
    points = product(*(entry.node.items for entry in lists.values()))
    nodes = (given.with_entries(_point(lists, point)) for point in points)
    filters = gather(partial(build, family.cls, node, family.path) for node in nodes)
    swept = tuple(name for name, entry in lists.items() if len(entry.node.items) > 1)
    return tuple((filter_, swept) for filter_ in filters)


def _point(lists: dict[str, Entry], values: tuple[Node, ...]) -> dict[str, Entry]:
    return {name: Entry(value.place, value) for name, value in zip(lists, values, strict=True)}


def _check_lists(family: Family, lists: dict[str, Entry]) -> None:
    for name, entry in lists.items():
        if not entry.node.items:
            text = "is an empty list; give at least one value"
            raise problem(entry.place, f"{family.path}.{name}", text)
    count = prod(len(entry.node.items) for entry in lists.values())
    if count > MAX_FILTERS:
        text = f"makes {count:,} filters, at most {MAX_FILTERS:,}; shorten its lists"
        raise family.refuse(text)


def _spread(family: Family, body: Node) -> Node:
    """Let the family write out its shorthand."""
    spread = getattr(family.cls, "spread", None)
    if spread is None:
        return body
    given = _located(body.plain, family.folder)
    try:
        written: dict[str, Any] = spread(given)
    except (ValueError, TypeError) as error:
        text = f"{family.name}: {error}"
        raise family.refuse(text) from error
    made = {
        name: Entry(family.place, Node.of(family.place, value))
        for name, value in written.items()
        if name not in given or value is not given[name]
    }
    return body.only(written).with_entries(made)


def _located(value: Any, folder: Path) -> Any:
    """The same values, with the path of every `file` below them."""
    if isinstance(value, list):
        return [_located(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    located = {key: _located(item, folder) for key, item in value.items()}
    if isinstance(value.get("file"), str):
        located["file"] = str(folder / value["file"])
    return located

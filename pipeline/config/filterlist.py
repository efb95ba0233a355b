"""The `filters:` list -> named filters, those of bank files among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.bank.expr import Spectral, nodes_of
from pipeline.boundary import Boundary
from pipeline.config.document import Document
from pipeline.config.names import response_name
from pipeline.config.nodes import Entry, Node, gather, problem, shown
from pipeline.config.schema import Common, NamedFilter
from pipeline.config.sweep import MAX_FILTERS, Family, instances, needs_name
from pipeline.config.words import build, known_words, lengths, refuse_unknown
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, Filter
from pipeline.filters.othernames import hint
from pipeline.registry import nearest
from pipeline.types import Grid
from pipeline.units import DEFAULT, METRES

COMMON = tuple(field.name for field in fields(Common))
BANK_KEYS = ("version", "filters")


def named_filters(node: Node, folder: Path, unit: str = DEFAULT) -> tuple[NamedFilter, ...]:
    """Expand the `filters:` list. Raises ConfigError.

    Paths in it are relative to `folder`; unit: of physical lengths.
    """
    found = _expand_list(node, folder, unit, nested=False)
    _refuse_repeated_banks(node, folder)
    if len(found) > MAX_FILTERS:
        text = f"makes {len(found):,} filters, at most {MAX_FILTERS:,}; shorten its lists"
        raise problem(node.place, "filters", text)
    first: dict[str, NamedFilter] = {}
    gather(partial(_check_name, first.setdefault(one.name, one), one) for one in found)
    return found


def refuse_valid(found: Iterable[NamedFilter], boundary: object) -> None:
    """Refuse the boundary `valid`, here or as the config's, where no map would be left of it.

    That is for filters in the frequency domain, which reach over the whole image.
    """
    valid = (named for named in found if (named.boundary or boundary) == Boundary("valid"))
    gather(partial(_refuse, named) for named in valid if _is_global(named))


def _refuse(named: NamedFilter) -> None:
    place, _, key = named.line.rpartition(": ")
    text = f"{named.name!r} depends on the whole image: no map is valid; set its boundary: reflect"
    raise problem(place, key, text)


def _is_global(named: NamedFilter) -> bool:
    for rank in (named.rank,) if named.rank else (2, 3):
        try:
            responses = named.filter.responses(Grid((1.0,) * rank, named.unit))
        except PlanError:  # not of this rank, or not on this spacing
            continue
        return any(isinstance(n, Spectral) for node in responses.values() for n in nodes_of(node))
    return False


def one_entry(node: Node, key: str, what: str, example: str) -> tuple[str, Entry]:
    """Take apart `- sobel` or `- sobel: {...}`; nothing after the colon takes the defaults.

    Raises ConfigError for anything else.
    """
    if isinstance(node.value, str):
        return node.value, Entry(node.place, Node(node.place, {}))
    if not node.entries:
        text = f"must name a {what} (got {shown(node.plain)}); write '- {example}'"
        raise problem(node.place, key, text)
    (name, entry), *others = node.entries.items()
    if others:
        text = (
            f"holds more than one {what} (got {name!r} and {others[0][0]!r}); start each with "
            "'- ', and indent its parameters deeper than its name"
        )
        raise problem(node.place, key, text)
    body = Node(entry.place, {}) if entry.node.value is None else entry.node
    return name, Entry(entry.place, body)


def _expand_list(node: Node, folder: Path, unit: str, *, nested: bool) -> tuple[NamedFilter, ...]:
    if not node.items:
        text = f"must be a list of filters (got {shown(node.plain)}); write [sobel]"
        raise problem(node.place, "filters", text)
    expand = partial(_expand_item, folder=folder, unit=unit, nested=nested)
    found = gather(partial(expand, item, f"filters[{i}]") for i, item in enumerate(node.items))
    return tuple(chain.from_iterable(found))


def _expand_item(
    node: Node, key: str, folder: Path, unit: str, *, nested: bool
) -> tuple[NamedFilter, ...]:
    name, entry = one_entry(node, key, "filter", "sobel")
    if name == "bank" and nested:
        text = "a bank file cannot hold another bank; write its filters out"
        raise problem(entry.place, key, text)
    if name == "bank":
        return _bank(entry.node, f"{key}.bank", folder, unit)
    if name not in FILTERS:
        text = f"unknown filter {name!r}{hint(name) or nearest(name, [*FILTERS, 'bank'])}"
        raise problem(entry.place, key, text)
    return _filters(Family(name, entry.place, key, folder), entry.node, unit)


def _filters(family: Family, body: Node, unit: str) -> tuple[NamedFilter, ...]:
    if not isinstance(body.value, dict):
        text = f"must be a mapping of parameters (got {shown(body.plain)})"
        raise problem(body.place, family.path, text)
    words = known_words(family.cls)
    calls: list[Callable[[], Any]] = [
        partial(refuse_unknown, body, (*COMMON, *words), family.path),
        partial(build, Common, body.only(COMMON), family.path),
        partial(instances, family, body.only(words)),
    ]
    _, common, found = gather(calls)
    if common.name is None and needs_name(family.cls):
        text = "needs a name: its parameters make no readable one; add 'name: ...'"
        raise family.refuse(text)
    if common.units == "physical" and unit not in METRES:
        text = f"has units: physical, but input.unit is {unit!r}; give one of {', '.join(METRES)}"
        raise family.refuse(text)
    physical = unit if common.units == "physical" else None
    if physical and not all(_has_length(filter_) for filter_, _ in found):
        text = (
            "has units: physical, but nothing that it is given is a length: it counts pixels, "
            "whatever their size; leave units out, or prepare with resample"
        )
        raise family.refuse(text)
    return tuple(_named(family, common, filter_, swept, physical) for filter_, swept in found)


def _has_length(filter_: Filter) -> bool:
    return any(getattr(filter_, name) is not None for name in lengths(type(filter_)))


def _named(
    family: Family, common: Common, filter_: Filter, swept: tuple[str, ...], unit: str | None
) -> NamedFilter:
    around = {"rank": common.rank, "bands": common.bands, "boundary": common.boundary}
    return NamedFilter(
        name=response_name(family.name, filter_, swept, common.name, around, unit),
        family=family.name,
        filter=filter_,
        bands=common.bands,
        unit=unit,
        boundary=common.boundary,
        rank=common.rank,
        line=f"{family.place}: {family.key}",
    )


def _bank(node: Node, key: str, folder: Path, unit: str) -> tuple[NamedFilter, ...]:
    """Read the filters of another file, whose paths are relative to that file."""
    if not isinstance(node.value, str):
        text = f"must be a path (got {shown(node.plain)}); write '- bank: edges.yaml'"
        raise problem(node.place, key, text)
    path = folder / node.value
    if not path.is_file():
        text = f"there is no file {str(path)!r}; bank paths are relative to the config file"
        raise problem(node.place, key, text)
    document = Document.open(path)
    calls: list[Callable[[], Any]] = [
        *document.checks(BANK_KEYS),
        lambda: _expand_list(
            document.required("filters", "filters: [sobel]"), path.parent, unit, nested=True
        ),
    ]
    found: tuple[NamedFilter, ...] = gather(calls)[-1]
    return found


def _refuse_repeated_banks(node: Node, folder: Path) -> None:
    """Refuse a bank file that stands in the list twice: the lines of its filters would be one."""
    first: dict[Path, int] = {}
    for i, item in enumerate(node.items):
        bank = item.entries.get("bank")
        if bank is not None:
            path = (folder / bank.node.plain).resolve()
            if first.setdefault(path, i) != i:
                text = f"{shown(bank.node.plain)} is the bank of filters[{first[path]}] already"
                raise problem(bank.place, f"filters[{i}].bank", f"{text}; remove one")


def _check_name(first: NamedFilter, named: NamedFilter) -> None:
    """Refuse a name that an earlier filter has."""
    if first is named:
        return
    place, _, key = named.line.rpartition(": ")
    there, _, other = first.line.rpartition(": ")
    if first.line == named.line:
        text = f"makes {named.name!r} twice; remove the repeated value"
    elif place.rsplit(":", 2)[0] == there.rsplit(":", 2)[0]:
        text = f"the name {named.name!r} is taken by {other}; give one of them another 'name:'"
    else:
        text = f"the name {named.name!r} is taken by {first.line}; give one another 'name:'"
    raise problem(place, key, text)

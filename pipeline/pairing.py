"""Files -> sources, by their names alone: bands that are one image, and what lies beside each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from pipeline.config.schema import Input
from pipeline.config.table import Cells, composed
from pipeline.keys import escape
from pipeline.patterns import Pattern, patterns_of, text_of
from pipeline.types import Failure, Member, Source

Fields: TypeAlias = tuple[tuple[str, str], ...]
"""What fields stand for, by their names."""

_NAMED = 3
"""How many files too many are named."""


def is_beside(config: Input) -> Callable[[str], bool]:
    """What tells whether a path is a mask or a layer of classes, and so no image."""
    texts = [part.path for part in (config.mask, config.qa) if part and part.path]
    patterns = patterns_of(tuple(texts))
    named = _masks_of_table(config)
    return lambda name: composed(name) in named or any(p.match(name) is not None for p in patterns)


def pair(
    images: Sequence[Member], beside: Iterable[Member], config: Input
) -> tuple[list[Source], Counter[str]]:
    """One source per image, not yet opened; and why and how often a file was left out.

    What lacks a band, a mask or classes, or has one twice, has a failure, `incomplete`.
    """
    skipped: Counter[str] = Counter()
    others = tuple(beside)
    mask, classify = _masking(others, config), _classifying(others, config)
    groups: dict[str, list[Member]] = {}
    for member in images:
        groups.setdefault(_key(member.name, config), []).append(member)
    sources = []
    for key, members in groups.items():
        source, unwanted = _joined(Source(key, tuple(members), ""), config)
        skipped["band not in input.bands"] += unwanted
        if not source.members:
            continue
        masked = mask(source)
        if masked is None:
            skipped["no mask"] += 1
        else:
            sources.append(classify(masked))
    return sources, +skipped


def lookup(config: Input) -> Callable[[Fields, str], Cells]:
    """What gives the table's cells for a source by its fields and its key."""
    if config.table is None:
        return lambda _fields, _key: {}
    find = config.table.index(config.fields)
    return lambda fields, key: find({**dict(fields), "image": key})


def given_of(fields: Fields, cells: Cells, roles: Fields) -> Fields:
    """All text that decides results besides the bytes of the files."""
    return (*fields, *sorted(cells.items()), *roles)


def roles_of(source: Source, config: Input) -> Fields:
    """What each file is to its image: band, mask or layer of classes, and the key of bands."""
    bands: Fields = ()
    if source.layout == "joined":
        named = (("band", f"{band_of(m, config)}\0{escape(m.name)}") for m in source.members)
        bands = (("image", f"\0{source.key}"), *named)
    masks = (("mask", f"{rater}\0{escape(member.name)}") for rater, member in source.masks)
    layer = (("qa", f"\0{escape(source.qa.name)}"),) if source.qa else ()
    return (*bands, *masks, *layer)


def shared_fields(sources: Sequence[Source]) -> Fields:
    """The fields that are the same for all files of a series."""
    return shared([source.fields for source in sources])


def shared(each: Sequence[Fields]) -> Fields:
    """What all have, in the order of the first."""
    others = [set(pairs) for pairs in each[1:]]
    return tuple(pair for pair in each[0] if all(pair in some for some in others))


def band_of(member: Member, config: Input) -> str:
    """What the joined field is for a file."""
    _, found = _matched(member.name, config)
    return text_of(found[config.join or ""])


# ---------------------------------------------------------------- bands in files of their own
def _matched(name: str, config: Input) -> tuple[Pattern | None, dict[str, str]]:
    """The first pattern that a path matches, and what its fields stand for."""
    for pattern in patterns_of(config.include or ()):
        if (found := pattern.match(name)) is not None:
            return pattern, found
    return None, {}


def _key(name: str, config: Input) -> str:
    pattern, found = _matched(name, config)
    if pattern is None or config.join is None or config.join not in found:
        return escape(name)
    return pattern.without(name, config.join)


def _joined(source: Source, config: Input) -> tuple[Source, int]:
    """The source with its fields and its files in the order of its bands, and how many are no band.

    Without `input.bands` the order is that of the names, numbers in them by value.
    """
    _, found = _matched(source.members[0].name, config)
    fields = tuple((field, text_of(found[field])) for field in config.fields if field in found)
    source = replace(source, fields=fields)
    if config.join not in found:
        return source, 0
    by_band = {band_of(member, config): member for member in source.members}
    wanted = _wanted(config)
    order = sorted(by_band, key=_natural) if wanted is None else [b for b in wanted if b in by_band]
    joined = replace(source, members=tuple(by_band[band] for band in order), layout="joined")
    if missing := [band for band in wanted or () if band not in by_band]:
        words = f"no file for band {', '.join(missing)} of input.bands; add it, or name other bands"
        joined = joined.fail(Failure("incomplete", words))
    return joined, len(by_band) - len(order)


def _wanted(config: Input) -> tuple[str, ...] | None:
    """The bands that `input.bands` names; None where it does not say all by name."""
    bands = () if isinstance(config.bands, str) else config.bands
    names = tuple(dict.fromkeys(band for band in bands if isinstance(band, str)))
    return names if names and len(names) == len(set(bands)) else None


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]


# ---------------------------------------------------------------- masks and classes
@dataclass(frozen=True)
class _Beside:
    """The files of one pattern by the fields they share with images: (own field, file)."""

    pattern: Pattern
    shared: tuple[str, ...]
    files: Mapping[tuple[str | None, ...], Sequence[tuple[str, Member]]]

    @classmethod
    def of(cls, text: str, members: Iterable[Member], fields: Sequence[str]) -> _Beside:
        pattern = Pattern(text)
        shared = tuple(field for field in pattern.fields if field in fields)
        own = next((field for field in pattern.fields if field not in fields), None)
        files: dict[tuple[str | None, ...], list[tuple[str, Member]]] = {}
        for member in members:
            if (found := pattern.match(member.name)) is not None:
                values = (text_of(found[field]) for field in shared)
                folder = member.folder if pattern.within_folder else None
                rater = text_of(found[own]) if own else ""
                files.setdefault((folder, *values), []).append((rater, member))
        return cls(pattern, shared, {key: sorted(some, key=_rater) for key, some in files.items()})

    def to(self, source: Source) -> Sequence[tuple[str, Member]]:
        """Those of a source, in the order of their own field."""
        values, folder = dict(source.fields), source.members[0].folder
        place = folder if self.pattern.within_folder else None
        return self.files.get((place, *(values.get(field) for field in self.shared)), ())

    def wanted(self, source: Source) -> str:
        """What is looked for, in words."""
        values = [f"{field}={v!r}" for field, v in source.fields if field in self.shared]
        text = f"no file matches {self.pattern.text!r}"
        return f"{text} with {', '.join(values)}" if values else text


def _rater(found: tuple[str, Member]) -> str:
    return found[0]


def _masking(members: Sequence[Member], config: Input) -> Callable[[Source], Source | None]:
    """What gives sources their masks; None for one that is left out without."""
    rule = config.mask
    if rule is None:
        return lambda source: source
    by_name = {composed(member.name): member for member in members}
    by_name |= {member.name: member for member in members}
    masks = _Beside.of(rule.path, members, config.fields) if rule.path else None
    cells = lookup(config)

    def give(source: Source) -> Source | None:
        named = cells(source.fields, source.key).get("mask")
        if named is not None:
            member = by_name.get(named) or by_name.get(composed(named))
            found = [("", member)] if member else []
            why = f"no file {escape(named)}, which the table names"
        elif masks is not None:
            found, why = [*masks.to(source)], masks.wanted(source)
        else:
            found, why = [], _unnamed(source, config)
        if found or named is not None or rule.missing == "fail":
            source = _complete(source, "mask", found, why)
            return source if source.failure else replace(source, masks=tuple(found))
        return source if rule.missing == "image" else None

    return give


def _unnamed(source: Source, config: Input) -> str:
    """Why the table names no mask, in words."""
    on = config.table.joined_on(config.fields) if config.table else ()
    asked = {**dict(source.fields), "image": source.key}
    values = ", ".join(f"{column}={asked.get(column, '')!r}" for column in on)
    return f"the table names none for {values}"


def _classifying(members: Sequence[Member], config: Input) -> Callable[[Source], Source]:
    """What gives sources their layers of classes."""
    rule = config.qa
    if rule is None:
        return lambda source: source
    layers = _Beside.of(rule.path, members, config.fields)

    def give(source: Source) -> Source:
        found = layers.to(source)
        source = _complete(source, "qa layer", found, layers.wanted(source))
        return source if source.failure else replace(source, qa=found[0][1], invalid=rule.invalid)

    return give


def _complete(source: Source, what: str, found: Sequence[tuple[str, Member]], why: str) -> Source:
    """Fail a source that has none, or two of one name; what it lacked before is said first."""
    doubled = Counter(rater for rater, _ in found)
    twice = [escape(member.name) for rater, member in found if doubled[rater] > 1]
    if source.failure is not None or (found and not twice):
        return source
    if not twice:
        return source.fail(Failure("incomplete", f"no {what}: {why}"))
    more = f" and {len(twice) - _NAMED} more" if len(twice) > _NAMED else ""
    text = f"several files for one {what}: {', '.join(twice[:_NAMED])}{more}"
    return source.fail(Failure("incomplete", text))


def _masks_of_table(config: Input) -> frozenset[str]:
    table = config.table
    if table is None or config.mask is None or "mask" not in table.columns:
        return frozenset()
    at = table.columns.index("mask")
    return frozenset(composed(cells[at]) for _, cells in table.rows)

"""Files -> sources: what their headers and the table say, and which files are one image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isclose
from typing import TypeAlias

from pipeline.config.schema import Input, Limits
from pipeline.config.table import Cells, spacing_of
from pipeline.errors import ReadError
from pipeline.fetch import fetched
from pipeline.keys import escape
from pipeline.pages import limited, open_headers, steps_of, unread
from pipeline.pairing import given_of, lookup, roles_of, shared_fields
from pipeline.placement import placement_of
from pipeline.probing import look_into
from pipeline.readers.dicom_metadata import metadata_of
from pipeline.readers.dicom_series import ALIKE, Plane, group, join, name
from pipeline.readers.quality import check_quality
from pipeline.types import Failure, Grid, Member, Scaling, Source

Unit: TypeAlias = tuple[Source, ...]
"""Sources of the same files: the pages of one, or a series."""


def open_all(
    sources: Sequence[Source], config: Input, limits: Limits, *, workers: int = 0
) -> list[Unit]:
    """The images of all listed sources, by files, in the order of the bytes of their first names.

    workers: processes that open the files; 0 opens them here, where a header may end the process.

    DICOM slices of one folder, series, size and orientation are one source, a volume, unless
    `pages` parts volumes. A lone slice and one without a position are images of their own.
    """
    units: list[Unit] = []
    folders: dict[str, list[Source]] = {}
    headers = partial(open_headers, config=config, limits=limits)
    opened = look_into(headers, sources, limits, workers=workers)
    for listed, answer in zip(sources, opened, strict=True):
        found = (unread(listed, answer),) if isinstance(answer, Failure) else answer
        if config.pages in ("auto", "volume") and _is_slice(found[0]):
            folders.setdefault(listed.members[0].folder, []).append(found[0])
        else:
            units.append(found)
    for slices in folders.values():
        units += ((source,) for source in _volumes(slices, limits))
    incomplete = {m: s.failure for s in sources if s.failure is not None for m in s.members}
    cells = lookup(config)
    units = [tuple(_ready(s, incomplete, config, cells(s.fields, s.key)) for s in u) for u in units]
    ready = _completed(units, config, limits, workers)
    return sorted(ready, key=lambda unit: min(os.fsencode(m.name) for m in unit[0].members))


def _ready(
    source: Source, incomplete: Mapping[Member, Failure], config: Input, cells: Cells
) -> Source:
    """A source with what its listing and the table say of it."""
    said = (*source.fields, *sorted(cells.items()))
    columns = tuple((name, text) for name, text in said if name in config.columns)
    given = given_of(source.fields, cells, roles_of(source, config))
    source = replace(source, fields=columns, given=given)
    lacking = [incomplete[member] for member in source.members if member in incomplete]
    if source.failure is None and lacking:
        return source.fail(lacking[0])
    if source.failure is not None:
        return source
    try:
        return _as_told(source, config, cells)
    except ReadError as error:
        return source.fail(Failure(error.kind, str(error)))


def _completed(units: Sequence[Unit], config: Input, limits: Limits, workers: int) -> list[Unit]:
    """The same units with what has to be looked up in their files once it is known who they are."""
    asked = [
        source
        for unit in units
        for source in unit
        if source.failure is None and (_is_described(source, config) or source.qa is not None)
    ]
    complete = partial(_complete, config=config)
    found = look_into(complete, asked, limits, workers=workers)
    answers = {
        id(source): source.fail(answer) if isinstance(answer, Failure) else answer
        for source, answer in zip(asked, found, strict=True)
    }
    return [tuple(answers.get(id(source), source) for source in unit) for unit in units]


def _is_described(source: Source, config: Input) -> bool:
    """Whether its header has metadata that become columns."""
    return bool(config.metadata) and source.reader == "dicom"


def _complete(source: Source, *, config: Input) -> Source:
    """A source with its metadata, and a layer of classes that fits it."""
    try:
        with fetched(source) as local:
            if _is_described(source, config):
                told = metadata_of(local.members[0].path, config.metadata)
                source = replace(source, fields=source.fields + told)
            if local.qa is not None:
                check_quality(local.qa, source.header)
    except ReadError as error:
        return source.fail(Failure(error.kind, str(error)))
    return source


def _as_told(source: Source, config: Input, cells: Cells) -> Source:
    """A source whose grid and values are those that the table says."""
    info = source.header
    grid = _told_grid(info.grid, config, cells)
    if placement_of(info) is not None and not _is_same(grid, info.grid):
        message = (
            "input.table says another spacing or unit than the file, which also says where its "
            "pixels lie; empty those cells, or correct the file"
        )
        raise ReadError("unsupported", message)
    info = replace(info, grid=grid)
    if "scale" in cells or "offset" in cells:
        slope, intercept = float(cells.get("scale", 1)), float(cells.get("offset", 0))
        source = replace(source, scaling=Scaling(slope, intercept, info.nodata))
        info = replace(info, dtype="float64", nodata=None, value_unit=None)
    return replace(source, info=info)


def _told_grid(grid: Grid, config: Input, cells: Cells) -> Grid:
    if "spacing" in cells:
        steps = steps_of(spacing_of(cells["spacing"]), grid.ndim, "spacing in input.table")
        return Grid(steps, cells.get("unit", grid.unit or config.unit))
    return replace(grid, unit=cells["unit"]) if "unit" in cells and grid.unit is not None else grid


def _is_same(told: Grid, grid: Grid) -> bool:
    """Whether a grid is that of the file, which may leave the unit open; to 1 part in 1000."""
    alike = all(
        isclose(*pair, rel_tol=ALIKE) for pair in zip(told.spacing, grid.spacing, strict=True)
    )
    return alike and grid.unit in (told.unit, "unknown")


def _is_slice(source: Source) -> bool:
    info = source.info
    return (
        source.failure is None
        and info is not None
        and isinstance(info.geo, Plane)
        and (len(info.shape), source.page, source.layout) == (2, 0, "page")
    )


def _volumes(slices: Sequence[Source], limits: Limits) -> Iterable[Source]:
    """The volumes of one folder; those that have one name are one failed source."""
    found: dict[str, Source] = {}
    for some in group([source.header for source in slices]):
        source = _series([slices[i] for i in some], limits)
        if source.key in found:
            source = replace(source, members=found[source.key].members + source.members)
            message = "several series of one name; part them into folders, or use pages: sources"
            source = source.fail(Failure("unsupported", message))
        found[source.key] = source
    return found.values()


def _series(slices: Sequence[Source], limits: Limits) -> Source:
    """One volume of several slices, each in a file."""
    first = slices[0]
    if len(slices) == 1:
        return first
    infos = [source.header for source in slices]
    members = tuple(source.members[0] for source in slices)
    key = f"{escape(members[0].folder)}#series={name(infos[0])}"
    fields = shared_fields(slices)
    source = replace(first, key=key, members=members, layout="files", info=None, fields=fields)
    if any((s.masks, s.qa) != (first.masks, first.qa) for s in slices):
        message = "slices with different masks or qa layers; let input.mask name one for a series"
        return source.fail(Failure("incomplete", message))
    try:
        order, info = join(infos)
    except ReadError as error:
        return source.fail(Failure(error.kind, str(error)))
    return limited(replace(source, members=tuple(members[i] for i in order), info=info), limits)

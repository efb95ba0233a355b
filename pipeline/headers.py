"""Files -> sources: what each file's header says, and which files are one image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isclose
from typing import Literal, TypeAlias

from pipeline.config.schema import Input, Limits
from pipeline.config.table import Cells, spacing_of
from pipeline.errors import ReadError
from pipeline.fetch import fetched
from pipeline.keys import escape
from pipeline.pairing import band_of, given_of, lookup, roles_of, shared_fields
from pipeline.placement import placement_of
from pipeline.probing import look_into
from pipeline.readers import identify, named_reader
from pipeline.readers.base import READERS
from pipeline.readers.dicom_metadata import metadata_of
from pipeline.readers.dicom_series import ALIKE, Plane, group, join, name
from pipeline.readers.joined import join_bands, short_name
from pipeline.readers.quality import check_quality
from pipeline.types import Failure, Grid, ImageInfo, Member, Scaling, Source

WINDOWS = ("raster", "tiff", "hyperstack")
"""Readers that know large images of which a part can be read."""
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
        found = (_unread(listed, answer),) if isinstance(answer, Failure) else answer
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


def _unread(listed: Source, failure: Failure) -> Source:
    """A source whose header cannot be read."""
    name = named_reader(listed.members[0].path) or ""
    return replace(listed, failure=None, reader=name).fail(failure)


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
        steps = _steps(spacing_of(cells["spacing"]), grid.ndim, "spacing in input.table")
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
    return _limited(replace(source, members=tuple(members[i] for i in order), info=info), limits)


def open_headers(source: Source, config: Input, limits: Limits) -> tuple[Source, ...]:
    """The sources of one that was listed, from its headers; one failed source where it has none.

    What failed at listing is looked into nonetheless: its files may be of one series.
    """
    try:
        with fetched(source, limits.bytes) as local:
            back = dict(zip(local.files, source.files, strict=True))
            return tuple(
                replace(
                    one,
                    members=tuple(back[member] for member in one.members),
                    masks=source.masks,
                    qa=source.qa,
                )
                for one in _open_headers(local, config, limits)
            )
    except ReadError as error:
        return (_unread(source, Failure(error.kind, str(error))),)


def _open_headers(source: Source, config: Input, limits: Limits) -> tuple[Source, ...]:
    listed = replace(source, failure=None)
    try:
        if source.layout == "joined":
            opened: tuple[Source, ...] = (_open_bands(source, config, limits),)
        else:
            name, pages = _probe(source.members[0], limits)
            opened = _arrange(replace(listed, reader=name), pages, config.pages)
        described = [replace(one, info=_describe(one.header, config)) for one in opened]
    except ReadError as error:
        return (_unread(listed, Failure(error.kind, str(error))),)
    return tuple(_limited(one, limits) for one in described)


def _probe(member: Member, limits: Limits) -> tuple[str, Sequence[ImageInfo]]:
    """The reader of a file, and the headers of its pages. Raises ReadError."""
    name, large = identify(member.path), member.bytes > limits.bytes
    if name is None:
        raise ReadError("unsupported", "no reader knows this format; exclude it, or convert it")
    pages = () if large and name not in WINDOWS else READERS[name]().probe(member.path)
    if large and not (pages and all(page.windowed for page in pages)):
        message = f"file of {member.bytes} bytes is over limits.bytes ({limits.bytes})"
        raise ReadError("limit", message)
    return name, pages


def _open_bands(source: Source, config: Input, limits: Limits) -> Source:
    """An image of several files, a band in each. Raises ReadError, which names the file."""
    if source.failure is not None:
        raise ReadError(source.failure.kind, source.failure.error)
    readers, infos = set[str](), []
    for member in source.members:
        file = short_name(member)
        try:
            reader, pages = _probe(member, limits)
        except ReadError as error:
            raise ReadError(error.kind, f"{file}: {error}") from error
        if len(pages) > 1:
            message = f"{file} has {len(pages)} pages; files that are joined have one each"
            raise ReadError("unsupported", message)
        readers.add(reader)
        infos.append(pages[0])
    if len(readers) > 1:
        message = f"files of several formats ({', '.join(sorted(readers))}); convert them to one"
        raise ReadError("unsupported", message)
    labels = [band_of(member, config) for member in source.members]
    info = join_bands(labels, [short_name(member) for member in source.members], infos)
    return replace(source, reader=readers.pop(), info=info)


def _describe(info: ImageInfo, config: Input) -> ImageInfo:
    """Fill in what the config knows and the file does not."""
    spacing = config.spacing
    if info.grid.unit == "unknown" and config.unit is not None:
        info = replace(info, grid=replace(info.grid, unit=config.unit))
    elif info.grid.unit is None and spacing is not None:
        given = spacing if isinstance(spacing, tuple) else (spacing,)
        info = replace(
            info, grid=Grid(_steps(given, len(info.shape), "input.spacing"), config.unit)
        )
    return info if config.nodata is None else replace(info, nodata=config.nodata)


def _steps(given: tuple[float, ...], ndim: int, what: str) -> tuple[float, ...]:
    """One step per axis of a pixel size that is one number or has as many. Raises ReadError."""
    if len(given) == 1:
        return given * ndim
    if len(given) != ndim:
        message = f"{what} has {len(given)} values, the image {ndim} axes"
        raise ReadError("unsupported", message)
    return given


def _arrange(base: Source, pages: Sequence[ImageInfo], rule: str) -> tuple[Source, ...]:
    """Turn the pages of one file into sources, bands of one, or one volume.

    `auto` makes several pages several sources and takes a three-dimensional array as a volume.
    """
    first = pages[0]
    stack = len(pages) == 1 and len(first.shape) == 3
    if len(pages) == 1 and not (stack and rule in ("sources", "bands")):
        return (replace(base, info=first),)
    if stack:
        grid = Grid(first.grid.spacing[1:], first.grid.unit)
        place, flat = placement_of(first), replace(first, shape=first.shape[1:], grid=grid)
        pages = [
            replace(flat, geo=place.moved((i, 0, 0)) if place else first.geo)
            for i in range(first.shape[0])
        ]
    if rule in ("auto", "sources"):
        word = "page" if base.reader in ("tiff", "raster", "npy") else "frame"
        layout: Literal["slice", "page"] = "slice" if stack else "page"
        return tuple(
            replace(base, key=f"{base.key}#{word}={i + 1}", page=i, layout=layout, info=info)
            for i, info in enumerate(pages)
        )
    return (_join(base, pages, rule),)


def _join(base: Source, pages: Sequence[ImageInfo], rule: str) -> Source:
    """One source of all pages, which must be alike."""
    flat = pages[0]
    if rule == "volume" and len(flat.shape) > 2:
        message = "frames that are volumes make no volume; use pages: sources or pages: bands"
        raise ReadError("unsupported", message)
    if any((p.shape, p.bands, p.dtype) != (flat.shape, flat.bands, flat.dtype) for p in pages):
        message = f"pages differ in size, bands or type; use pages: sources (got pages: {rule})"
        raise ReadError("unsupported", message)
    if rule == "bands":
        labels = tuple(str(i + 1) for i in range(len(pages) * len(flat.bands)))
        return replace(base, layout="bands", info=replace(flat, bands=labels))
    grid = Grid((1.0, *flat.grid.spacing), flat.grid.unit)
    volume = replace(flat, shape=(len(pages), *flat.shape), grid=grid, windowed=False)
    return replace(base, layout="volume", info=volume)


def _limited(source: Source, limits: Limits) -> Source:
    pixels = len(source.header.bands)
    for n in source.header.shape:
        pixels *= n
    key = "scene" if source.header.windowed else "pixels"
    if pixels <= getattr(limits, key):
        return source
    size = " x ".join(map(str, source.header.shape))
    bands = len(source.header.bands)
    text = f"{size} x {bands} bands is over limits.{key} ({getattr(limits, key)})"
    return source.fail(Failure("limit", text))

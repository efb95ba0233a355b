"""Files -> sources: what each file's header says, and which files are one image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from pipeline.config.schema import Input, Limits
from pipeline.errors import ReadError
from pipeline.keys import escape
from pipeline.readers import identify
from pipeline.readers.base import READERS
from pipeline.readers.dicom_series import Plane, group, join, name
from pipeline.types import Failure, Grid, ImageInfo, Member, Source

Unit: TypeAlias = tuple[Source, ...]
"""Sources of the same files: the pages of one, or a series."""


def open_all(members: Iterable[Member], config: Input, limits: Limits) -> list[Unit]:
    """The sources of all files, by files, in the order of the bytes of their first names.

    DICOM slices of one folder, series, size and orientation are one source, a volume, unless
    `pages` parts volumes. A lone slice and one without a position are images of their own.
    """
    units: list[Unit] = []
    folders: dict[str, list[Source]] = {}
    for member in members:
        sources = open_headers(member, config, limits)
        if config.pages in ("auto", "volume") and _is_slice(sources[0]):
            folders.setdefault(member.folder, []).append(sources[0])
        else:
            units.append(sources)
    for slices in folders.values():
        units += ((source,) for source in _volumes(slices, limits))
    return sorted(units, key=lambda unit: min(os.fsencode(m.name) for m in unit[0].members))


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
    source = Source(key, members, first.reader, layout="files")
    try:
        order, info = join(infos)
    except ReadError as error:
        return source.fail(Failure(error.kind, str(error)))
    return _limited(replace(source, members=tuple(members[i] for i in order), info=info), limits)


def open_headers(member: Member, config: Input, limits: Limits) -> tuple[Source, ...]:
    """The sources of one file, from its header; a file that cannot be used is one failed source."""
    key = escape(member.name)
    name = identify(member.path) or ""
    try:
        if member.bytes > limits.bytes:
            message = f"file of {member.bytes} bytes is over limits.bytes ({limits.bytes})"
            raise ReadError("limit", message)
        if not name:
            message = "no reader knows this format; exclude it, or convert it"
            raise ReadError("unsupported", message)
        pages = READERS[name]().probe(member.path)
        arranged = _arrange(Source(key, (member,), name), pages, config.pages)
        sources = [replace(source, info=_describe(source.header, config)) for source in arranged]
    except ReadError as error:
        return (Source(key, (member,), name, failure=Failure(error.kind, str(error))),)
    return tuple(_limited(source, limits) for source in sources)


def _describe(info: ImageInfo, config: Input) -> ImageInfo:
    """Fill in what the config knows and the file does not."""
    spacing = config.spacing
    if info.grid.unit == "unknown" and config.unit is not None:
        info = replace(info, grid=replace(info.grid, unit=config.unit))
    elif info.grid.unit is None and spacing is not None:
        ndim = len(info.shape)
        given = spacing if isinstance(spacing, tuple) else (spacing,) * ndim
        if len(given) != ndim:
            message = f"input.spacing has {len(given)} values, the image {ndim} axes"
            raise ReadError("unsupported", message)
        info = replace(info, grid=Grid(given, config.unit))
    return info if config.nodata is None else replace(info, nodata=config.nodata)


def _arrange(base: Source, pages: Sequence[ImageInfo], rule: str) -> list[Source]:
    """Turn the pages of one file into sources, bands of one, or one volume.

    `auto` makes several pages several sources and takes a three-dimensional array as a volume.
    """
    first = pages[0]
    stack = len(pages) == 1 and len(first.shape) == 3
    if len(pages) == 1 and not (stack and rule in ("sources", "bands")):
        return [replace(base, info=first)]
    if stack:
        grid = Grid(first.grid.spacing[1:], first.grid.unit)
        pages = [replace(first, shape=first.shape[1:], grid=grid)] * first.shape[0]
    if rule in ("auto", "sources"):
        word = "page" if base.reader in ("tiff", "raster", "npy") else "frame"
        layout: Literal["slice", "page"] = "slice" if stack else "page"
        return [
            replace(base, key=f"{base.key}#{word}={i + 1}", page=i, layout=layout, info=info)
            for i, info in enumerate(pages)
        ]
    return [_join(base, pages, rule)]


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
    volume = replace(flat, shape=(len(pages), *flat.shape), grid=grid)
    return replace(base, layout="volume", info=volume)


def _limited(source: Source, limits: Limits) -> Source:
    pixels = len(source.header.bands)
    for n in source.header.shape:
        pixels *= n
    if pixels <= limits.pixels:
        return source
    size = " x ".join(map(str, source.header.shape))
    text = f"{size} x {len(source.header.bands)} bands is over limits.pixels ({limits.pixels})"
    return source.fail(Failure("limit", text))

"""A listed source -> its images, as the headers of its files tell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from pipeline.config.schema import Input, Limits
from pipeline.errors import ReadError
from pipeline.fetch import fetched
from pipeline.pairing import band_of
from pipeline.placement import placement_of
from pipeline.readers import look, named_reader
from pipeline.readers.base import READERS
from pipeline.readers.joined import join_bands, short_name
from pipeline.storage import is_url
from pipeline.types import Failure, Grid, ImageInfo, Member, Source

WINDOWS = ("raster", "tiff", "hyperstack")
"""Readers that know large images of which a part can be read."""


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
        return (unread(source, Failure(error.kind, str(error))),)


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
        return (unread(listed, Failure(error.kind, str(error))),)
    return tuple(limited(one, limits) for one in described)


def _probe(member: Member, limits: Limits) -> tuple[str, Sequence[ImageInfo]]:
    """The reader of a file, and the headers of its pages. Raises ReadError."""
    (name, known), large = look(member.path), member.bytes > limits.bytes
    if name is None:
        raise ReadError("unsupported", "no reader knows this format; exclude it, or convert it")
    if is_url(member.path) and name not in WINDOWS:
        suffix = PurePosixPath(member.path).suffix
        raise ReadError("unsupported", f"an object called {suffix} that is none; rename it")
    if known is not None:
        pages = known
    else:
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
            info, grid=Grid(steps_of(given, len(info.shape), "input.spacing"), config.unit)
        )
    return info if config.nodata is None else replace(info, nodata=config.nodata)


def steps_of(given: tuple[float, ...], ndim: int, what: str) -> tuple[float, ...]:
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


def limited(source: Source, limits: Limits) -> Source:
    """A source, failed where it has more pixels than the limits allow."""
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


def unread(listed: Source, failure: Failure) -> Source:
    """A source whose header cannot be read."""
    name = named_reader(listed.members[0].path) or ""
    return replace(listed, failure=None, reader=name).fail(failure)

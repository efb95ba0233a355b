"""An image with each band in a file of its own: one header of them all, and windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.errors import ReadError
from pipeline.keys import escape
from pipeline.readers.bands import RESERVED
from pipeline.readers.base import READERS, Mask, Pixels
from pipeline.types import ImageInfo, Member, Region, Source

_SHOWN = ("shape", "type")


def join_bands(
    labels: Sequence[str], names: Sequence[str], infos: Sequence[ImageInfo]
) -> ImageInfo:
    """The header of files that are the bands of one image, in the order of its bands.

    labels: of the bands; names: of the files, for what is said about them. Nodata values may
    differ: then each file's own counts. Raises ReadError, `unsupported`, where files do not fit.
    """
    first = infos[0]
    for label, name, info in zip(labels, names, infos, strict=True):
        if label in RESERVED:
            message = f"a band called {label!r}, which stands for other things; rename {name}"
            raise ReadError("unsupported", message)
        if len(info.bands) != 1:
            message = f"{name} has {len(info.bands)} bands; files that are joined have one each"
            raise ReadError("unsupported", message)
        if different := _difference(first, info):
            message = f"{name} does not fit {names[0]}: {different}; input.join needs files alike"
            raise ReadError("unsupported", message)
    nodata = {info.nodata for info in infos}
    units = {info.value_unit for info in infos}
    return replace(
        first,
        bands=tuple(labels),
        nodata=first.nodata if len(nodata) == 1 else None,
        value_unit=first.value_unit if len(units) == 1 else None,
        windowed=all(info.windowed for info in infos),
    )


def read_joined(source: Source, box: Region) -> tuple[Pixels, Mask | None]:
    """Pixels (C, *box.shape) as stored, and where the files say they are valid; None: everywhere.

    Decodes what a window of each file needs. Where the files' nodata values differ, each counts in
    its own band. Raises ReadError, which names the file.
    """
    reader = READERS[source.reader]()
    pixels: list[Pixels] = []
    masks: list[Mask | None] = []
    for member in source.members:
        name = short_name(member)
        try:
            with reader.open(member.path, 0) as window:
                found, valid = window.read(box), window.valid(box)
                own = window.info.nodata if source.header.nodata is None else None
        except ReadError as error:
            raise ReadError(error.kind, f"{name}: {error}") from error
        if found.shape != (1, *box.shape) or (pixels and found.dtype != pixels[0].dtype):
            message = f"{name} changed after it was listed; run again"
            raise ReadError("changed", message)
        if own is not None and (hit := found == own).any():
            valid = ~hit if valid is None else valid & ~hit
        pixels.append(found)
        masks.append(valid)
    joined = np.concatenate(pixels)
    if all(mask is None for mask in masks):
        return joined, None
    every = np.ones((1, *box.shape), np.bool_)
    return joined, np.concatenate([every if mask is None else mask for mask in masks])


def short_name(member: Member) -> str:
    """How a file is called in what is said of an image with several."""
    return escape(Path(member.name).name)


def _difference(first: ImageInfo, other: ImageInfo) -> str:
    """The first thing in which two headers differ, in words; empty where they fit."""
    pairs = (
        ("shape", first.shape, other.shape),
        ("type", first.dtype, other.dtype),
        ("pixel size", first.grid, other.grid),
        ("place", first.geo, other.geo),
    )
    for what, one, another in pairs:
        if one != another:
            return f"another {what}" + (f" ({another} for {one})" if what in _SHOWN else "")
    return ""

"""A box of a source -> its pixels as stored, and where they are valid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ReadError
from pipeline.keys import escape
from pipeline.readers.base import READERS
from pipeline.readers.joined import read_joined
from pipeline.readers.quality import qa_valid
from pipeline.readers.scaling import scaled
from pipeline.types import Region, Source

if TYPE_CHECKING:
    from pipeline.readers.base import Mask, Pixels, Reader

_LARGEST = np.finfo(np.float32).max


def read_box(source: Source, box: Region) -> tuple[Pixels, Mask | None]:
    """Pixels (C, *box.shape) of a source as stored, and where they are valid (None: everywhere).

    Valid is what the file says AND finite in float32 AND not the nodata value, per band, AND of no
    invalid class.
    Raises ReadError, kind `changed` when the file is not what its header was at listing.
    """
    pixels, valid = _read_pages(source, box)
    if source.scaling is not None:
        pixels, valid = scaled(pixels, valid, source.scaling)
    info = source.header
    if pixels.shape != (len(info.bands), *box.shape) or str(pixels.dtype) != info.dtype:
        message = (
            f"the file changed after it was listed (got {pixels.dtype} {pixels.shape}, "
            f"listed as {info.dtype} {(len(info.bands), *box.shape)}); run again"
        )
        raise ReadError("changed", message)
    masks = [] if valid is None else [valid]
    if pixels.dtype.kind == "f" and not (finite := np.abs(pixels) <= _LARGEST).all():
        masks.append(finite)
    if info.nodata is not None and (hit := pixels == info.nodata).any():
        masks.append(~hit)
    if source.qa is not None:
        seen = qa_valid(source.qa, info, box, source.invalid)
        masks.append(np.broadcast_to(seen, pixels.shape))
    if not masks:
        return pixels, None
    mask = np.logical_and.reduce(masks)
    return pixels, None if mask.all() else mask


def _read_pages(source: Source, box: Region) -> tuple[Pixels, Mask | None]:
    """Read a page, a slice of a page, or pages joined as bands (axis 0) or slices (axis 1)."""
    if source.layout == "files":
        return _read_files(source, box)
    if source.layout == "joined":
        return read_joined(source, box)
    reader, path = READERS[source.reader](), source.members[0].path
    if source.layout == "page":
        with reader.open(path, source.page) as window:
            return window.read(box), window.valid(box)
    with reader.open(path, 0) as first:
        planes, depth = len(first.info.bands), first.info.shape[0]
        if len(first.info.shape) > len(box.shape):
            low, high = (source.page, source.page + 1) if source.layout == "slice" else (0, depth)
            slab = Region((low, *box.start), (high, *box.stop))
            mask = first.valid(slab)
            return first.read(slab)[0], None if mask is None else mask[0]
    if source.layout == "bands":
        return _join(reader, path, range(len(source.header.bands) // planes), box, axis=None)
    plane = Region(box.start[1:], box.stop[1:])
    return _join(reader, path, range(box.start[0], box.stop[0]), plane, axis=1)


def _read_files(source: Source, box: Region) -> tuple[Pixels, Mask | None]:
    """Read a volume with one slice in each file, in the volume's type; damage names the file."""
    reader, plane = READERS[source.reader](), Region(box.start[1:], box.stop[1:])
    pixels = np.empty((len(source.header.bands), *box.shape), source.header.dtype)
    valid: Mask | None = None
    for i, member in enumerate(source.members[box.start[0] : box.stop[0]]):
        try:
            with reader.open(member.path, 0) as window:
                found, mask = window.read(plane), window.valid(plane)
        except ReadError as error:
            raise ReadError(error.kind, f"{escape(Path(member.name).name)}: {error}") from error
        if found.shape != pixels[:, i].shape or not np.can_cast(found.dtype, pixels.dtype):
            message = f"{escape(Path(member.name).name)} changed after it was listed; run again"
            raise ReadError("changed", message)
        pixels[:, i] = found
        if mask is not None:
            valid = np.ones(pixels.shape, np.bool_) if valid is None else valid
            valid[:, i] = mask
    return pixels, valid


def _join(
    reader: Reader, path: str, pages: Iterable[int], box: Region, *, axis: int | None
) -> tuple[Pixels, Mask | None]:
    """Stack pages along a new axis, or concatenate their bands where axis is None."""
    pixels, masks = [], []
    for page in pages:
        with reader.open(path, page) as window:
            pixels.append(window.read(box))
            mask = window.valid(box)
            masks.append(np.ones(pixels[-1].shape, np.bool_) if mask is None else mask)
    if axis is None:
        return np.concatenate(pixels), np.concatenate(masks)
    return np.stack(pixels, axis), np.stack(masks, axis)

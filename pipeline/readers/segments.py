"""Parts of a TIFF page: the strips and tiles that a window touches are decoded, and no others."""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from math import prod
from typing import TYPE_CHECKING, BinaryIO, TypeAlias, cast

import numpy as np

from pipeline.ranges import held, opened, stamp
from pipeline.readers.base import Pixels
from pipeline.readers.photometric import JPEGS
from pipeline.readers.strips import blocks, truncated
from pipeline.types import Ints, Region

if TYPE_CHECKING:
    from io import BufferedReader

    from tifffile import TiffPage

LARGEST_BLOCK = 1 << 22
"""Pixels of a block, which is decoded whole, up to which windows are worth their while."""
KEPT = 1 << 27
"""Bytes of decoded blocks that a process keeps: windows side by side share them."""
_Key: TypeAlias = tuple[Ints, int, int]  # of a file, a page and a block


def in_parts(page: TiffPage) -> bool:
    """Whether a window needs but a small part of the page."""
    return is_mapped(page) or prod(blocks(page)[0]) <= LARGEST_BLOCK


def part(path: str, page: TiffPage, region: Region) -> Pixels:
    """Stored samples of a region, (planes, *region.shape, samples), as `page.asarray` has them."""
    planes, _, height, width, samples = page.shaped
    with opened(path) as file:
        if is_mapped(page):
            whole = region.shape[1] == width
            return (_rows if whole or held(path) is not None else _window)(file, page, region)
        found: Pixels = np.empty((planes, *region.shape, samples), page.dtype)
        for plane, index, box in _touched(page, planes, region):
            inside = box.overlap(region)
            block = _block(path, file, page, index, keep=region.shape != (height, width))
            target = found[plane][inside.slices(region.start)]
            target[...] = page.nodata if block is None else block[inside.slices(box.start)]
        return found


def is_mapped(page: TiffPage) -> bool:
    """Whether samples stand in the file as they are, one after the other, and aligned.

    tifffile says so (`is_memmappable`) of files alone, and not of objects.
    """
    start = page.dataoffsets[0]
    return bool(page.is_final and start > 0 and start % np.dtype(page.dtype).itemsize == 0)


def _rows(file: BinaryIO, page: TiffPage, region: Region) -> Pixels:
    """Samples of a mapped page, of which all rows that a region touches are read."""
    planes, _, height, width, samples = page.shaped
    dtype = _stored_type(page)
    (first, left), (last, right) = region.start, region.stop
    found: Pixels = np.empty((planes, *region.shape, samples), dtype.newbyteorder("="))
    direct = dtype.isnative and region.shape[1] == width
    rows = None if direct else np.empty((last - first, width, samples), dtype)
    for plane, to in enumerate(found):
        into = to if rows is None else rows
        file.seek(page.dataoffsets[0] + (plane * height + first) * width * samples * dtype.itemsize)
        if cast("BufferedReader", file).readinto(into.data) < into.nbytes:
            raise truncated("samples end early")
        if rows is not None:
            to[...] = rows[:, left:right]
    return found


def _window(file: BinaryIO, page: TiffPage, region: Region) -> Pixels:
    """Samples of a mapped page in a file of this machine, which reads what is touched."""
    planes, _, height, width, samples = page.shaped
    dtype = _stored_type(page)
    stored: Pixels = np.memmap(
        file, dtype, "r", page.dataoffsets[0], (planes, height, width, samples)
    )
    return np.array(stored[:, *region.slices()], dtype.newbyteorder("="))


def _stored_type(page: TiffPage) -> np.dtype[np.generic]:
    return np.dtype(page.dtype).newbyteorder(page.parent.byteorder)


def _touched(page: TiffPage, planes: int, region: Region) -> list[tuple[int, int, Region]]:
    """Plane, number and place of each block that holds pixels of a region."""
    size, counts = blocks(page)
    bounds = zip(region.start, region.stop, size, strict=True)
    rows, columns = (range(start // n, -(-stop // n)) for start, stop, n in bounds)
    shape = (page.imagelength, page.imagewidth)
    touched = []
    for plane, row, column in product(range(planes), rows, columns):
        start = (row * size[0], column * size[1])
        box = Region(start, tuple(a + n for a, n in zip(start, size, strict=True))).clip(shape)
        touched.append((plane, (plane * counts[0] + row) * counts[1] + column, box))
    return touched


def _block(path: str, file: BinaryIO, page: TiffPage, index: int, *, keep: bool) -> Pixels | None:
    """One strip or tile, (rows, columns, samples) inside the page; None where it is left out."""
    key = (stamp(path), page.offset, index)
    known = _recent.get(key)
    if known is not None:
        return known
    size, data = page.databytecounts[index], None
    if size:
        file.seek(page.dataoffsets[index])
        data = file.read(size)
    tables: dict[str, bytes | None] = {}
    if page.compression in JPEGS:  # which may have one head for all blocks
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    decoded = page.decode(data, index, **tables)[0]
    if decoded is None:
        return None
    block: Pixels = decoded[0]
    if keep:
        _recent.add(key, block)
    return block


class _Recent:
    """The blocks that were asked for last, as many as KEPT bytes hold."""

    def __init__(self) -> None:
        self.blocks: OrderedDict[_Key, Pixels] = OrderedDict()
        self.bytes = 0

    def get(self, key: _Key) -> Pixels | None:
        block = self.blocks.pop(key, None)
        if block is not None:
            self.blocks[key] = block
        return block

    def add(self, key: _Key, block: Pixels) -> None:
        self.blocks[key] = block
        self.bytes += block.nbytes
        while self.bytes > KEPT:
            _, oldest = self.blocks.popitem(last=False)
            self.bytes -= oldest.nbytes


_recent = _Recent()

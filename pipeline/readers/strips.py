"""Whether a TIFF page's strips and tiles are all there: tifffile fills what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.readers.base import Mask
from pipeline.types import Ints, Region

if TYPE_CHECKING:
    from tifffile import TiffPage

BLOCK_LIMIT = 2**31  # bytes of one decoded strip or tile; writers stay below a thousandth of it


def check_strips(page: TiffPage) -> None:
    """Refuse a page that is not wholly in the file.

    Raises
    ------
    ReadError
        `corrupt` where a strip or tile lacks its place or ends beyond the file; `limit` where a
        header asks for tiles too large to decode.
    """
    block = prod(page.chunks) * np.dtype(page.dtype).itemsize
    if block > BLOCK_LIMIT:
        message = f"a strip or tile of {block} bytes; write the file with smaller ones"
        raise ReadError("limit", message)
    end = page.parent.filehandle.size
    if page.is_contiguous and not _left_out(page).any():  # read in one piece
        if page.dataoffsets[0] + page.nbytes > end:
            raise truncated("samples end early")
        return
    count = prod(page.chunked)
    offsets, sizes = _table(page)
    if min(len(offsets), len(sizes)) < count:
        found = f"{len(offsets)} offsets and {len(sizes)} sizes for {count} strips or tiles"
        raise ReadError("corrupt", f"damaged TIFF file ({found}); copy it again from its source")
    outside = (offsets == 0) != (sizes == 0)
    outside |= (offsets > end) | (sizes > end) | (offsets + sizes > end)
    if outside[:count].any():
        which = f"strip or tile {int(outside.argmax()) + 1} of {count} lies beyond the end"
        raise truncated(which)


def truncated(why: str) -> ReadError:
    """What is wrong with a file that ends before its samples do."""
    return ReadError("corrupt", f"truncated TIFF file ({why}); copy it again from its source")


@dataclass(frozen=True, slots=True)
class Absent:
    """Blocks that a sparse file leaves out: (planes, rows, columns); size: of one, in pixels."""

    blocks: Mask
    size: Ints

    def within(self, region: Region) -> Mask:
        """Which pixels of a region they hold: (planes, *region.shape)."""
        bounds = zip(region.start, region.stop, self.size, strict=True)
        row, column = (np.arange(start, stop) // size for start, stop, size in bounds)
        return self.blocks[:, row[:, None], column]


def absent(page: TiffPage) -> Absent | None:
    """What a sparse file leaves out, None where all is there.

    GDAL writes offset 0 and size 0 for a block that holds nothing but nodata or zeros.
    """
    missing = _left_out(page)
    if not missing.any():
        return None
    size, (rows, columns) = blocks(page)
    return Absent(missing.reshape(-1, rows, columns), size)


def blocks(page: TiffPage) -> tuple[Ints, Ints]:
    """Size, in pixels, of the strips or tiles of each plane, and how many there are per axis."""
    shape = (page.imagelength, page.imagewidth)
    block = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, shape[1])
    size = tuple(min(int(b), n) for b, n in zip(block, shape, strict=True))
    return size, tuple(-(-n // b) for n, b in zip(shape, size, strict=True))


def _table(page: TiffPage) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    return np.array(page.dataoffsets, np.uint64), np.array(page.databytecounts, np.uint64)


def _left_out(page: TiffPage) -> Mask:
    offsets, sizes = _table(page)
    count = min(len(offsets), len(sizes), prod(page.chunked))
    return np.asarray((offsets[:count] == 0) & (sizes[:count] == 0))

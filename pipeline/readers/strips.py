"""Whether a TIFF page's strips and tiles are all there: tifffile fills what is missing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.readers.base import Mask

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
    if page.is_contiguous and not _left_out(page).any():
        return  # read in one piece, of which tifffile checks the length
    count = prod(page.chunked)
    offsets, sizes = _table(page)
    if min(len(offsets), len(sizes)) < count:
        found = f"{len(offsets)} offsets and {len(sizes)} sizes for {count} strips or tiles"
        raise ReadError("corrupt", f"damaged TIFF file ({found}); copy it again from its source")
    end = page.parent.filehandle.size
    outside = (offsets == 0) != (sizes == 0)
    outside |= (offsets > end) | (sizes > end) | (offsets + sizes > end)
    if outside[:count].any():
        which = f"strip or tile {int(outside.argmax()) + 1} of {count} lies beyond the end"
        raise ReadError("corrupt", f"truncated TIFF file ({which}); copy it again from its source")


def absent(page: TiffPage) -> Mask | None:
    """Pixels of blocks that a sparse file leaves out: (planes, H, W), or None where there are none.

    GDAL writes offset 0 and size 0 for a block that holds nothing but nodata or zeros.
    """
    missing = np.flatnonzero(_left_out(page))
    if not missing.size:
        return None
    planes, _, height, width, _ = page.shaped
    mask = np.zeros((planes, height, width), np.bool_)
    for index in missing.tolist():
        _, (plane, _, y, x, _), (_, rows, columns, _) = page.decode(None, index)
        mask[plane, y : y + rows, x : x + columns] = True
    return mask


def _table(page: TiffPage) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    return np.array(page.dataoffsets, np.uint64), np.array(page.databytecounts, np.uint64)


def _left_out(page: TiffPage) -> Mask:
    offsets, sizes = _table(page)
    count = min(len(offsets), len(sizes), prod(page.chunked))
    return np.asarray((offsets[:count] == 0) & (sizes[:count] == 0))

"""NumPy's .npy files, mapped into memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.picture import GRAY, Picture, describe, refuse_page
from pipeline.types import ImageInfo


@READERS.register("npy")
class Npy:
    """One array of real numbers: (H, W) is a picture of one band, (z, y, x) a volume of one band.

    Values are kept as stored; booleans are 0 and 1 as uint8. Nothing is unpickled: arrays of
    objects, and all other types that are not real numbers, are `unsupported`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"\x93NUMPY")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture or volume, with the array's own type."""
        return (_info(_array(path)),)

    def open(self, path: str, page: int) -> Picture:
        """Map the array; pixels are read from disk when a region asks for them."""
        refuse_page(page)
        array = _array(path)
        native = np.uint8 if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
        return Picture(_info(array), array.astype(native, copy=False)[None])


def _array(path: str) -> Pixels:
    with decoding(path, "npy"):
        return np.lib.format.open_memmap(path, mode="r")


def _info(array: Pixels) -> ImageInfo:
    if array.ndim not in (2, 3):
        message = f"an array of {array.ndim} axes; save one of 2 (y, x) or 3 (z, y, x)"
        raise ReadError("unsupported", message)
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype
    return describe(array.shape, GRAY, dtype)

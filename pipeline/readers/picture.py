"""A decoded picture in memory: the window of every format that is decoded in one piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import Mask, Pixels
from pipeline.types import Grid, ImageInfo, Ints, Region

GRAY = ("1",)
COLOUR = ("red", "green", "blue")
BAND_LIMIT = 65535  # what TIFF's 16-bit SamplesPerPixel can say; more is a damaged header


def label(count: int, named: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Band labels: the names first, then 1-based indices as text.

    Raises ReadError of kind `limit` above BAND_LIMIT.

    >>> label(5, COLOUR)
    ('red', 'green', 'blue', '4', '5')
    """
    if count > BAND_LIMIT:
        message = f"{count} bands; files of more than {BAND_LIMIT} are not read, split this one"
        raise ReadError("limit", message)
    return named[:count] + tuple(str(i + 1) for i in range(len(named), count))


def describe(
    shape: Ints, bands: tuple[str, ...], dtype: np.dtype[np.generic], nodata: float | None = None
) -> ImageInfo:
    """Header knowledge of a picture whose samples lie one pixel apart.

    Raises
    ------
    ReadError
        `corrupt` for a picture without pixels, `unsupported` for samples that are not real numbers.
    """
    shape = tuple(int(size) for size in shape)  # a damaged header may hold something else
    if not bands or min(shape) < 1:
        message = f"the header says {_times(shape)} pixels and {len(bands)} bands; is it complete?"
        raise ReadError("corrupt", message)
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        message = f"samples of type {dtype.name}; convert them to integers or floats of <= 64 bits"
        raise ReadError("unsupported", message)
    return ImageInfo(shape, bands, dtype.name, Grid((1.0,) * len(shape)), nodata)


def refuse_page(page: int, count: int = 1) -> None:
    """Refuse a page, counted from 0, that a file with `count` pages does not have."""
    if page >= count:
        message = f"no page {page + 1} in a file of {count}; has the file changed?"
        raise ReadError("corrupt", message)


@dataclass(frozen=True, slots=True)
class Picture:
    """Pixels (C, *shape) and where they are valid, (C or 1, *shape) or None for everywhere."""

    info: ImageInfo
    values: Pixels
    mask: Mask | None = None

    def __post_init__(self) -> None:
        expected = (len(self.info.bands), *self.info.shape)
        if self.values.shape != expected or self.values.dtype.name != self.info.dtype:
            found = f"{_times(self.values.shape)} {self.values.dtype.name}"
            message = (
                f"decodes to {found} where the header says {_times(expected)} {self.info.dtype}"
            )
            raise ReadError("corrupt", message)

    def read(self, region: Region) -> Pixels:
        """Pixels of a region inside the image: (C, *region.shape), contiguous and writeable."""
        return np.require(self.values[:, *region.slices()], None, ["C", "W", "E"])

    def valid(self, region: Region) -> Mask | None:
        """Where the file says a pixel is valid, as (C, *region.shape); None: everywhere."""
        if self.mask is None:
            return None
        part = self.mask[:, *region.slices()]
        return np.array(np.broadcast_to(part, (len(self.info.bands), *region.shape)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


@dataclass(slots=True)
class Parts:
    """An image of which parts are decoded as they are asked for, each once for pixels and mask."""

    info: ImageInfo
    decode: Callable[[Region], Picture]
    latest: tuple[Region, Picture] | None = None

    def read(self, region: Region) -> Pixels:
        """Pixels of a region inside the image: (C, *region.shape), contiguous and writeable."""
        return self._part(region).values.copy()

    def valid(self, region: Region) -> Mask | None:
        """Where the file says a pixel is valid, as (C, *region.shape); None: everywhere."""
        return self._part(region).valid(Region.whole(region.shape))

    def _part(self, region: Region) -> Picture:
        if self.latest is None or self.latest[0] != region:
            self.latest = region, self.decode(region)
        return self.latest[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.latest = None


def _times(shape: Ints) -> str:
    return "x".join(map(str, shape))

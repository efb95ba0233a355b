"""What a reader is: headers, and windows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from pipeline.registry import Registry
from pipeline.types import ImageInfo, Region

Pixels = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]


class Window(Protocol):
    """An open image. Never pads, never scales, never guesses."""

    info: ImageInfo

    def read(self, region: Region) -> Pixels:
        """Pixels of a region inside the image, as (C, *region.shape), native byte order."""
        ...

    def valid(self, region: Region) -> Mask | None:
        """Where the file says a pixel is valid, as (C, *region.shape); None: everywhere."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Reader(Protocol):
    """Opens one group of file formats. A stateless class: construct it without arguments.

    `suffixes` are lower case with the dot; `signature` matches from the file's first byte and sees
    the first 352. Of a gzipped file it sees gzip's own two bytes, then what they inflate to.
    """

    suffixes: ClassVar[tuple[str, ...]]
    signature: ClassVar[re.Pattern[bytes]]

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """Headers only, one per page or frame. Raises ReadError."""
        ...

    def open(self, path: str, page: int) -> Window:
        """Open one page. Raises ReadError, also for damage found while decoding."""
        ...


READERS: Registry[Reader] = Registry("reader")

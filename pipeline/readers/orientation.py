"""Which way up a picture is: EXIF tag 274 (EXIF 2.32, section 4.6.4)."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.types import Ints

T = TypeVar("T", bound=np.generic)
TAG = 274


def orientation(exif: bytes | None) -> int:
    """Read the orientation, 1 to 8, from an EXIF block; 1 (as stored) where it does not say."""
    from PIL.Image import Exif

    if not exif:
        return 1
    block = Exif()
    try:
        block.load(exif)
        value = block.get(TAG)
    except Exception:  # EXIF is metadata: a damaged block says nothing, the pixels are intact
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turned(shape: Ints, turn: int) -> Ints:
    """The shape (H, W) of a picture once it is upright."""
    return shape[::-1] if turn >= 5 else shape


def changes(turn: int) -> tuple[bool, tuple[int, ...]]:
    """Whether rows and columns change places, and the axes that are reversed then."""
    down, right = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    return turn >= 5, (-2,) * down + (-1,) * right


def upright(planes: npt.NDArray[T], turn: int) -> npt.NDArray[T]:
    """Turn planes (..., H, W) upright; a view.

    >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
    [[3, 1], [4, 2]]
    """
    exchanged, reversed = changes(turn)
    return np.flip(planes.swapaxes(-1, -2) if exchanged else planes, reversed)

"""What lies beyond the edge of an image: the one place that knows. Names are scipy.ndimage's.

reflect   d c b a | a b c d | d c b a      IBSI "mirror", numpy "symmetric"
mirror      d c b | a b c d | c b a        numpy "reflect", torch "reflect"
nearest   a a a a | a b c d | d d d d
wrap      a b c d | a b c d | a b c d
constant  k k k k | a b c d | k k k k      torch's padding=, with k = 0
nodata    - - - - | a b c d | - - - -      outside is invalid, nothing is made up
valid               a b c d                the map shrinks, torch's padding=0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Mode: TypeAlias = Literal["reflect", "mirror", "nearest", "constant", "wrap", "valid", "nodata"]
MODES: tuple[Mode, ...] = get_args(Mode)
OUTSIDE = -1


@dataclass(frozen=True, slots=True)
class Boundary:
    """A rule for pixels beyond the image; `value` matters to `constant` only."""

    mode: Mode = "reflect"
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.mode}({self.value:g})" if self.value else self.mode


def fold(index: npt.NDArray[np.intp], size: int, mode: Mode) -> npt.NDArray[np.intp]:
    """Map any integer coordinate onto [0, size), or OUTSIDE where the rule has no pixel for it.

    >>> fold(np.arange(-3, 6), 3, "reflect").tolist()
    [2, 1, 0, 0, 1, 2, 2, 1, 0]
    """
    if mode == "nearest":
        return np.clip(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    if mode == "reflect":
        i = index % (2 * size)
        return np.minimum(i, 2 * size - 1 - i)
    if mode == "mirror":
        if size == 1:
            return np.zeros_like(index)
        i = index % (2 * size - 2)
        return np.minimum(i, 2 * size - 2 - i)
    return np.where((index < 0) | (index >= size), OUTSIDE, index)

"""Memory for planes of pixels: where it is taken from, and how far apart its lines lie."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.types import Ints, Reach, Region

LINE = 16
"""float32 numbers in a line of the cache."""

ALIASED = 32
"""Lines of the cache: pixels a multiple of them apart compete for the same few places in it."""


LARGE = 1 << 16
"""Pixels from which on it matters where memory comes from; below, how long it takes to ask."""


def packed(shape: Ints) -> Tensor:
    """Uninitialised float32 of this shape, contiguous and aligned to 64 bytes: for a response."""
    return _aligned(shape, strides_of(shape))


def empty(shape: Ints, device: torch.device) -> Tensor:
    """Uninitialised float32, contiguous: as `packed` on a CPU, but for what is small."""
    if device.type != "cpu" or prod(shape) < LARGE:
        return torch.empty(shape, dtype=torch.float32, device=device)
    return packed(shape)


def spaced(shape: Ints) -> Tensor:
    """The same with lines that are aligned too, and never a power of two apart.

    For what only a next pass reads: the lines under a column, and those that are written, stay
    in the cache together (twice as fast where an image is 1024 pixels wide).
    """
    return _aligned(shape, strides_of(shape, True))


def roomy(shape: Ints, room: Reach) -> Tensor:
    """The same for (N, C, *shape) with room around each plane, which may be written, too."""
    around = (((0, 0),) * len(shape) + room)[-len(shape) :]
    pairs = list(zip(shape, around, strict=True))
    wide = spaced(tuple(before + n + after for n, (before, after) in pairs))
    return wide[tuple(slice(before, before + n) for n, (before, _) in pairs)]


def around(values: Tensor, have: Region, want: Region, room: Reach) -> Tensor | None:
    """Planes of `want` in the memory of (N, C, *have) and the room around, if they fit there.

    Planes (P, *want) have to follow one another at one distance. The strides are those of `values`,
    as a view of another shape has made-up ones along axes of one pixel.
    """
    (n, c), (far, near, *steps) = values.shape[:2], values.stride()
    if not room or want.overlap(have.grow(room)) != want or (min(n, c) > 1 and far != c * near):
        return None
    first = sum(s * (a - b) for s, a, b in zip(steps, want.start, have.start, strict=True))
    strides = (far if c == 1 else near, *steps)
    return values.as_strided((n * c, *want.shape), strides, values.storage_offset() + first)


def _aligned(shape: Ints, strides: Ints) -> Tensor:
    """From malloc, not from torch.

    What torch takes from posix_memalign and frees is, in glibc before 2.38, just too small for the
    next result of the same size: a bank would take twice what lives.
    """
    memory = torch.from_numpy(np.empty(shape[0] * strides[0] + LINE, np.float32))
    return memory.as_strided(shape, strides, -memory.data_ptr() // 4 % LINE)


@lru_cache(maxsize=1024)
def strides_of(shape: Ints, spaced: bool = False) -> Ints:
    """In numbers, of what `packed` or `spaced` make."""
    strides = [1]
    for size in shape[:0:-1]:
        step = size * strides[-1]
        if spaced:
            lines = -(-step // LINE)
            step = LINE * (lines + (lines % ALIASED == 0))
        strides.append(step)
    return tuple(strides[::-1])

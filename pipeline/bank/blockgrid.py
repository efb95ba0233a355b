"""How a region is cut into blocks that overlap, for kernels that are multiplied as transforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING

from pipeline.types import Ints, Reach, Region

if TYPE_CHECKING:
    from torch import Tensor

FAST: Ints = tuple(
    sorted((1 << a) * 3**b * 5**c for a in range(3, 13) for b in range(3) for c in range(3))
)
"""Lengths whose transforms are fast."""

LONGEST = {1: 4096, 2: 640, 3: 128}
"""The longest block side, by the number of axes that are transformed."""

TILE, TILED = 1024, 1 << 21
"""What divides the sides of tiles, and pixels from which on an image of two axes may be cut into
them: scenes have more, of all bands."""
TILE_LONGEST = 768
"""The longest side of a block that ends where tiles do."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How a region of responses is cut: block b holds b * step to (b + 1) * step of the image.

    order: the axes as they are worked on, of which all that follows is told: those that are
    transformed come last; lead: pixels between the first block's start and the region's.
    """

    order: Ints
    sides: Ints
    steps: Ints
    lead: Ints
    counts: Ints
    shape: Ints

    @classmethod
    def of(cls, region: Region, image: Ints, reach: Reach) -> Grid:
        """Cut a region, for kernels of this reach on an image of this shape."""
        order = tuple(sorted(range(len(reach)), key=lambda axis: sum(reach[axis]) > 0))
        extents = tuple(sum(reach[axis]) + 1 for axis in order)
        longest = LONGEST[min(3, sum(n > 1 for n in extents))]
        cut = _cut_tiled if len(image) == 2 and prod(image) > TILED else _cut
        cuts = [cut(image[axis], k, longest) for axis, k in zip(order, extents, strict=True)]
        sides, steps = zip(*cuts, strict=True)
        lead = tuple(region.start[a] % step for a, step in zip(order, steps, strict=True))
        shape = tuple(region.shape[axis] for axis in order)
        counts = tuple(ceil((n + a) / s) for n, a, s in zip(shape, lead, steps, strict=True))
        return cls(order, sides, steps, lead, counts, shape)

    def turned(self, plane: Tensor) -> Tensor:
        """A view of a plane with its axes in the order of work."""
        return plane.permute(self.order)

    @property
    def half(self) -> Ints:
        """The shape of one transformed block: the halved last axis stands first."""
        return (self.sides[-1] // 2 + 1, *self.sides[:-1])

    @property
    def planes(self) -> float:
        """float32 planes of the region that the transforms take, and the padded one beside them."""
        cut = zip(self.counts, self.steps, self.sides, strict=True)
        padded = prod((n - 1) * p + s for n, p, s in cut)
        return (2 * prod(self.counts) * prod(self.half) + padded) / prod(self.shape)

    @property
    def rows(self) -> Iterator[tuple[int, Ints]]:
        """Rows of blocks along the last axis, counted, with their place along the others."""
        return enumerate(product(*(range(n) for n in self.counts[:-1])))


def _cut(size: int, extent: int, longest: int) -> tuple[int, int]:
    """The side of a block with the least to transform in all, and its part that is kept."""
    if extent == 1:
        return 1, 1
    sides = _sides(extent, max(longest, 2 * extent))
    side = min(sides, key=lambda s: (ceil(size / (s - extent + 1)) * s, s))
    return side, side - extent + 1


def _cut_tiled(size: int, extent: int, longest: int) -> tuple[int, int]:
    """The same where blocks end with the tiles of an image: none is needed for two of them."""
    if extent == 1 or size <= TILE:
        return _cut(size, extent, longest)
    sides = _sides(extent, max(TILE_LONGEST, 3 * extent))
    cuts = [(s, min(TILE, 1 << (s - extent + 1).bit_length() - 1)) for s in sides]
    return min(cuts, key=lambda cut: (ceil(size / cut[1]) * cut[0], cut[0]))


def _sides(extent: int, longest: int) -> list[int]:
    return [s for s in FAST if extent < s <= longest]

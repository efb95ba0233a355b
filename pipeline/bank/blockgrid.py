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

TILE = 1024
"""What divides the sides of tiles."""


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
        cuts = [_cut(image[axis], k, longest) for axis, k in zip(order, extents, strict=True)]
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
    """The side of a block with the least to transform in all, and its part that is kept.

    Where an image may be cut into tiles, blocks end where tiles do: none is needed for two of them.
    """
    if extent == 1:
        return 1, 1
    sides = [s for s in FAST if extent < s <= max(longest, 2 * extent)]
    if size > TILE:
        cuts = [(s, 1 << (s - extent + 1).bit_length() - 1) for s in sides]
        return min(cuts, key=lambda cut: (cut[0] / min(cut[1], TILE), cut[0]))
    side = min(sides, key=lambda s: (ceil(size / (s - extent + 1)) * s, s))
    return side, side - extent + 1

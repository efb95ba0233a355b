"""Cells that sums are computed in, so that they do not depend on how blocks are cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from pipeline.statistics.base import Block, Floats
from pipeline.types import Ints

CELL = 256
"""Side of a cell along the last two axes, in pixels; 1 along z. Anchored at the response origin."""


def sides_of(shape: Ints) -> Ints:
    """Extent of a whole cell along each axis."""
    return (1,) * (len(shape) - 2) + (CELL,) * min(len(shape), 2)


@lru_cache(maxsize=1024)
def grid_of(shape: Ints) -> Ints:
    """Count the cells along each axis; the last may be smaller."""
    return tuple(-(-n // side) for n, side in zip(shape, sides_of(shape), strict=True))


def first_of(block: Block) -> Ints:
    """Index of a block's first cell in the response.

    Raises
    ------
    ValueError
        Where the block is cut through a cell.
    """
    return _first(block.origin, tuple(block.values.shape[1:]), block.shape)


@lru_cache(maxsize=1024)
def _first(origins: Ints, extents: Ints, shape: Ints) -> Ints:
    sides = sides_of(shape)
    for origin, extent, whole, side in zip(origins, extents, shape, sides, strict=True):
        if origin % side or (extent % side and origin + extent < whole):
            message = (
                f"a block of {extents} pixels at {origins} of {shape} cuts through a cell; "
                f"cut at multiples of {sides}"
            )
            raise ValueError(message)
    return tuple(origin // side for origin, side in zip(origins, sides, strict=True))


@dataclass(frozen=True, slots=True)
class Cells:
    """Sums in the cells of the blocks seen so far.

    pieces: (index of the first cell, (P, *cells, K) float64); grid: cells in the whole response.
    """

    pieces: tuple[tuple[Ints, Floats], ...]
    grid: Ints

    @classmethod
    def of(cls, block: Block, sums: Floats) -> Cells:
        """The cells of one block."""
        return cls(((first_of(block), sums),), grid_of(block.shape))

    def merge(self, other: Cells) -> Cells:
        """The cells of both."""
        return Cells(self.pieces + other.pieces, self.grid)

    def whole(self) -> Floats:
        """Put every cell in its place: (P, cells, K), cells in C order.

        Raises
        ------
        ValueError
            Where the blocks did not cover the response exactly once.
        """
        sums = self.pieces[0][1]
        planes, rows = sums.shape[0], sums.shape[-1]
        if sums.shape[1:-1] != self.grid or len(self.pieces) > 1:
            sums = np.empty((planes, *self.grid, rows))
            seen = np.zeros(self.grid, np.int64)
            for at, piece in self.pieces:
                spans = zip(at, piece.shape[1:-1], strict=True)
                where = tuple(slice(a, a + k) for a, k in spans)
                sums[(slice(None), *where)] = piece
                seen[where] += 1
            if (seen != 1).any():
                message = f"blocks cover {seen.sum()} of {prod(self.grid)} cells; cover each once"
                raise ValueError(message)
        return sums.reshape(planes, -1, rows)

    def total(self) -> Floats:
        """Add up all cells, one after another: (P, K)."""
        return self.whole().cumsum(1)[:, -1]

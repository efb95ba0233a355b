"""Cells that sums are computed in, so that they do not depend on how blocks are cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from pipeline.statistics.base import Block, Counts, Floats
from pipeline.types import Ints

CELL = 256
"""Side of a cell along the last two axes, in pixels; 1 along z. Anchored at the image origin."""


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

    pieces: (index of the first cell, (P, *cells, K) float64).
    """

    pieces: tuple[tuple[Ints, Floats], ...]

    @classmethod
    def of(cls, block: Block, sums: Floats) -> Cells:
        """The cells of one block; sums: (P, *cells, K)."""
        flat = sums.reshape(len(sums), -1, sums.shape[-1])
        pieces, start = [], 0
        for first, grid in block.grids:
            stop = start + prod(grid)
            pieces.append((first, flat[:, start:stop].reshape(len(sums), *grid, -1)))
            start = stop
        return cls(tuple(pieces))

    def merge(self, other: Cells) -> Cells:
        """The cells of both."""
        return Cells(self.pieces + other.pieces)

    def whole(self) -> Floats:
        """Put every cell in its place: (P, cells, K), cells in C order; without a block, empty.

        Raises
        ------
        ValueError
            Where blocks lie on one another.
        """
        sums = self.pieces[0][1]
        if len(self.pieces) > 1:
            low, high = self._bounds()
            sums = np.zeros((len(sums), *(high - low), sums.shape[-1]))
            seen = np.zeros(high - low, np.bool_)
            for at, piece in self.pieces:
                spans = zip(at - low, piece.shape[1:-1], strict=True)
                where = tuple(slice(a, a + k) for a, k in spans)
                if seen[where].any():
                    message = f"two blocks have the cell {at}; measure every pixel once"
                    raise ValueError(message)
                sums[(slice(None), *where)] = piece
                seen[where] = True
        return sums.reshape(len(sums), -1, sums.shape[-1])

    def _bounds(self) -> tuple[Counts, Counts]:
        """The first cell of all, and the one after the last."""
        first = np.array([at for at, _ in self.pieces])
        return first.min(0), (first + [piece.shape[1:-1] for _, piece in self.pieces]).max(0)

    def total(self) -> Floats:
        """Add up all cells, one after another: (P, K)."""
        return self.whole().cumsum(1)[:, -1]

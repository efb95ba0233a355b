"""Where the cells lie that moments are computed in, and how to cut them out of a block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from pipeline.statistics.base import Block
from pipeline.types import Ints

if TYPE_CHECKING:
    from torch import Tensor

CELL = 256
"""Side of a cell along the last two axes, in pixels; 1 along z. Anchored at the response origin."""


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a block that holds whole cells of one shape.

    start, counts, sides: per spatial axis, the first pixel in the block, the number of cells and
    the extent of each; at: the index of the first cell in the response.
    """

    start: Ints
    counts: Ints
    sides: Ints
    at: Ints


def _full(shape: Ints) -> Ints:
    return (1,) * (len(shape) - 2) + (CELL,) * min(len(shape), 2)


def counts_of(shape: Ints) -> Ints:
    """Count the cells of a response along each axis; the last may be smaller."""
    return tuple(-(-n // side) for n, side in zip(shape, _full(shape), strict=True))


def boxes(block: Block) -> Iterator[Box]:
    """Part a block: its full cells, then the smaller ones at the end of each axis.

    Raises
    ------
    ValueError
        Where the block is cut through a cell.
    """
    sides = _full(block.shape)
    axes = []
    extents = tuple(block.values.shape[1:])
    for origin, extent, whole, side in zip(block.origin, extents, block.shape, sides, strict=True):
        count, rest = divmod(extent, side)
        if origin % side or (rest and origin + extent < whole):
            message = (
                f"a block of {extents} pixels at {block.origin} of {block.shape} cuts through a "
                f"cell; cut at multiples of {sides}"
            )
            raise ValueError(message)
        first = origin // side
        spans = [(0, count, side, first), (count * side, min(rest, 1), rest, first + count)]
        axes.append([span for span in spans if span[1]])
    return (Box(*zip(*spans, strict=True)) for spans in product(*axes))


def split(x: Tensor, box: Box) -> Tensor:
    """Cut the cells of a box out of (P, *spatial): (P, *counts, pixels of a cell)."""
    shape = [x.shape[0]]
    for axis, (start, count, side) in enumerate(zip(box.start, box.counts, box.sides, strict=True)):
        x = x.narrow(axis + 1, start, count * side)
        shape += [count, side]
    counts = range(1, len(shape), 2)
    x = x.reshape(shape).permute(0, *counts, *(axis + 1 for axis in counts))
    return x.flatten(1 + len(box.counts))

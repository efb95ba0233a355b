"""The launch of kernels over the tiles of all planes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor

from pipeline.fused.reductions import Reduction
from pipeline.fused.source import Stencil, write
from pipeline.gpu import build, launching
from pipeline.statistics.cells import CELL, sides_of
from pipeline.types import Ints, Region

ROWS, BLOCK = 32, 128
"""Pixels of a tile, which is what one program of a kernel reduces: rows, and lanes side by side."""


def reduce(
    planes: Tensor, box: Region, stencil: Stencil, reductions: Sequence[Reduction]
) -> list[Any]:
    """Walk over a box of the responses once, and answer what each reduction asks.

    planes: (P, *shape) with the margin around the image; uint8, uint16 or float32. Planes of the
    answers are those of all kernels for the first plane, then those for the second, and so on.

    Raises
    ------
    torch.OutOfMemoryError
        Where the device's memory does not hold the results, or the kernel.
    DeviceError
        Where the kernel cannot be compiled or launched.
    """
    if planes.stride(-1) != 1:
        planes = planes.contiguous()
    cells = cells_of(box)
    z0, y0, x0 = (0, *box.start)[-3:]
    down, across = (
        -(-max(1, min(CELL, extent)) // size)
        for extent, size in zip(box.shape[-2:], (ROWS, BLOCK), strict=True)
    )
    many, tiles = len(stencil.kernels) * len(planes), down * across
    results = [one.room(many, (*cells, tiles), planes.device) for one in reductions]
    templates = tuple(one.template for one in reductions)
    every = prod(cells) * tiles
    pointers = (
        x for one, result in zip(reductions, results, strict=True) for x in (*one.given, result)
    )
    with launching():
        if templates not in stencil.programs:
            stencil.programs[templates] = build(write(stencil.kernels, stencil.margin, templates))
        stencil.programs[templates][(len(planes) * every,)](
            planes,
            *(planes.stride(0), *(0, *planes.stride()[1:])[-3:-1]),
            *(z0, y0, x0, *box.stop[-2:], *cells[-2:], down, across, every),
            *pointers,
            CELL=CELL,
            ROWS=ROWS,
            BLOCK=BLOCK,
        )
    return [one.answer(result) for one, result in zip(reductions, results, strict=True)]


def cells_of(box: Region) -> Ints:
    """Count the cells along each axis that a box touches; one for an empty box."""
    ends = zip(box.start, box.stop, sides_of(box.start), strict=True)
    return tuple(-(-max(b, a + 1) // side) - a // side for a, b, side in ends)

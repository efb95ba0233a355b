"""Overlap-save: blocks are transformed once for all kernels and back once for each.

The grid of blocks is anchored at the image's origin. A plane is transformed by itself, block row
by block row, so its bits do not depend on how many there are.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.blockgrid import Grid
from pipeline.bank.expr import Kernel
from pipeline.bank.memory import empty
from pipeline.types import Ints, Reach


def forward(x: Tensor, grid: Grid) -> Tensor:
    """Real planes over region + reach -> complex (P, rows, blocks of a row, *half)."""
    spatial = tuple(range(-len(grid.sides), 0))
    rows, last = prod(grid.counts[:-1]), grid.counts[-1]
    size = (x.shape[0], rows, last, *grid.half)
    out = torch.view_as_complex(empty((*size, 2), x.device))
    cut = zip(grid.counts, grid.steps, grid.sides, strict=True)
    padded = empty(tuple((n - 1) * p + s for n, p, s in cut), x.device).zero_()
    for plane, spectra in zip(map(grid.turned, x), out, strict=True):
        inside = tuple(slice(a, a + n) for a, n in zip(grid.lead, plane.shape, strict=True))
        padded[inside] = plane
        for row, at in grid.rows:
            starts = (i * p for i, p in zip(at, grid.steps[:-1], strict=True))
            boxes = (slice(a, a + s) for a, s in zip(starts, grid.sides[:-1], strict=True))
            windows = padded[tuple(boxes)].unfold(-1, grid.sides[-1], grid.steps[-1])
            found = torch.fft.rfftn(windows.movedim(-2, 0), dim=spatial)
            spectra[row] = found.movedim(-1, 1)
    return out


def inverse(spectra: Tensor, grid: Grid, kernel: Kernel, reach: Reach) -> Tensor:
    """Correlate with a kernel inside the reach: (P, *shape) real."""
    transfer = torch.from_numpy(_transfer(kernel, reach, grid.order, grid.sides)).to(spectra.device)
    across = tuple(range(2, 1 + len(grid.sides)))
    keep = (slice(None), slice(None), *(slice(0, p) for p in grid.steps[:-1]))
    shape = (grid.shape[grid.order.index(axis)] for axis in range(len(grid.order)))
    out = empty((spectra.shape[0], *shape), spectra.device)
    for plane, result in zip(spectra, map(grid.turned, out), strict=True):
        for row, at in grid.rows:
            back = torch.fft.ifftn(plane[row] * transfer, dim=across)[keep]
            lines = torch.fft.irfft(back.movedim(1, -1).contiguous(), n=grid.sides[-1])
            _place(lines[..., : grid.steps[-1]].movedim(0, -2), at, grid, result)
    return out


def _place(blocks: Tensor, at: Ints, grid: Grid, out: Tensor) -> None:
    """Write a row of blocks (*steps[:-1], blocks, steps[-1]) where it lies in the region."""
    into, cut = [], []
    for i, p, a, n in zip(at, grid.steps, grid.lead, grid.shape, strict=False):
        start, stop = max(i * p - a, 0), min((i + 1) * p - a, n)
        into.append(slice(start, stop))
        cut.append(slice(start + a - i * p, stop + a - i * p))
    row, part = out[tuple(into)], blocks[tuple(cut)]
    step, lead, length = grid.steps[-1], grid.lead[-1], grid.shape[-1]
    for b in range(grid.counts[-1]):
        start, stop = max(b * step - lead, 0), min((b + 1) * step - lead, length)
        row[..., start:stop] = part[..., b, start + lead - b * step : stop + lead - b * step]


@lru_cache(maxsize=64)
def _transfer(kernel: Kernel, reach: Reach, order: Ints, sides: Ints) -> npt.NDArray[np.complex64]:
    """Of the kernel at a corner of the block; conjugate, as to correlate is to mirror."""
    turned = kernel.array.transpose(order)
    corner = (reach[axis][0] - kernel.origin[axis] for axis in order)
    block = np.zeros(sides)
    block[tuple(slice(c, c + n) for c, n in zip(corner, turned.shape, strict=True))] = turned
    spectrum = np.moveaxis(np.fft.rfftn(block), -1, 0).conj()
    return np.ascontiguousarray(spectrum, dtype=np.complex64)

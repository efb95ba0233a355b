"""Overlap-save: blocks are transformed once for all kernels and back once for each.

The grid of blocks is anchored at the image's origin. A plane is transformed by itself, block row
by block row, so its bits do not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import ceil, prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.bank.memory import empty
from pipeline.types import Ints, Reach, Region

FAST: Ints = tuple(
    sorted((1 << a) * 3**b * 5**c for a in range(3, 13) for b in range(3) for c in range(3))
)
"""Lengths whose transforms are fast."""

LONGEST = {1: 4096, 2: 512, 3: 128}
"""The longest block side, by the number of axes that are transformed."""


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
        sides = tuple(_side(image[a], k, longest) for a, k in zip(order, extents, strict=True))
        steps = tuple(s - k + 1 for s, k in zip(sides, extents, strict=True))
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
    def rows(self) -> Iterator[tuple[int, Ints]]:
        """Rows of blocks along the last axis, counted, with their place along the others."""
        return enumerate(product(*(range(n) for n in self.counts[:-1])))


def _side(size: int, extent: int, longest: int) -> int:
    """The side of a block with the least to transform along an axis of this size."""
    if extent == 1:
        return 1
    sides = [s for s in FAST if extent < s <= max(longest, 2 * extent)]
    return min(sides, key=lambda s: (ceil(size / (s - extent + 1)) * s, s))


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
    transfer = torch.from_numpy(_transfer(kernel, reach, grid)).to(spectra.device)
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
def _transfer(kernel: Kernel, reach: Reach, grid: Grid) -> npt.NDArray[np.complex64]:
    """Of the kernel at a corner of the block; conjugate, as to correlate is to mirror."""
    turned = kernel.array.transpose(grid.order)
    corner = (reach[axis][0] - kernel.origin[axis] for axis in grid.order)
    block = np.zeros(grid.sides)
    block[tuple(slice(c, c + n) for c, n in zip(corner, turned.shape, strict=True))] = turned
    spectrum = np.moveaxis(np.fft.rfftn(block), -1, 0).conj()
    return np.ascontiguousarray(spectrum, dtype=np.complex64)

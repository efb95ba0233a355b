"""Pixels of a block where they are, on any device, reduced by torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from pipeline.statistics.base import Block, Counts, Floats
from pipeline.statistics.cells import first_of, grid_of, sides_of
from pipeline.statistics.census import Census
from pipeline.statistics.sums import chunks, tree
from pipeline.types import Ints

_SIGN = 1 << 31
_NAN = 0x7FC00000


@dataclass(frozen=True, slots=True)
class Dense:
    """The pixels of a block; the invalid ones stay in their place and are left out of sums."""

    block: Block

    def counts(self) -> Counts:
        """How many there are: (P,)."""
        values, valid = self._planes()
        if valid is None:
            return np.full(values.shape[0], values.shape[1])
        return _array(valid.sum(1))

    def extremes(self) -> Floats:
        """Least and greatest value: (P, 2)."""
        low, valid = self._planes()
        high = low
        if valid is not None:
            low, high = (torch.where(valid, low, end) for end in (float("inf"), -float("inf")))
        # -0 + 0 = +0: the two zeros are equal, so either may have been found
        return _array(torch.stack((low.amin(1), high.amax(1)), 1).double() + 0.0)

    def totals(self) -> Floats:
        """Sums of x: (P, *cells, 1)."""
        return self._cells(1, lambda x, valid, _: (tree(_kept(x, valid)),))

    def deviations(self, centres: Floats) -> Floats:
        """Sums of |x - centre|: (P, *cells, 2)."""
        about = torch.from_numpy(centres).to(self.block.values.device)

        def sums(x: Tensor, valid: Tensor | None, plane: Tensor) -> tuple[Tensor, ...]:
            apart = ((x - centre[:, None]).abs_() for centre in about[plane].unbind(1))
            return tuple(tree(_kept(d, valid)) for d in apart)

        return self._cells(2, sums)

    def within(self, ends: Floats, centres: Floats) -> Floats:
        """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3)."""
        about = torch.from_numpy(np.column_stack((ends, centres))).to(self.block.values.device)

        def sums(x: Tensor, valid: Tensor | None, plane: Tensor) -> tuple[Tensor, ...]:
            low, high, centre = (column[:, None] for column in about[plane].unbind(1))
            inside = (low <= x) & (x <= high)
            if valid is not None:
                inside &= valid
            parts = (torch.ones_like(x), x, (x - centre).abs_())
            return tuple(tree(torch.where(inside, part, 0.0)) for part in parts)

        return self._cells(3, sums)

    def moments(self) -> Floats:
        """Moments of the cells: (P, *cells, 7)."""
        return self._cells(7, lambda x, valid, _: _two_pass(x, valid))

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins: (P, count)."""
        low, high = torch.from_numpy(extremes).to(self.block.values.device).unbind(1)
        span = high - low
        wide = torch.where(span > 0.0, span, 1.0)

        def places(x: Tensor, rows: slice) -> Tensor:
            x = x.double().sub_(low[rows, None]).mul_(count).div_(wide[rows, None])
            return x.to(torch.int64).clamp_(0, count - 1)

        counts = self._counted(count, places)
        counts[~np.isfinite(_array(span))] = 0
        return counts

    @property
    def steps(self) -> Ints:
        """What is counted stays small for many planes; of a tile there is one at a time."""
        return (14, 9, 9) if self.block.alone else (18, 14)

    def census(self, leading: Counts, steps: Ints) -> Census:
        """Count the bits that follow."""
        return Census.of(self.keys(leading, steps))

    def keys(self, leading: Counts, steps: Ints) -> Counts:
        """Count the bits that follow: (P, slots, 2^steps[-1])."""
        slots, done, more = leading.shape[1], sum(steps[:-1]), steps[-1]
        sought = torch.from_numpy(leading).to(self.block.values.device)

        def places(x: Tensor, rows: slice) -> Tensor:
            bits = (x + 0.0).view(torch.int32).long() & (2 * _SIGN - 1)
            bits = torch.where(torch.isnan(x), _NAN, bits)
            keys = torch.where(bits >= _SIGN, 2 * _SIGN - 1 - bits, bits + _SIGN)
            begin = (keys >> (32 - done)).contiguous()
            slot = torch.searchsorted(sought[rows], begin).clamp_(max=slots - 1)
            slot.masked_fill_(sought[rows].gather(1, slot) != begin, slots)
            return slot * (1 << more) + ((keys >> (32 - done - more)) & ((1 << more) - 1))

        counts = self._counted((slots + 1) << more, places)
        return counts.reshape(-1, slots + 1, 1 << more)[:, :-1]

    def _planes(self) -> tuple[Tensor, Tensor | None]:
        """values and valid as (P, pixels)."""
        valid = self.block.valid
        return self.block.values.float().flatten(1), None if valid is None else valid.flatten(1)

    def _counted(self, size: int, places: Callable[[Tensor, slice], Tensor]) -> Counts:
        """Count places(x, rows), each below size, of the valid pixels: (P, size)."""
        values, valid = self._planes()
        counts = torch.zeros((values.shape[0], size), dtype=torch.int64, device=values.device)
        for rows, pixels in chunks(values):
            found = places(values[rows, pixels], rows)
            outside = found.shape[0] * size
            found += torch.arange(0, outside, size, device=found.device)[:, None]
            if valid is not None:
                found.masked_fill_(~valid[rows, pixels], outside)
            both = torch.bincount(found.flatten(), minlength=outside + 1)
            counts[rows] += both[:outside].view(-1, size)
        return _array(counts)

    def _cells(
        self,
        count: int,
        sums: Callable[[Tensor, Tensor | None, Tensor], tuple[Tensor, ...]],
    ) -> Floats:
        """Apply sums(x, valid, plane), x (L, pixels) float64, to all cells: (P, *cells, count)."""
        values, valid = self.block.values, self.block.valid
        first_of(self.block)  # or the cells would not be those of the response
        out = np.empty((values.shape[0], *grid_of(tuple(values.shape[1:])), count))
        for at, box in _boxes(tuple(values.shape[1:])):
            x = _split(values, box)
            planes = torch.arange(x.shape[0], device=x.device)
            planes = planes.repeat_interleave(x[0, ..., 0].numel())
            shape, x = x.shape[:-1], x.flatten(0, -2)
            inside = None if valid is None else _split(valid, box).flatten(0, -2)
            found = x.new_empty((count, x.shape[0]), dtype=torch.float64)
            for rows, _ in chunks(x):  # a cell is never longer than a segment
                mask = None if inside is None else inside[rows]
                parts = sums(x[rows].to(torch.float64, copy=True), mask, planes[rows])
                found[:, rows] = torch.stack(parts)
            out[(slice(None), *at)] = _array(found.T).reshape(*shape, count)
        return out


def _array(x: Tensor) -> np.ndarray:
    return x.cpu().numpy()


def _kept(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x.masked_fill_(~valid, 0.0)


def _boxes(extents: Ints) -> Iterator[tuple[tuple[slice, ...], list[Ints]]]:
    """Part a block: its full cells, then the smaller ones at the end of each axis.

    Yields the places of the cells, and per axis their first pixel, number and extent.
    """
    axes = []
    for extent, side in zip(extents, sides_of(extents), strict=True):
        count, rest = divmod(extent, side)
        spans = [(slice(0, count), (0, count, side)), (slice(count, None), (count * side, 1, rest))]
        axes.append([span for span in spans if all(span[1][1:])])
    for parts in product(*axes):
        yield tuple(at for at, _ in parts), [box for _, box in parts]


def _split(x: Tensor, box: list[Ints]) -> Tensor:
    """Cut the cells of a box out of (P, *spatial): (P, *cells, pixels of a cell)."""
    shape = [x.shape[0]]
    for axis, (start, count, side) in enumerate(box):
        x = x.narrow(axis + 1, start, count * side)
        shape += [count, side]
    counts = range(1, len(shape), 2)
    x = x.reshape(shape).permute(0, *counts, *(axis + 1 for axis in counts))
    return x.flatten(1 + len(box))


def _two_pass(x: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
    """The seven moments of x (L, pixels) float64, about a mean that is corrected."""
    x = _kept(x, valid)
    n = torch.full_like(x[:, 0], x.shape[-1]) if valid is None else valid.sum(-1).double()
    total, squares = tree(torch.stack((x, x * x)))
    divisor = n.clamp(min=1.0)
    mean = total / divisor
    d = _kept(x - mean[:, None], valid)
    d2 = d * d
    s1, s2, s3, s4 = tree(torch.stack((d, d2, d2 * d, d2 * d2)))
    e = s1 / divisor  # what rounding left of the mean
    m3 = s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e)
    m4 = s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e)
    return n, mean + e, s2 - s1 * e, m3, m4, total, squares

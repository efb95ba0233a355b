"""Pixels of a block on a CPU, reduced by compiled loops."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.statistics import counting, native
from pipeline.statistics.base import Block, Counts, Floats
from pipeline.statistics.cells import CELL, first_of, grid_of
from pipeline.statistics.census import AT_ONCE, IN_TWO, Census
from pipeline.statistics.fine import FEW, Fine
from pipeline.statistics.lazy import lazy
from pipeline.statistics.look import look
from pipeline.statistics.whole import Whole
from pipeline.types import Ints

Pixels: TypeAlias = npt.NDArray[np.float32]

_NOWHERE = np.empty((0, 0, 0, 0), np.bool_)
_NONE = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look tells: moments of the cells, (P * cells, 7); extremes, (P, 2); integral, (P,):
    whether all pixels are whole numbers."""

    moments: Floats
    extremes: Floats
    integral: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Packed:
    """Valid pixels of P planes.

    values: (P, Z, Y, X) float32; valid: bool of the same shape, or None for everywhere; shape:
    (P, *cells); alone: no other block will be merged; counted, found: of keys that were looked for,
    and pixels at ranks, for the next statistic that asks.
    """

    values: Pixels
    valid: npt.NDArray[np.bool_] | None
    shape: Ints
    alone: bool
    counted: dict[tuple[Ints, bytes], Census] = field(default_factory=dict, repr=False)
    found: dict[bytes, Floats | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, block: Block) -> Packed:
        """The valid pixels of a block; they are copied when that is needed."""
        first_of(block)  # or the cells would not be those of the response
        planes, *extents = block.values.shape
        flat = (planes, prod(extents[:-2]), *([1, *extents][-2:]))
        values = block.values.float().contiguous().numpy().reshape(flat)
        valid = None if block.valid is None else block.valid.contiguous().numpy().reshape(flat)
        return cls(values, valid, (planes, *grid_of(tuple(extents))), block.alone)

    @classmethod
    def joined(cls, pixels: Pixels, starts: Counts, seen: Seen) -> Packed:
        """A plane that is packed and has been looked at; no other block will be merged.

        What `runs` and `seen` would find is known, so that they are not asked.
        """
        found = cls(pixels.reshape(1, 1, 1, -1), _NOWHERE, (1, len(starts) - 1), alone=True)
        found.__dict__.update(runs=(pixels, starts), seen=seen)
        return found

    @lazy
    def runs(self) -> tuple[Pixels, Counts]:
        """The pixels cell after cell, and where each cell begins, with the end."""
        pixels = np.empty(self.values.size, np.float32)
        starts = np.empty(prod(self.shape) + 1, np.int64)
        valid = _NOWHERE if self.valid is None else self.valid
        native.pack(self.values, valid, self.valid is not None, pixels, starts)
        return pixels, starts

    @lazy
    def pixels(self) -> Pixels:
        """The pixels plane after plane, within one in any order; every NaN has the same bits."""
        if self.valid is None and not self._any_nan():
            return self.values.reshape(-1)
        return self.runs[0]

    def _any_nan(self) -> bool:
        looked = self.__dict__.get("seen")  # in a further pass nobody needs all that a look tells
        return bool(np.isnan(self.values.min() if looked is None else looked.extremes).any())

    @lazy
    def bounds(self) -> Counts:
        """Where the pixels of each plane begin, and the end."""
        if self.valid is None:
            return np.arange(len(self.values) + 1) * (self.values.size // len(self.values))
        return self.runs[1][:: prod(self.shape[1:])].copy()

    @lazy
    def seen(self) -> Seen:
        """What one look at them tells."""
        if self.valid is None:
            return self._look(np.empty(CELL * CELL, np.float32), _NONE)
        return self._look(*self.runs)

    def _look(self, pixels: Pixels, starts: Counts) -> Seen:
        moments, extremes = np.empty((prod(self.shape), 7)), np.empty((len(self.values), 2))
        integral = np.empty(len(self.values), np.bool_)
        packed = self.valid is not None
        look(self.values, packed, pixels, starts, moments, extremes, integral)
        return Seen(moments, extremes, integral)

    def move(self, plane: Pixels) -> tuple[Counts, Seen]:
        """Pack the pixels into the beginning of a plane; where each cell begins, and the end."""
        if self.valid is None:
            starts = np.empty(prod(self.shape) + 1, np.int64)
            return starts, self._look(plane, starts)
        pixels, starts = self.runs  # packing writes beyond the last one: not among neighbours
        plane[: starts[-1]] = pixels[: starts[-1]]
        return starts, self.seen

    @lazy
    def whole(self) -> Whole | None:
        """How often each number occurs, where all are whole and few."""
        if not self.seen.integral.all():
            return None
        return Whole.of(self.pixels, self.bounds, self.extremes())

    @lazy
    def fine(self) -> Fine | None:
        """How often numbers of many small spans occur, where there are such."""
        return Fine.of(self.pixels, self.bounds, self.extremes())

    def counts(self) -> Counts:
        """How many there are: (P,)."""
        return np.diff(self.bounds)

    def extremes(self) -> Floats:
        """Least and greatest value: (P, 2)."""
        return self.seen.extremes

    def totals(self) -> Floats:
        """Sums of x: (P, *cells, 1)."""
        out = np.empty((prod(self.shape), 1))
        native.totals(*self.runs, out)
        return out.reshape(*self.shape, 1)

    def deviations(self, centres: Floats) -> Floats:
        """Sums of |x - centre|: (P, *cells, 2)."""
        out = np.empty((prod(self.shape), 2))
        native.deviations(*self.runs, centres, out)
        return out.reshape(*self.shape, 2)

    def within(self, ends: Floats, centres: Floats) -> Floats:
        """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3)."""
        out = np.empty((prod(self.shape), 3))
        native.within(*self.runs, ends, centres, out)
        return out.reshape(*self.shape, 3)

    def moments(self) -> Floats:
        """Moments of the cells: (P, *cells, 7)."""
        return self.seen.moments.reshape(*self.shape, 7)

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins: (P, count)."""
        if self.alone and self.whole is not None:  # a tile would pay for tables in a further pass
            return self.whole.bins(extremes, count)
        if self.alone and np.array_equal(extremes, self.extremes()) and self.fine is not None:
            found = self.fine.bins(count)
            if found is not None:
                return found
        out = np.empty((self.shape[0], count), np.int64)
        counting.bins(self.pixels, self.bounds, extremes, out)
        return out

    def ranked(self, ranks: Counts) -> Floats | None:
        """The pixels at ascending ranks, (P, R), as float64; None where keys find them sooner."""
        mark = ranks.tobytes()
        if mark not in self.found:
            self.found[mark] = self._ranked(ranks)
        return self.found[mark]

    def _ranked(self, ranks: Counts) -> Floats | None:
        if self.whole is not None:
            return self.whole.ranked(ranks)
        if np.diff(self.bounds).max() <= FEW:
            return self._sorted(ranks)
        return None if self.fine is None else self.fine.ranked(ranks)

    def _sorted(self, ranks: Counts) -> Floats:
        out = np.empty(ranks.shape)
        for p, (start, stop) in enumerate(pairwise(self.bounds)):
            out[p] = np.sort(self.pixels[start:stop])[ranks[p]] if start < stop else np.nan
        return out + 0.0  # -0 is 0

    @lazy
    def numbers(self) -> Census | None:
        """How often each number occurs, by all bits of its key, where all are whole and few."""
        return None if self.whole is None else self.whole.census()

    @property
    def steps(self) -> Ints:
        """How many bits of a key each pass is to count."""
        return IN_TWO if self.numbers is None else AT_ONCE

    def census(self, leading: Counts, steps: Ints) -> Census:
        """Count the bits that follow."""
        if steps == AT_ONCE and self.numbers is not None:
            return self.numbers
        mark = steps, leading.tobytes()
        if mark not in self.counted:
            first = len(steps) == 1
            self.counted[mark] = self._first(*steps) if first else self._further(leading, steps[-1])
        return self.counted[mark]

    def _first(self, bits: int) -> Census:
        places = np.empty(len(self.pixels), np.uint32)
        counting.keys(self.pixels, places, 32 - bits)
        return Census.counting(places, self.bounds, 1 << bits)

    def _further(self, leading: Counts, bits: int) -> Census:
        places, bounds = np.empty(len(self.pixels) + 1, np.uint32), np.empty_like(self.bounds)
        counting.sieve(self.pixels, self.bounds, leading, bits, (places, bounds))
        return Census.counting(places, bounds, leading.shape[1] << bits)

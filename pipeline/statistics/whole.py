"""Planes of few whole numbers: what the pixels say about order is in how often each number occurs.

Responses of 8-bit images to kernels of integers are such planes, and so are codes and labels. The
counts are exact, so whatever is found in them has the bits that the pixels themselves would give.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled
from pipeline.statistics.base import Counts, Floats
from pipeline.statistics.census import Census
from pipeline.statistics.counting import STEP, keys, tally
from pipeline.statistics.finish import numbers
from pipeline.statistics.native import Array

SPAN = 1 << 16
"""Most numbers between the least and the greatest of a plane, and no more than it has pixels."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The numbers that occur in each of P planes, ascending, and how often.

    values: float32; weights: int64; bounds: where the planes begin, and the end.
    """

    values: npt.NDArray[np.float32]
    weights: Counts
    bounds: Counts

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float32], bounds: Counts, extremes: Floats) -> Whole | None:
        """Count the numbers of planes, which are whole; None where one plane has too many.

        extremes: (P, 2); inf and -inf where no pixel is.
        """
        extents = np.where(extremes[:, :1] > extremes[:, 1:], (0, -1), extremes).astype(np.int64)
        if (extents[:, 1] - extents[:, 0] >= np.diff(bounds).clip(0, SPAN)).any():
            return None
        size = int((extents[:, 1] - extents[:, 0] + 1).sum())
        values, weights = np.empty(size, np.float32), np.empty(size, np.int64)
        starts = np.empty_like(bounds)
        _tabulate(pixels, bounds, extents, values, weights, starts)
        return cls(values[: starts[-1]], weights[: starts[-1]], starts)

    @classmethod
    def from_census(cls, census: Census) -> Whole:
        """The numbers whose keys were counted, all bits of them."""
        values = np.empty((1, len(census.places)))
        numbers(census.places.astype(np.int64)[None], values)
        return cls(values[0].astype(np.float32), census.weights, census.bounds)

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins: (P, count)."""
        out = np.empty((len(self.bounds) - 1, count), np.int64)
        _bins(self.values, self.weights, self.bounds, extremes, out)
        return out

    def ranked(self, ranks: Counts) -> Floats:
        """The pixels at ascending ranks, (P, R), as float64; NaN where there is none."""
        out = np.full(ranks.shape, np.nan)
        _rank(self.values, self.weights, self.bounds, ranks, out)
        return out

    def census(self) -> Census:
        """How often each number occurs, by all bits of its key."""
        found = np.empty(len(self.values), np.uint32)
        keys(self.values, found, 0)
        return Census(found, self.weights, self.bounds).trimmed()  # the table is larger


def _make_table(
    pixels: Array, bounds: Array, extents: Array, values: Array, weights: Array, starts: Array
) -> None:
    """Count each number of each plane; keep those that occur."""
    tables = np.empty((4, SPAN), np.int32)
    at = np.empty(STEP, np.uint32)
    k = np.int64(0)
    for p in range(len(extents)):
        low, size = np.int32(extents[p, 0]), extents[p, 1] - extents[p, 0] + 1
        tables[:, :size] = 0
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = pixels[first : min(first + STEP, bounds[p + 1])]
            for j in range(len(run)):
                at[j] = np.uint32(np.int32(run[j]) - low)
            tally(at[: len(run)], tables)
        starts[p] = k
        for i in range(size):
            count = tables[0, i] + tables[1, i] + tables[2, i] + tables[3, i]
            if count:
                values[k], weights[k] = np.float32(low + i), count
                k += 1
    starts[len(extents)] = k


_tabulate = compiled(_make_table, "void(f4[::1], i8[::1], i8[:,::1], f4[::1], i8[::1], i8[::1])")


def _count_bins(values: Array, weights: Array, bounds: Array, extent: Array, out: Array) -> None:
    """Count floor((x - low) * bins / (high - low)), the last bin closed; out (P, bins)."""
    last = out.shape[1] - 1
    out[:] = 0
    for p in range(len(out)):
        low = extent[p, 0]
        span = extent[p, 1] - low
        wide = span if span > 0.0 else 1.0
        for i in range(bounds[p], bounds[p + 1]):
            out[p, min(np.int64((values[i] - low) * (last + 1.0) / wide), last)] += weights[i]


_bins = compiled(_count_bins, "void(f4[::1], i8[::1], i8[::1], f8[:,::1], i8[:,::1])")


def _find_ranks(values: Array, weights: Array, bounds: Array, ranks: Array, out: Array) -> None:
    """Fill out (P, R) with the numbers at ascending ranks of planes that hold any."""
    for p in range(len(out)):
        i, passed = bounds[p], np.int64(0)
        for r in range(ranks.shape[1] if i < bounds[p + 1] else 0):
            while passed + weights[i] <= ranks[p, r]:
                passed += weights[i]
                i += 1
            out[p, r] = values[i]


_rank = compiled(_find_ranks, "void(f4[::1], i8[::1], i8[::1], i8[:,::1], f8[:,::1])")

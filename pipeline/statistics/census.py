"""How often bits of keys occur: what parts of an image say about order, and what merges of it say.

The key of a float32 is an unsigned integer that sorts as the float does, NaN last. Few of its first
bits occur in an image, and few keys begin like a wanted one: only what occurs is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled
from pipeline.statistics.native import Array
from pipeline.types import Ints

Counts = npt.NDArray[np.int64]
Places = npt.NDArray[np.uint32]

AT_ONCE: Ints = (32,)
"""Bits of keys that each pass counts, where one tells all: of few whole numbers."""
IN_TWO: Ints = (18, 14)
"""The same for any numbers."""

KEPT = 1 << 16
"""Places of a plane up to which a census of all bits is kept."""

SPARSE = 1 << 14
"""Places of a plane up to which sorting them is cheaper than a table of all."""


@dataclass(frozen=True, slots=True)
class Census:
    """The numbers that occur in each of P planes, ascending, and how often.

    places: slot * 2^bits + the bits of a key that were counted, the slot being that of the bits
    before; weights: how often; bounds: where the planes begin, and the end.
    """

    places: Places
    weights: Counts
    bounds: Counts

    @classmethod
    def of(cls, counts: Counts) -> Census:
        """What occurs in counts (P, slots, 2^bits)."""
        flat = counts.reshape(len(counts), -1)
        planes, places = np.nonzero(flat)
        bounds = np.searchsorted(planes, np.arange(len(flat) + 1))
        return cls(places.astype(np.uint32), flat[planes, places], bounds)

    @classmethod
    def counting(cls, places: Places, bounds: Counts, size: int) -> Census:
        """What occurs among places below a size; few are sorted where they stand."""
        stop, planes = bounds[-1], len(bounds) - 1
        room = min(stop, planes * size) + 1
        kept = np.empty(room, np.uint32), np.empty(room, np.int64), np.empty_like(bounds)
        if stop > SPARSE * planes:
            _count(places, bounds, size, kept)
        else:
            for start, end in pairwise(bounds):
                places[start:end].sort()
            _runs(places, bounds, kept)
        return cls(*kept).trimmed()

    def trimmed(self) -> Census:
        """The same without room behind the last plane."""
        stop = self.bounds[-1]
        return Census(self.places[:stop].copy(), self.weights[:stop].copy(), self.bounds)

    @property
    def most(self) -> int:
        """Places of the plane that has most of them."""
        return int(np.diff(self.bounds).max())

    def leading(self, bits: int) -> Census:
        """How often the first bits occur, where all 32 were counted."""
        room = len(self.places) + 1
        kept = np.empty(room, np.uint32), np.empty(room, np.int64), np.empty_like(self.bounds)
        _shorten((self.places, self.weights, self.bounds), 32 - bits, kept)
        return Census(*kept).trimmed()

    def merge(self, other: Census) -> Census:
        """What occurs in two parts of the same planes."""
        size = len(self.places) + len(other.places)
        places, weights = np.empty(size, np.uint32), np.empty(size, np.int64)
        both = Census(places, weights, np.empty_like(self.bounds))
        parts = (self, other, both)
        _merge(*((one.places, one.weights, one.bounds) for one in parts))
        return both.trimmed()


def _find_runs(sorted: Array, bounds: Array, kept: tuple[Array, Array, Array]) -> None:
    """Keep each number of ascending ones once, and how often it stands there."""
    places, weights, starts = kept
    k = 0
    for p in range(len(bounds) - 1):
        starts[p] = k
        for i in range(bounds[p], bounds[p + 1]):
            if k == starts[p] or places[k - 1] != sorted[i]:
                places[k], weights[k] = sorted[i], 0
                k += 1
            weights[k - 1] += 1
    starts[len(bounds) - 1] = k


_COUNTED = "Tuple((u4[::1], i8[::1], i8[::1]))"
_runs = compiled(_find_runs, f"void(u4[::1], i8[::1], {_COUNTED})")


def _cut_keys(
    given: tuple[Array, Array, Array], down: int, kept: tuple[Array, Array, Array]
) -> None:
    """Move ascending places down by some bits, and add the weights of those that become one."""
    places, weights, starts = kept
    k = 0
    for p in range(len(starts) - 1):
        starts[p] = k
        for i in range(given[2][p], given[2][p + 1]):
            place = np.uint32(given[0][i] >> np.uint32(down))
            if k == starts[p] or places[k - 1] != place:
                places[k], weights[k] = place, 0
                k += 1
            weights[k - 1] += given[1][i]
    starts[len(starts) - 1] = k


_shorten = compiled(_cut_keys, f"void({_COUNTED}, i8, {_COUNTED})")


def _find_counts(given: Array, bounds: Array, size: int, kept: tuple[Array, Array, Array]) -> None:
    """Count numbers below a size in a table; keep those that occur."""
    places, weights, starts = kept
    table = np.empty(size, np.int32)  # one: to read four takes longer than neighbours wait
    k = np.uint64(0)  # unsigned: an index that need not be looked at for its sign
    for p in range(len(bounds) - 1):
        table[:] = 0
        starts[p] = k
        for i in range(bounds[p], bounds[p + 1]):
            table[given[i]] += 1
        for place in range(size):
            places[k], weights[k] = place, table[place]
            k += np.uint64(table[place] != 0)
    starts[len(bounds) - 1] = k


_count = compiled(_find_counts, f"void(u4[::1], i8[::1], i8, {_COUNTED})")


def _merge_two(
    first: tuple[Array, Array, Array],
    second: tuple[Array, Array, Array],
    both: tuple[Array, Array, Array],
) -> None:
    """Merge ascending numbers and their weights, plane by plane."""
    places, weights, starts = both
    k = 0
    for p in range(len(starts) - 1):
        starts[p] = k
        i, j = first[2][p], second[2][p]
        while i < first[2][p + 1] or j < second[2][p + 1]:
            a = np.int64(first[0][i]) if i < first[2][p + 1] else np.int64(1 << 32)
            b = np.int64(second[0][j]) if j < second[2][p + 1] else np.int64(1 << 32)
            places[k], weights[k] = np.uint32(min(a, b)), 0
            if a <= b:
                weights[k] += first[1][i]
                i += 1
            if b <= a:
                weights[k] += second[1][j]
                j += 1
            k += 1
    starts[len(starts) - 1] = k


_merge = compiled(_merge_two, f"void({_COUNTED}, {_COUNTED}, {_COUNTED})")

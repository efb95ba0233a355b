"""Planes counted once in many equal bins: coarser bins and ranks follow from few pixels more.

A bin is floor((x - min) * (FINE / (max - min))) in float64. That ascends with x, so the pixel of
some rank lies in a known bin, and only the pixels of such bins have to be sorted. Where each of the
coarser bins, which a division finds, begins with a fine one, its count is the sum of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled
from pipeline.statistics.base import Counts, Floats
from pipeline.statistics.counting import STEP, key_of, tally, value_of
from pipeline.statistics.native import Array

FINE = 1 << 12
"""Bins: the tables of a count stay in the nearest cache, and few pixels share a bin."""

FEW = 1 << 11
"""Pixels of a plane up to which sorting them all is cheaper."""

_NUDGE = 1 + 2.0**-50
"""Times the factor, lest a product be below the whole number that a quotient is exactly."""

_SHARE = 4
"""A plane is left to be searched bit by bit if more than 1 / _SHARE of it had to be sorted."""


@dataclass(frozen=True, slots=True)
class Fine:
    """P planes counted in fine bins.

    pixels: of all planes; codes: the bin of each; bounds: where the planes begin, and the end;
    extremes: (P, 2); counts: (P, FINE).
    """

    pixels: npt.NDArray[np.float32]
    codes: npt.NDArray[np.uint16]
    bounds: Counts
    extremes: Floats
    counts: Counts

    @classmethod
    def of(cls, pixels: npt.NDArray[np.float32], bounds: Counts, extremes: Floats) -> Fine | None:
        """Count the pixels of planes; None where one has no finite span, or few pixels."""
        with np.errstate(invalid="ignore"):  # inf - inf
            spans = extremes[:, 1] - extremes[:, 0]
        if not ((spans > 0) & (spans < np.inf)).all() or np.diff(bounds).min() <= FEW:
            return None
        codes = np.empty(len(pixels), np.uint16)
        counts = np.empty((len(spans), FINE), np.int64)
        _count(pixels, bounds, extremes, codes, counts)
        return cls(pixels, codes, bounds, extremes, counts)

    def bins(self, count: int) -> Counts | None:
        """Count equal bins: (P, count); None where one does not begin with a fine one.

        count: a divisor of FINE.
        """
        found = np.empty((len(self.counts), count), np.int64)
        return found if _coarse(self.extremes, self.counts, found) else None

    def ranked(self, ranks: Counts) -> Floats | None:
        """The pixels at ascending ranks, (P, R), as float64; None where too many are alike."""
        bins, places = np.empty(ranks.shape, np.uint16), np.empty_like(ranks)
        ends = np.empty((len(ranks), 2), np.int64)
        _locate(self.counts, ranks, bins, places, ends)
        if ends[-1, 1] * _SHARE > self.bounds[-1]:
            return None
        kept = np.empty(ends[-1, 1] + 1, np.float32)
        _gather(self.pixels, self.codes, self.bounds, bins, ends, kept)
        start = 0
        for _, stop in ends:
            kept[start:stop].sort()
            start = stop
        return kept[places].astype(np.float64) + 0.0  # -0 is 0


def _count_fine(pixels: Array, bounds: Array, extremes: Array, codes: Array, counts: Array) -> None:
    """Fill codes with the bin of each pixel, and count them."""
    tables = np.empty((4, FINE), np.int32)
    for p in range(len(counts)):
        low = extremes[p, 0]
        scale = FINE / (extremes[p, 1] - low) * _NUDGE
        tables[:] = 0
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = pixels[first : min(first + STEP, bounds[p + 1])]
            found = codes[first : first + len(run)]
            for j in range(len(run)):
                found[j] = np.uint16(min(np.int32((run[j] - low) * scale), np.int32(FINE - 1)))
            tally(found, tables)
        for i in range(FINE):
            counts[p, i] = tables[0, i] + tables[1, i] + tables[2, i] + tables[3, i]


_count = compiled(_count_fine, "void(f4[::1], i8[::1], f8[:,::1], u2[::1], i8[:,::1])")


def _bin(key: int, low: float, wide: float, bins: int) -> float:
    """The bin, by a division, of the number that a key stands for; not rounded down."""
    return (value_of(key) - low) * bins / wide


_bin_of = compiled(_bin)


def _find_first(place: int, low: float, wide: float, bins: int, first: int, last: int) -> int:
    """The key of the least number in a bin that is not the first one; first, last: of all keys.

    It is looked for around the border, in steps that double, then by halves.
    """
    near = key_of(low + place * wide / bins)
    step = 1
    while near - step > first and _bin_of(near - step, low, wide, bins) >= place:
        step *= 2
    below = max(near - step, first)
    step = 1
    while near + step < last and _bin_of(near + step, low, wide, bins) < place:
        step *= 2
    at = min(near + step, last)
    while at - below > 1:
        middle = (below + at) // 2
        if _bin_of(middle, low, wide, bins) >= place:
            at = middle
        else:
            below = middle
    return at


_first_of = compiled(_find_first)


def _add_bins(extremes: Array, counts: Array, out: Array) -> bool:
    """Count coarser bins, out (P, bins); False where one of them does not begin with a fine one.

    The first number of a bin has to be the first one of a fine bin, too.
    """
    bins = out.shape[1]
    share = FINE // bins
    for p in range(len(out)):
        low = extremes[p, 0]
        wide = extremes[p, 1] - low
        scale = FINE / wide * _NUDGE
        ends = key_of(low), key_of(extremes[p, 1])
        for place in range(1, bins):
            at = _first_of(place, low, wide, bins, *ends)
            here, before = value_of(at), value_of(at - 1)
            if (here - low) * scale < place * share or (before - low) * scale >= place * share:
                return False
        for place in range(bins):
            out[p, place] = counts[p, place * share : (place + 1) * share].sum()
    return True


_coarse = compiled(_add_bins, "b1(f8[:,::1], i8[:,::1], i8[:,::1])")


def _find_places(counts: Array, ranks: Array, bins: Array, places: Array, ends: Array) -> None:
    """Find the bins that hold ranks, and where the ranks are once what these hold is sorted.

    bins: (P, R), each once, in ends[:, 0] slots; places: among the kept pixels of all planes, whose
    number up to a plane's end is in ends[:, 1].
    """
    kept = 0
    for p in range(len(ranks)):
        place, passed, slots = 0, 0, 0
        for i in range(ranks.shape[1]):
            while passed + counts[p, place] <= ranks[p, i]:
                passed += counts[p, place]
                place += 1
            if slots == 0 or bins[p, slots - 1] != place:
                bins[p, slots] = place
                slots += 1
                kept += counts[p, place]
            places[p, i] = kept - counts[p, place] + ranks[p, i] - passed
        ends[p, 0], ends[p, 1] = slots, kept


_locate = compiled(_find_places, "void(i8[:,::1], i8[:,::1], u2[:,::1], i8[:,::1], i8[:,::1])")


def _keep_plane(pixels: Array, codes: Array, bins: Array, kept: Array) -> int:
    """Copy the pixels of bins; how many. kept has room for one more."""
    marks = np.empty(STEP, np.uint8)
    eights = marks.view(np.uint64)
    last = len(bins) - 1
    k = np.uint64(0)  # unsigned: an index that need not be looked at for its sign
    for first in range(0, len(codes), STEP):
        found, run = codes[first : first + STEP], pixels[first : first + STEP]
        marks[:] = 0
        for slot in range(0, len(bins), 3):
            a, b, c = bins[slot], bins[min(slot + 1, last)], bins[min(slot + 2, last)]
            for j in range(len(found)):
                marks[j] |= np.uint8((found[j] == a) | (found[j] == b) | (found[j] == c))
        whole = len(found) // 8
        for eight in range(whole):
            if eights[eight]:
                for j in range(8 * eight, 8 * eight + 8):
                    kept[k] = run[j]
                    k += np.uint64(marks[j])
        for j in range(8 * whole, len(found)):
            kept[k] = run[j]
            k += np.uint64(marks[j])
    return int(k)


_keep_one = compiled(_keep_plane)


def _keep(
    pixels: Array, codes: Array, bounds: Array, bins: Array, ends: Array, kept: Array
) -> None:
    """Copy the pixels of bins, plane after plane."""
    k = 0
    for p in range(len(bins)):
        plane = slice(bounds[p], bounds[p + 1])
        k += _keep_one(pixels[plane], codes[plane], bins[p, : ends[p, 0]], kept[k:])


_gather = compiled(_keep, "void(f4[::1], u2[::1], i8[::1], u2[:,::1], i8[:,::1], f4[::1])")

"""Loops over pixels that numba compiles: one run of valid pixels per cell, cells in their order.

Sums are kept in 256 lanes, pixel i of a run in lane i % 256, and folded by halves: an order that
vectorises and is the same on every processor. No fast-math: every operation is exactly rounded.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled
from pipeline.statistics.cells import CELL

LANES = 256
STEP = 1024
"""Pixels worked on at a time where a vector loop feeds a scalar one."""

Array = npt.NDArray[Any]


# --- pixels to runs --------------------------------------------------------------------------


def _pack(values: Array, valid: Array, masked: bool, pixels: Array, starts: Array) -> None:
    """Copy (P, Z, Y, X) to `pixels`, cell after cell, without the invalid ones.

    starts: where each cell begins, and the end. -0 becomes 0 and every NaN the same one, so equal
    pixels have equal bits.
    """
    zero, nan = np.float32(0.0), np.float32(np.nan)
    planes, depth, height, width = values.shape
    k, cell = np.int64(0), 0
    for p in range(planes):
        for z in range(depth):
            for top in range(0, height, CELL):
                for left in range(0, width, CELL):
                    starts[cell] = k
                    cell += 1
                    for y in range(top, min(top + CELL, height)):
                        line = values[p, z, y, left : left + CELL]
                        run = pixels[k : k + len(line)]
                        if masked:
                            inside = valid[p, z, y, left : left + CELL]
                            count = np.uint64(0)  # unsigned, as in `sieve`
                            for j in range(len(line)):
                                run[count] = line[j] + zero if line[j] == line[j] else nan
                                count += np.uint64(inside[j])
                            k += np.int64(count)
                        else:
                            for j in range(len(line)):
                                run[j] = line[j] + zero if line[j] == line[j] else nan
                            k += len(line)
    starts[cell] = k


pack = compiled(_pack, "void(f4[:,:,:,::1], b1[:,:,:,::1], b1, f4[::1], i8[::1])")


# --- sums ------------------------------------------------------------------------------------


def _folded(lane: Array) -> float:
    half = LANES
    while half > 1:
        half //= 2
        for j in range(half):
            lane[j] += lane[j + half]
    return float(lane[0])


_fold = compiled(_folded)


def _totals(pixels: Array, starts: Array, out: Array) -> None:
    """out[cell] = sum of x."""
    lane = np.empty(LANES)
    for cell in range(len(out)):
        x = pixels[starts[cell] : starts[cell + 1]]
        lane[:] = 0.0
        for first in range(0, len(x), LANES):
            run = x[first : first + LANES]
            for j in range(len(run)):
                lane[j] += run[j]
        out[cell, 0] = _fold(lane)


totals = compiled(_totals, "void(f4[::1], i8[::1], f8[:,::1])")


def _deviations(pixels: Array, starts: Array, centres: Array, out: Array) -> None:
    """out[cell] = sums of |x - a| and |x - b|; centres (P, 2): a and b of each plane."""
    lanes = np.empty((2, LANES))
    cells = len(out) // len(centres)
    for cell in range(len(out)):
        x = pixels[starts[cell] : starts[cell + 1]]
        a, b = centres[cell // cells, 0], centres[cell // cells, 1]
        lanes[:] = 0.0
        left, right = lanes[0], lanes[1]
        for first in range(0, len(x), LANES):
            run = x[first : first + LANES]
            for j in range(len(run)):
                left[j] += abs(run[j] - a)
                right[j] += abs(run[j] - b)
        out[cell, 0], out[cell, 1] = _fold(left), _fold(right)


deviations = compiled(_deviations, "void(f4[::1], i8[::1], f8[:,::1], f8[:,::1])")


def _within(pixels: Array, starts: Array, ends: Array, centres: Array, out: Array) -> None:
    """out[cell] = n, sums of x and of |x - c|, of the x in a .. b; ends (P, 2), centres (P,)."""
    lanes = np.empty((3, LANES))
    cells = len(out) // len(centres)
    for cell in range(len(out)):
        x, c = pixels[starts[cell] : starts[cell + 1]], centres[cell // cells]
        a, b = ends[cell // cells, 0], ends[cell // cells, 1]
        lanes[:] = 0.0
        n, total, apart = lanes[0], lanes[1], lanes[2]
        for first in range(0, len(x), LANES):
            run = x[first : first + LANES]
            for j in range(len(run)):
                inside = (a <= run[j]) & (run[j] <= b)
                n[j] += 1.0 if inside else 0.0
                total[j] += run[j] if inside else 0.0
                apart[j] += abs(run[j] - c) if inside else 0.0
        out[cell, 0], out[cell, 1], out[cell, 2] = _fold(n), _fold(total), _fold(apart)


within = compiled(_within, "void(f4[::1], i8[::1], f8[:,::1], f8[::1], f8[:,::1])")


def _moments(pixels: Array, starts: Array, out: Array) -> None:
    """out[cell] = n, mean, M2, M3, M4 about a mean that is corrected; sums of x and of x * x."""
    lanes = np.empty((6, LANES))
    for cell in range(len(out)):
        x = pixels[starts[cell] : starts[cell + 1]]
        n = float(len(x))
        lanes[:] = 0.0
        l1, l2, l3, l4 = lanes[0], lanes[1], lanes[2], lanes[3]
        total, squares = lanes[4], lanes[5]
        for first in range(0, len(x), LANES):
            run = x[first : first + LANES]
            for j in range(len(run)):
                v = np.float64(run[j])
                total[j] += v
                squares[j] += v * v
        s, q = _fold(total), _fold(squares)
        divisor = max(n, 1.0)
        mean = s / divisor
        for first in range(0, len(x), LANES):
            run = x[first : first + LANES]
            for j in range(len(run)):
                d = run[j] - mean
                d2 = d * d
                l1[j] += d
                l2[j] += d2
                l3[j] += d2 * d
                l4[j] += d2 * d2
        s1, s2, s3, s4 = _fold(l1), _fold(l2), _fold(l3), _fold(l4)
        e = s1 / divisor  # what rounding left of the mean
        out[cell, 0], out[cell, 1], out[cell, 5], out[cell, 6] = n, mean + e, s, q
        out[cell, 2] = s2 - s1 * e
        out[cell, 3] = s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e)
        out[cell, 4] = s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e)


moments = compiled(_moments, "void(f4[::1], i8[::1], f8[:,::1])")


# --- counts ----------------------------------------------------------------------------------


def _count_up(places: Array, tables: Array) -> None:
    """Count places (n,) uint32 in four tables (4, bins): neighbours, often equal, do not wait."""
    a, b, c, d = tables[0], tables[1], tables[2], tables[3]
    last = len(places) // 4 * 4
    for j in range(0, last, 4):
        a[places[j]] += 1
        b[places[j + 1]] += 1
        c[places[j + 2]] += 1
        d[places[j + 3]] += 1
    for j in range(last, len(places)):
        a[places[j]] += 1


tally = compiled(_count_up)


# --- order -----------------------------------------------------------------------------------
# The key of a float32 is an unsigned integer that sorts as the float does, NaN last.


def _find_keys(pixels: Array, out: Array, down: int) -> None:
    """The keys, moved down by some bits."""
    bits, few = pixels.view(np.int32), np.uint32(down)
    for i in range(len(bits)):
        b = bits[i]
        out[i] = np.uint32(b ^ ((b >> np.int32(31)) | np.int32(-(2**31)))) >> few


_keys = compiled(_find_keys)
keys = compiled(_find_keys, "void(f4[::1], u4[::1], i8)")


def _values(keys: Array, out: Array) -> None:
    """out = the numbers that these keys stand for."""
    bits = np.empty(len(keys), np.uint32)
    values = bits.view(np.float32)
    for i in range(len(keys)):
        bits[i] = keys[i] ^ 0x80000000 if keys[i] >> 31 else ~keys[i]
        out[i] = values[i]


values_of = compiled(_values)


def _extremes(pixels: Array, bounds: Array, out: Array) -> None:
    """out (P, 2) = least and greatest value; inf and -inf where none is, NaN where one is NaN."""
    bits, both = pixels.view(np.int32), np.empty(2, np.int64)
    for p in range(len(out)):
        run = bits[bounds[p] : bounds[p + 1]]
        low, high = np.int32(2**31 - 1), np.int32(-(2**31))
        for i in range(len(run)):
            key = run[i] ^ ((run[i] >> np.int32(31)) & np.int32(2**31 - 1))
            low, high = min(low, key), max(high, key)
        if low > high:
            out[p, 0], out[p, 1] = np.inf, -np.inf
        else:
            both[0], both[1] = low + 2**31, high + 2**31
            values_of(both, out[p])
            if out[p, 1] != out[p, 1]:
                out[p, 0] = np.nan


extremes = compiled(_extremes, "void(f4[::1], i8[::1], f8[:,::1])")


def _bins(pixels: Array, bounds: Array, extent: Array, out: Array) -> None:
    """Count floor((x - low) * bins / (high - low)), the last bin closed; out (P, bins)."""
    last = out.shape[1] - 1
    places = np.empty(STEP, np.int32)
    at = places.view(np.uint32)  # an index that need not be looked at for its sign
    tables = np.empty((4, out.shape[1]), np.int64)
    for p in range(len(out)):
        low = extent[p, 0]
        span = extent[p, 1] - low
        tables[:] = 0
        if isfinite(span):
            wide = span if span > 0.0 else 1.0
            for first in range(bounds[p], bounds[p + 1], STEP):
                run = pixels[first : min(first + STEP, bounds[p + 1])]
                for j in range(len(run)):
                    places[j] = min(np.int32((run[j] - low) * (last + 1.0) / wide), np.int32(last))
                tally(at[: len(run)], tables)
        out[p] = tables[0] + tables[1] + tables[2] + tables[3]


bins = compiled(_bins, "void(f4[::1], i8[::1], f8[:,::1], i8[:,::1])")


def _count_first(pixels: Array, bounds: Array, bits: int, out: Array) -> None:
    """Count the first bits of the keys of pixels; out (P, 1, 2^bits)."""
    found = np.empty(STEP, np.uint32)
    tables = np.empty((4, out.shape[2]), np.int32)
    for p in range(len(out)):
        tables[:] = 0
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = pixels[first : min(first + STEP, bounds[p + 1])]
            _keys(run, found, 32 - bits)
            tally(found[: len(run)], tables)
        for i in range(out.shape[2]):
            out[p, 0, i] = tables[0, i] + tables[1, i] + tables[2, i] + tables[3, i]


count_first = compiled(_count_first, "void(f4[::1], i8[::1], i8, i8[:,:,::1])")


def _sieve_first(
    pixels: Array, bounds: Array, leading: Array, bits: int, kept: tuple[Array, Array, Array]
) -> None:
    """Keep the keys of pixels whose first bits are among leading (P, slots), ascending.

    kept: keys, the slot of each, and where planes begin; of equal slots the first.
    """
    fewer, places, starts = kept
    none = leading.shape[1]
    down = np.uint32(32 - bits)
    found = np.empty(STEP, np.uint32)
    table = np.empty(1 << bits, np.uint8)
    k = np.uint64(0)  # unsigned: an index that need not be looked at for its sign
    for p in range(len(leading)):
        table[:] = none
        for slot in range(none - 1, -1, -1):
            table[leading[p, slot]] = slot
        starts[p] = k
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = pixels[first : min(first + STEP, bounds[p + 1])]
            _keys(run, found, 0)
            for j in range(len(run)):
                place = table[found[j] >> down]
                fewer[k], places[k] = found[j], place
                k += np.uint64(place != none)
    starts[len(leading)] = k


_SIEVED = "Tuple((u4[::1], u1[::1], i8[::1]))"
sieve_first = compiled(_sieve_first, f"void(f4[::1], i8[::1], i8[:,::1], i8, {_SIEVED})")


def _sieve(
    given: tuple[Array, Array, Array],
    leading: Array,
    done: int,
    step: int,
    kept: tuple[Array, Array, Array],
) -> None:
    """Keep the keys whose first `done` bits are among leading (P, slots), ascending.

    given, kept: keys, the slot of each, and where planes begin; of equal slots the first. The
    given keys have been sieved by all but the last `step` of these bits.
    """
    keys, slots, bounds = given
    fewer, places, starts = kept
    none = leading.shape[1]
    shift, mask = np.uint32(32 - done), np.uint32((1 << step) - 1)
    table = np.empty((none, 1 << step), np.uint8)
    first = np.zeros(none, np.int64)
    k = np.uint64(0)  # unsigned: an index that need not be looked at for its sign
    for p in range(len(leading)):
        begin = leading[p]
        for slot in range(1, none):
            same = begin[slot] >> step == begin[slot - 1] >> step
            first[slot] = first[slot - 1] if same else slot
        table[:] = none
        for slot in range(none - 1, -1, -1):
            table[first[slot], begin[slot] & mask] = slot
        starts[p] = k
        run, before = keys[bounds[p] : bounds[p + 1]], slots[bounds[p] : bounds[p + 1]]
        for i in range(len(run)):
            place = table[before[i], (run[i] >> shift) & mask]
            fewer[k], places[k] = run[i], place
            k += np.uint64(place != none)
    starts[len(leading)] = k


sieve = compiled(_sieve, f"void({_SIEVED}, i8[:,::1], i8, i8, {_SIEVED})")


def _count(keys: Array, slots: Array, bounds: Array, shift: int, out: Array) -> None:
    """Count the bits from `shift` on of each slot's keys; out (P, slots, 2^bits), 0 before."""
    down, mask = np.uint32(shift), np.uint32(out.shape[2] - 1)
    for p in range(len(out)):
        run, places = keys[bounds[p] : bounds[p + 1]], slots[bounds[p] : bounds[p + 1]]
        counts = out[p]
        for i in range(len(run)):
            counts[places[i], (run[i] >> down) & mask] += 1


count = compiled(_count, "void(u4[::1], u1[::1], i8[::1], i8, i8[:,:,::1])")

"""Loops over pixels that numba compiles: one run of valid pixels per cell, cells in their order.

Sums are kept in 256 lanes, pixel i of a run in lane i % 256, and folded by halves: an order that
vectorises and is the same on every processor. No fast-math: every operation is exactly rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from pipeline.statistics.cells import CELL

LANES = 256
STEP = 1024
"""Pixels worked on at a time where a vector loop feeds a scalar one."""

TOP = 12
"""Leading bits of a key that are counted without looking for a match."""

_F = TypeVar("_F", bound=Callable[..., Any])
Array = npt.NDArray[Any]


def compiled(function: _F, signature: str | None = None) -> _F:
    """Compile for a signature, or take what an earlier process left in the cache.

    Without a signature it becomes part of the functions that call it.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if signature is None:
        return cast("_F", numba.njit(**options)(function))
    try:
        return cast("_F", numba.njit(signature, cache=True, **options)(function))
    except RuntimeError:  # no folder to keep it in: compile in each process
        return cast("_F", numba.njit(signature, **options)(function))


# --- pixels to runs --------------------------------------------------------------------------


def _pack(values: Array, valid: Array, masked: bool, pixels: Array, starts: Array) -> None:
    """Copy (P, Z, Y, X) to `pixels`, cell after cell, without the invalid ones.

    starts: where each cell begins, and the end. -0 becomes 0 and every NaN the same one, so equal
    pixels have equal bits.
    """
    zero, nan = np.float32(0.0), np.float32(np.nan)
    planes, depth, height, width = values.shape
    k = cell = 0
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
                            count = 0
                            for j in range(len(line)):
                                run[count] = line[j] + zero if line[j] == line[j] else nan
                                count += inside[j]
                            k += count
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


# --- order -----------------------------------------------------------------------------------
# The key of a float32 is an unsigned integer that sorts as the float does, NaN last.


def _keys(bits: Array, keys: Array) -> None:
    for j in range(len(bits)):
        b = bits[j]
        keys[j] = np.uint32(b ^ ((b >> np.int32(31)) | np.int32(-(2**31))))


keys_of = compiled(_keys)


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
    bits, keys = pixels.view(np.int32), np.empty(2, np.int64)
    for p in range(len(out)):
        run = bits[bounds[p] : bounds[p + 1]]
        low, high = np.int32(2**31 - 1), np.int32(-(2**31))
        for i in range(len(run)):
            key = run[i] ^ ((run[i] >> np.int32(31)) & np.int32(2**31 - 1))
            low, high = min(low, key), max(high, key)
        if low > high:
            out[p, 0], out[p, 1] = np.inf, -np.inf
        else:
            keys[0], keys[1] = low + 2**31, high + 2**31
            values_of(keys, out[p])
            if out[p, 1] != out[p, 1]:
                out[p, 0] = np.nan


extremes = compiled(_extremes, "void(f4[::1], i8[::1], f8[:,::1])")


def _bins(pixels: Array, bounds: Array, extent: Array, out: Array) -> None:
    """Count floor((x - low) * bins / (high - low)), the last bin closed; out (P, bins)."""
    last = out.shape[1] - 1
    places = np.empty(STEP, np.int32)
    twice = np.empty((2, out.shape[1]), np.int64)
    even, odd = twice[0], twice[1]  # equal neighbours need not wait for each other
    for p in range(len(out)):
        low = extent[p, 0]
        span = extent[p, 1] - low
        twice[:] = 0
        if isfinite(span):
            wide = span if span > 0.0 else 1.0
            for first in range(bounds[p], bounds[p + 1], STEP):
                run = pixels[first : min(first + STEP, bounds[p + 1])]
                for j in range(len(run)):
                    places[j] = min(np.int32((run[j] - low) * (last + 1.0) / wide), np.int32(last))
                for j in range(0, len(run) - 1, 2):
                    even[places[j]] += 1
                    odd[places[j + 1]] += 1
                if len(run) % 2:
                    even[places[len(run) - 1]] += 1
        out[p] = even + odd


bins = compiled(_bins, "void(f4[::1], i8[::1], f8[:,::1], i8[:,::1])")


def _tops(pixels: Array, bounds: Array, out: Array) -> None:
    """Count the first TOP bits of the keys; out (P, 2^TOP), 0 before."""
    bits, shift = pixels.view(np.int32), np.uint32(32 - TOP)
    keys = np.empty(STEP, np.uint32)
    for p in range(len(out)):
        counts = out[p]
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = bits[first : min(first + STEP, bounds[p + 1])]
            keys_of(run, keys)
            for j in range(len(run)):
                counts[keys[j] >> shift] += 1


tops = compiled(_tops, "void(f4[::1], i8[::1], i8[:,::1])")


def _below(pixels: Array, bounds: Array, leading: Array, done: int, more: int, out: Array) -> None:
    """Count the `more` bits after the first `done` of the keys that begin like a leading one.

    leading: (P, slots), ascending, of which equal ones are counted in the first slot;
    out: (P, slots + 1, 2^more), 0 before; the last slot is for all other keys. No branch depends
    on a pixel: two tables lead from its bits to its slot.
    """
    bits, slots = pixels.view(np.int32), leading.shape[1]
    after = done - TOP
    inner, fresh = np.uint32((1 << after) - 1), np.uint32((1 << more) - 1)
    top, middle, rest = np.uint32(32 - TOP), np.uint32(32 - done), np.uint32(32 - done - more)
    keys = np.empty(STEP, np.uint32)
    coarse = np.empty(1 << TOP, np.uint8)
    fine = np.empty((slots + 1, 1 << after), np.uint8)
    for p in range(len(out)):
        coarse[:], fine[:] = slots, slots
        for slot in range(slots - 1, -1, -1):
            coarse[leading[p, slot] >> after] = slot
        for slot in range(slots - 1, -1, -1):
            fine[coarse[leading[p, slot] >> after], leading[p, slot] & inner] = slot
        counts = out[p]
        for first in range(bounds[p], bounds[p + 1], STEP):
            run = bits[first : min(first + STEP, bounds[p + 1])]
            keys_of(run, keys)
            for j in range(len(run)):
                key = keys[j]
                slot = fine[coarse[key >> top], (key >> middle) & inner]
                counts[slot, (key >> rest) & fresh] += 1


below = compiled(_below, "void(f4[::1], i8[::1], i8[:,::1], i8, i8, i8[:,:,::1])")

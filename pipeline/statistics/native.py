"""Compiled loops that add pixels up: one run of valid pixels per cell, cells in their order.

Sums are kept in 256 lanes, pixel i of a run in lane i % 256, and folded by halves: an order that
vectorises and is the same on every processor. No fast-math: every operation is exactly rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled
from pipeline.statistics.cells import CELL

LANES = 256

DEEP = 4 * LANES
"""Pixels, several of a lane, that are added before its sum goes back to memory."""

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


def _raw(x: Array, total: Array, squares: Array) -> None:
    """Add x and x * x to their lanes."""
    whole = len(x) // DEEP * DEEP
    for first in range(0, whole, DEEP):
        run = x[first : first + DEEP]
        for j in range(LANES):
            s, q = total[j], squares[j]
            for k in range(DEEP // LANES):
                v = np.float64(run[k * LANES + j])
                s += v
                q += v * v
            total[j], squares[j] = s, q
    for first in range(whole, len(x), LANES):
        run = x[first : first + LANES]
        for j in range(len(run)):
            v = np.float64(run[j])
            total[j] += v
            squares[j] += v * v


_add_raw = compiled(_raw)


def _central(x: Array, mean: float, l1: Array, l2: Array, l3: Array, l4: Array) -> None:
    """Add the first four powers of x - mean to their lanes."""
    whole = len(x) // DEEP * DEEP
    for first in range(0, whole, DEEP):
        run = x[first : first + DEEP]
        for j in range(LANES):
            s1, s2, s3, s4 = l1[j], l2[j], l3[j], l4[j]
            for k in range(DEEP // LANES):
                d = run[k * LANES + j] - mean
                d2 = d * d
                s1 += d
                s2 += d2
                s3 += d2 * d
                s4 += d2 * d2
            l1[j], l2[j], l3[j], l4[j] = s1, s2, s3, s4
    for first in range(whole, len(x), LANES):
        run = x[first : first + LANES]
        for j in range(len(run)):
            d = run[j] - mean
            d2 = d * d
            l1[j] += d
            l2[j] += d2
            l3[j] += d2 * d
            l4[j] += d2 * d2


_add_central = compiled(_central)


def _moments(pixels: Array, starts: Array, out: Array) -> None:
    """out[cell] = n, mean, M2, M3, M4 about a mean that is corrected; sums of x and of x * x."""
    lanes = np.empty((6, LANES))
    for cell in range(len(out)):
        x = pixels[starts[cell] : starts[cell + 1]]
        n = float(len(x))
        lanes[:] = 0.0
        _add_raw(x, lanes[4], lanes[5])
        s, q = _fold(lanes[4]), _fold(lanes[5])
        divisor = max(n, 1.0)
        mean = s / divisor
        _add_central(x, mean, lanes[0], lanes[1], lanes[2], lanes[3])
        s1, s2, s3, s4 = _fold(lanes[0]), _fold(lanes[1]), _fold(lanes[2]), _fold(lanes[3])
        e = s1 / divisor  # what rounding left of the mean
        out[cell, 0], out[cell, 1], out[cell, 5], out[cell, 6] = n, mean + e, s, q
        out[cell, 2] = s2 - s1 * e
        out[cell, 3] = s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e)
        out[cell, 4] = s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e)


moments = compiled(_moments, "void(f4[::1], i8[::1], f8[:,::1])")

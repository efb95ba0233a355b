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

Array = npt.NDArray[Any]


# --- pixels to runs --------------------------------------------------------------------------


def _copy(plane: Array, valid: Array, masked: bool, at: tuple[int, int], run: Array) -> int:
    """Copy a cell of a plane (Y, X) to `run`, without the invalid pixels; how many there are.

    -0 becomes 0 and every NaN the same one, so equal pixels have equal bits.
    """
    zero, nan = np.float32(0.0), np.float32(np.nan)
    top, left = at
    k = np.int64(0)
    for y in range(top, min(top + CELL, len(plane))):
        line, to = plane[y, left : left + CELL], run[k:]
        if masked:
            inside = valid[y, left : left + CELL]
            count = np.uint64(0)  # unsigned, as in `sieve`
            for j in range(len(line)):
                to[count] = line[j] + zero if line[j] == line[j] else nan
                count += np.uint64(inside[j])
            k += np.int64(count)
        else:
            for j in range(len(line)):
                to[j] = line[j] + zero if line[j] == line[j] else nan
            k += len(line)
    return int(k)


copy_cell = compiled(_copy)


def _pack(values: Array, valid: Array, masked: bool, pixels: Array, starts: Array) -> None:
    """Copy the valid pixels of (P, Z, Y, X), cell after cell.

    starts: where each cell begins, and the end.
    """
    planes, depth, height, width = values.shape
    k, cell = np.int64(0), 0
    for p in range(planes):
        for z in range(depth):
            for top in range(0, height, CELL):
                for left in range(0, width, CELL):
                    starts[cell] = k
                    cell += 1
                    inside = valid[p, z] if masked else valid[0, 0]
                    k += copy_cell(values[p, z], inside, masked, (top, left), pixels[k:])
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


fold = compiled(_folded)


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
        out[cell, 0] = fold(lane)


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
        out[cell, 0], out[cell, 1] = fold(left), fold(right)


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
        out[cell, 0], out[cell, 1], out[cell, 2] = fold(n), fold(total), fold(apart)


within = compiled(_within, "void(f4[::1], i8[::1], f8[:,::1], f8[::1], f8[:,::1])")

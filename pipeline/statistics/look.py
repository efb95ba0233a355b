"""One look at pixels, a cell at a time while it is in the cache: moments, extremes, whole numbers.

Sums are kept in lanes, as in `native`; products are added by fused multiply-adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from pipeline.compiled import compiled
from pipeline.statistics.cells import CELL
from pipeline.statistics.native import LANES, Array, copy_cell, fold

DEEP = 4 * LANES
"""Pixels, several of a lane, that are added before its sum goes back to memory."""

_EXACT = np.float32(1 << 24)


def _fused(typing: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001 - as numba calls it
    """Make `fma`: a * b + c, rounded once."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.fma(*args)

    return types.float64(types.float64, types.float64, types.float64), emit


_fma: Any = intrinsic(_fused)


def _raw(x: Array, total: Array, squares: Array, low: Array, high: Array) -> None:
    """Add x and x * x to their lanes, and keep the least and the greatest; no lane keeps a NaN."""
    whole = len(x) // DEEP * DEEP
    for first in range(0, whole, DEEP):
        run = x[first : first + DEEP]
        for j in range(LANES):
            s, q, a, b = total[j], squares[j], low[j], high[j]
            for k in range(DEEP // LANES):
                v = np.float64(run[k * LANES + j])
                s += v
                q = _fma(v, v, q)
                a = min(a, v)
                b = max(b, v)
            total[j], squares[j], low[j], high[j] = s, q, a, b
    for first in range(whole, len(x), LANES):
        run = x[first : first + LANES]
        for j in range(len(run)):
            v = np.float64(run[j])
            total[j] += v
            squares[j] = _fma(v, v, squares[j])
            low[j] = min(low[j], v)
            high[j] = max(high[j], v)


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
                s2 = _fma(d, d, s2)
                s3 = _fma(d2, d, s3)
                s4 = _fma(d2, d2, s4)
            l1[j], l2[j], l3[j], l4[j] = s1, s2, s3, s4
    for first in range(whole, len(x), LANES):
        run = x[first : first + LANES]
        for j in range(len(run)):
            d = run[j] - mean
            d2 = d * d
            l1[j] += d
            l2[j] = _fma(d, d, l2[j])
            l3[j] = _fma(d2, d, l3[j])
            l4[j] = _fma(d2, d2, l4[j])


_add_central = compiled(_central)


def _describe(x: Array, lanes: Array, ends: Array, out: Array) -> None:
    """out = n, mean, M2, M3, M4 about a mean that is corrected; sums of x and of x * x.

    ends: least and greatest value by lane, (2, LANES), of other cells before and of these, too.
    """
    n = float(len(x))
    lanes[:] = 0.0
    _add_raw(x, lanes[4], lanes[5], ends[0], ends[1])
    s, q = fold(lanes[4]), fold(lanes[5])
    divisor = max(n, 1.0)
    mean = s / divisor
    _add_central(x, mean, lanes[0], lanes[1], lanes[2], lanes[3])
    s1, s2, s3, s4 = fold(lanes[0]), fold(lanes[1]), fold(lanes[2]), fold(lanes[3])
    e = s1 / divisor  # what rounding left of the mean
    out[0], out[1], out[5], out[6] = n, mean + e, s, q
    out[2] = s2 - s1 * e
    out[3] = s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e)
    out[4] = s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e)


_moments = compiled(_describe)


# --- all that one look at the pixels tells ---------------------------------------------------


def _integral(x: Array) -> bool:
    """Whether all are whole numbers that float32 tells from their neighbours."""
    for first in range(0, len(x), DEEP):
        run = x[first : first + DEEP]
        good = True
        for j in range(len(run)):
            fits = abs(run[j]) <= _EXACT  # not so for NaN
            good &= np.float32(np.int32(run[j] if fits else np.float32(0.5))) == run[j]
        if not good:
            return False
    return True


_is_integral = compiled(_integral)


def _look(
    values: Array,
    packed: bool,
    pixels: Array,
    starts: Array,
    moments: Array,
    extremes: Array,
    integral: Array,
) -> None:
    """Look at (P, Z, Y, X) cell by cell, each while it is in the cache.

    packed: the cells are in `pixels`, at `starts`; else `pixels` is room for all of them, and
    `starts` is filled, or for one of them, and `starts` is empty.
    moments: (P * cells, 7); extremes (P, 2): inf and -inf where no pixel is, NaN where one is NaN;
    integral (P,): whether all are whole numbers.
    """
    lanes, ends = np.empty((6, LANES)), np.empty((2, LANES))
    planes, depth, height, width = values.shape
    k, cell = np.int64(0), 0
    for p in range(planes):
        ends[0], ends[1] = np.inf, -np.inf
        integral[p], before = True, cell
        for z in range(depth):
            for top in range(0, height, CELL):
                for left in range(0, width, CELL):
                    if packed:
                        x = pixels[starts[cell] : starts[cell + 1]]
                    else:
                        plane, room = values[p, z], pixels[k:]
                        x = room[: copy_cell(plane, plane, False, (top, left), room)]
                        if len(starts):
                            starts[cell] = k
                            k += len(x)
                    _moments(x, lanes, ends, moments[cell])
                    integral[p] = integral[p] and _is_integral(x)
                    cell += 1
        extremes[p, 0], extremes[p, 1] = ends[0].min(), ends[1].max()
        if np.isnan(moments[before:cell, 6]).any():  # a sum of squares is NaN where a pixel is
            extremes[p] = np.nan
    if k:
        starts[cell] = k


look = compiled(_look, "void(f4[:,:,:,::1], b1, f4[::1], i8[::1], f8[:,::1], f8[:,::1], b1[::1])")

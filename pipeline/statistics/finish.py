"""From states to columns: merges of moments, ranks, entropies; compiled, for every device.

Every operation is exactly rounded, in the order that is written down.
"""

from __future__ import annotations

from math import frexp, log, sqrt

import numpy as np

from pipeline.compiled import compiled
from pipeline.statistics.counting import values_of
from pipeline.statistics.native import Array

_SQRT_HALF = sqrt(0.5)
_TWO_OVER_LN2 = 2.0 / log(2.0)


def _describe(cells: Array, out: Array) -> None:
    """Merge the moments of (P, cells, 7), one cell after another, and divide; out (7, P).

    Out come mean, standard deviation, variance, skewness, excess kurtosis, energy, root mean
    square.
    """
    for p in range(cells.shape[0]):
        n = mean = m2 = m3 = m4 = total = squares = 0.0
        for c in range(cells.shape[1]):
            nb, b2, b3, b4 = cells[p, c, 0], cells[p, c, 2], cells[p, c, 3], cells[p, c, 4]
            both = n + nb
            fa, fb = n / max(both, 1.0), nb / max(both, 1.0)
            d = cells[p, c, 1] - mean
            d2 = d * d
            m4 += (
                b4
                + d2 * d2 * (n * fb) * (fa * fa - fa * fb + fb * fb)
                + 6.0 * d2 * (fa * fa * b2 + fb * fb * m2)
                + 4.0 * d * (fa * b3 - fb * m3)
            )
            m3 += b3 + d2 * d * (n * fb) * (fa - fb) + 3.0 * d * (fa * b2 - fb * m2)
            m2 += b2 + d2 * (n * fb)
            mean += d * fb
            total += cells[p, c, 5]
            squares += cells[p, c, 6]
            n = both
        variance = m2 / n
        flat = variance == 0.0
        out[0, p] = total / n
        out[1, p] = sqrt(variance)
        out[2, p] = variance
        out[3, p] = 0.0 if flat else m3 / n / (variance * sqrt(variance))
        out[4, p] = 0.0 if flat else m4 / n / (variance * variance) - 3.0
        out[5, p] = np.nan if n == 0.0 else squares
        out[6, p] = sqrt(squares / n)


describe = compiled(_describe, "void(f8[:,:,::1], f8[:,::1])")


def _begin(n: Array, shares: Array, ranks: Array) -> None:
    """Find the ranks that quantiles lie between; ranks (P, 2 * len(shares)), ascending."""
    for p in range(len(n)):
        last = max(n[p] - 1, 0)
        for i in range(ranks.shape[1]):
            rank = min(np.int64(last * shares[i // 2]) + i % 2, last)
            slot = i
            while slot > 0 and ranks[p, slot - 1] > rank:
                ranks[p, slot] = ranks[p, slot - 1]
                slot -= 1
            ranks[p, slot] = rank


begin = compiled(_begin, "void(i8[::1], f8[::1], i8[:,::1])")


def _descend(census: tuple[Array, Array, Array], bits: int, leading: Array, ranks: Array) -> None:
    """Follow ranks through the counts of the bits that come next; changes leading and ranks.

    census: places, weights and bounds of planes, equal leading bits in the first slot; ranks:
    ascending, each among the pixels whose keys begin alike.
    """
    places, weights, bounds = census
    for p in range(len(leading)):
        at, stop = bounds[p], bounds[p + 1]
        before, slot, passed = leading[p, 0], 0, 0
        for i in range(leading.shape[1] if at < stop else 0):
            if leading[p, i] != before:
                before, slot, passed = leading[p, i], i, 0
            while at < stop - 1 and (
                np.int64(places[at]) >> bits < slot or passed + weights[at] <= ranks[p, i]
            ):
                passed += weights[at] if np.int64(places[at]) >> bits == slot else 0
                at += 1
            leading[p, i] = (before << bits) + np.int64(places[at]) % (1 << bits)
            ranks[p, i] -= passed


_CENSUS = "Tuple((u4[::1], i8[::1], i8[::1]))"
descend = compiled(_descend, f"void({_CENSUS}, i8, i8[:,::1], i8[:,::1])")


def _numbers(keys: Array, out: Array) -> None:
    """The numbers that keys stand for, (P, slots)."""
    for p in range(len(keys)):
        values_of(keys[p], out[p])


numbers = compiled(_numbers, "void(i8[:,::1], f8[:,::1])")


def _quantiles(values: Array, ranks: Array, n: Array, shares: Array, out: Array) -> None:
    """Interpolate between neighbouring ranks; out (len(shares), P), NaN where n is 0.

    values, ranks (P, slots): of the pixels at these ascending ranks of their planes.
    """
    for p in range(len(values)):
        for i in range(len(shares)):
            position = (n[p] - 1) * shares[i]
            rank, slot = np.int64(position), 0
            while ranks[p, slot] < rank:
                slot += 1
            a = values[p, slot]
            while ranks[p, slot] < min(rank + 1, n[p] - 1):
                slot += 1
            b = values[p, slot]
            t, step = position - rank, b - a
            middle = a + step * t if t < 0.5 else b - step * (1.0 - t)  # numpy's, bit for bit
            out[i, p] = middle if n[p] else np.nan


quantiles = compiled(_quantiles, "void(f8[:,::1], i8[:,::1], i8[::1], f8[::1], f8[:,::1])")


def _log2(x: float) -> float:
    """Take the logarithm of a positive number with exactly rounded operations alone.

    Library logarithms differ in the last bit between vector and scalar code, and between
    processors. x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln(m) = 2 artanh(s), s = (m-1)/(m+1).
    The series ends below 2^-56. Powers of two are exact.
    """
    mantissa, exponent = frexp(x)
    if mantissa < _SQRT_HALF:
        mantissa, exponent = mantissa * 2.0, exponent - 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = 0.0
    for odd in range(23, 0, -2):
        series = series * (s * s) + 1.0 / odd
    return exponent + series * s * _TWO_OVER_LN2


log2 = compiled(_log2)


def _entropies(counts: Array, out: Array) -> None:
    """Shannon entropy of counts (P, bins), in bits; NaN where nothing was counted."""
    for p in range(len(counts)):
        n = float(counts[p].sum())
        out[p] = 0.0 / n
        for count in counts[p]:
            if count:
                out[p] -= count / n * log2(count / n)


entropies = compiled(_entropies, "void(i8[:,::1], f8[::1])")

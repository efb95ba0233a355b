"""Compiled loops that count pixels: in bins, and by the bits of their keys.

The key of a float32 is an unsigned integer that sorts as the float does, NaN last.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from pipeline.compiled import compiled
from pipeline.statistics.native import Array

STEP = 1024
"""Pixels worked on at a time where a vector loop feeds a scalar one."""


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


def _find_keys(pixels: Array, out: Array, down: int) -> None:
    """The keys, moved down by some bits; -0 has that of 0."""
    bits, few = pixels.view(np.int32), np.uint32(down)
    for i in range(len(bits)):
        b = bits[i]
        key = np.uint32(b ^ ((b >> np.int32(31)) | np.int32(-(2**31))))
        out[i] = (key + np.uint32(key == np.uint32(2**31 - 1))) >> few


def _key(x: float) -> int:
    """The key of a number; -0 has that of 0."""
    b = np.float32(x + 0.0).view(np.int32)
    return int(np.uint32(b ^ ((b >> np.int32(31)) | np.int32(-(2**31)))))


key_of = compiled(_key)


_keys = compiled(_find_keys)
keys = compiled(_find_keys, "void(f4[::1], u4[::1], i8)")


def _value(key: int | np.integer[Any]) -> float:
    """The number that a key stands for."""
    bits = np.uint32(key ^ 0x80000000 if key >> 31 else ~key)
    return float(bits.view(np.float32))


value_of = compiled(_value)


def _values(keys: Array, out: Array) -> None:
    """out = the numbers that these keys stand for."""
    for i in range(len(keys)):
        out[i] = value_of(keys[i])


values_of = compiled(_values)


def _bins(pixels: Array, bounds: Array, extent: Array, out: Array) -> None:
    """Count floor((x - low) * bins / (high - low)), the last bin closed; out (P, bins).

    A product with bins / (high - low) takes a third of a quotient's time. The two are in different
    bins only where one is within rounding of a border between bins: such a run is divided.
    """
    last = out.shape[1] - 1
    near = (last + 1.0) * 2.0**-50  # four roundings, of 2^-53 each, and as much again
    places = np.empty(STEP, np.int32)
    at = places.view(np.uint32)  # an index that need not be looked at for its sign
    tables = np.empty((4, out.shape[1]), np.int64)
    for p in range(len(out)):
        low = extent[p, 0]
        span = extent[p, 1] - low
        tables[:] = 0
        if isfinite(span):
            wide = span if span > 0.0 else 1.0
            many = (last + 1.0) / wide
            for first in range(bounds[p], bounds[p + 1], STEP):
                run = pixels[first : min(first + STEP, bounds[p + 1])]
                doubt = False
                for j in range(len(run)):
                    place = (run[j] - low) * many
                    whole = np.rint(place)
                    doubt |= (abs(place - whole) <= near) & (whole > 0.0) & (whole <= last)
                    places[j] = min(np.int32(place), np.int32(last))
                for j in range(len(run) if doubt else 0):
                    places[j] = min(np.int32((run[j] - low) * (last + 1.0) / wide), np.int32(last))
                tally(at[: len(run)], tables)
        out[p] = tables[0] + tables[1] + tables[2] + tables[3]


bins = compiled(_bins, "void(f4[::1], i8[::1], f8[:,::1], i8[:,::1])")


def _sieve(
    pixels: Array, bounds: Array, leading: Array, bits: int, kept: tuple[Array, Array]
) -> None:
    """Keep the last bits of keys whose others are among leading (P, slots), ascending.

    kept: slot * 2^bits + the last bits, and where planes begin; of equal slots the first.
    """
    places, starts = kept
    none = leading.shape[1]
    down, mask = np.uint32(bits), np.uint32((1 << bits) - 1)
    found = np.empty(STEP, np.uint32)
    table = np.empty(1 << (32 - bits), np.uint8)
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
                slot = table[found[j] >> down]
                places[k] = np.uint32(slot) << down | found[j] & mask
                k += np.uint64(slot != none)
    starts[len(leading)] = k


sieve = compiled(_sieve, "void(f4[::1], i8[::1], i8[:,::1], i8, Tuple((u4[::1], i8[::1])))")

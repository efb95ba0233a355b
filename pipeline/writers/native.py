"""Loops of pictures that numba compiles: values to codes, bytes to Huffman's code.

Sources: RFC 1951, sections 3.2.2 (canonical codes) and 3.2.7 (dynamic codes).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled

LONGEST = 15
"""The most bits of a code (RFC 1951)."""
LANES, DEEP = 64, 4
"""Pixels that are looked at side by side, and how many of a lane before it goes back to memory."""

Array = npt.NDArray[Any]


def _ends(values: Array, lanes: Array, ends: Array) -> None:
    """ends = least and greatest value, NaN where one is not finite; lanes: room, (3, LANES)."""
    low, high, off = lanes[0], lanes[1], lanes[2]
    low[:], high[:], off[:] = np.inf, -np.inf, 0.0
    whole = len(values) // (DEEP * LANES) * (DEEP * LANES)
    for first in range(0, whole, DEEP * LANES):
        run = values[first : first + DEEP * LANES]
        for j in range(LANES):
            a, b, c = low[j], high[j], off[j]
            for k in range(DEEP):
                v = run[k * LANES + j]
                a = min(a, v)
                b = max(b, v)
                c += v - v  # NaN for what is not finite, and from then on
            low[j], high[j], off[j] = a, b, c
    for i in range(whole, len(values)):
        v = values[i]
        low[0], high[0], off[0] = min(low[0], v), max(high[0], v), off[0] + (v - v)
    ends[0], ends[1] = low.min(), high.max()
    if np.isnan(off).any():
        ends[:] = np.nan


ends = compiled(_ends, [f"void({x}[::1], {x}[:,::1], {x}[::1])" for x in ("f4", "f8")])


def _codes(values: Array, valid: Array, offset: float, scale: float, top: int, out: Array) -> None:
    """Nearest code of each value, clipped to 1..top, the middle one where scale is 0; 0 if invalid.

    valid: as long as values, or empty for everywhere. In float64, so that every value inside the
    span is rebuilt to half a step.
    """
    last, many = np.float64(top), 1.0 / scale
    for i in range(len(values) if scale > 0.0 else 0):
        step = (np.float64(values[i]) - offset) * many
        out[i] = np.int32(np.rint(min(max(step, 1.0), last)))
    if scale <= 0.0:
        out[:] = top // 2 + 1
    for i in range(len(valid)):
        out[i] = out[i] if valid[i] else 0


codes = compiled(
    _codes,
    [f"void({x}[::1], b1[::1], f8, f8, i8, {c}[::1])" for x in ("f4", "f8") for c in ("u1", "u2")],
)


def _histogram(data: Array, run: int, step: int, counts: Array) -> None:
    """How often each byte occurs in runs of bytes that begin `step` bytes after one another."""
    tables = np.zeros((4, 256), np.int64)  # equal neighbours need not wait for each other
    for start in range(0, len(data), step):
        stop = min(start + run, len(data))
        whole = start + (stop - start) // 4 * 4
        for i in range(start, whole, 4):
            for k in range(4):
                tables[k, data[i + k]] += 1
        for i in range(whole, stop):
            tables[0, data[i]] += 1
    counts[:] = tables.sum(0)


histogram = compiled(_histogram, "void(u1[::1], i8, i8, i8[::1])")


def _code_lengths(counts: Array, lengths: Array) -> None:
    """Bits of each symbol that occurs, by Huffman's algorithm with two queues.

    Where one takes more than deflate allows the counts are halved until none does.
    """
    weights = counts.copy()
    size = len(weights)
    while True:
        order = np.argsort(weights, kind="mergesort")
        first = 0
        while weights[order[first]] == 0:
            first += 1
        leaves = size - first
        total = np.empty(leaves, np.int64)  # of inner nodes
        parent = np.zeros(2 * leaves, np.int64)  # leaves, then inner nodes
        leaf, inner = 0, 0
        for made in range(leaves - 1):
            total[made] = 0
            for _ in range(2):
                taken = inner == made or (
                    leaf < leaves and weights[order[first + leaf]] <= total[inner]
                )
                if taken:
                    parent[leaf] = leaves + made
                    total[made] += weights[order[first + leaf]]
                    leaf += 1
                else:
                    parent[leaves + inner] = leaves + made
                    total[made] += total[inner]
                    inner += 1
        depth = np.zeros(2 * leaves, np.int64)
        for node in range(2 * leaves - 3, -1, -1):
            depth[node] = depth[parent[node]] + 1
        if depth[:leaves].max() <= LONGEST:
            break
        for i in range(size):
            weights[i] = (weights[i] + 1) // 2
    lengths[:] = 0
    for i in range(leaves):
        lengths[order[first + i]] = max(depth[i], 1)


code_lengths = compiled(_code_lengths, "void(i8[::1], i8[::1])")


def _make_codes(lengths: Array, codes: Array) -> None:
    """The canonical code of each symbol, its first bit lowest."""
    shorter = np.zeros(LONGEST + 2, np.int64)
    for length in lengths:
        shorter[length + 1] += length > 0
    code = 0
    following = np.zeros(LONGEST + 1, np.int64)
    for length in range(1, LONGEST + 1):
        code = (code + shorter[length]) << 1
        following[length] = code
    for symbol in range(len(lengths)):
        code, turned = following[lengths[symbol]], 0
        following[lengths[symbol]] += 1
        for _ in range(lengths[symbol]):
            turned, code = (turned << 1) | (code & 1), code >> 1
        codes[symbol] = turned


_make = compiled(_make_codes)

_At: TypeAlias = tuple[np.uint64, np.uint64, np.uint64]
_WIDTH, _CODE = np.uint64(32), np.uint64(0xFFFFFFFF)


def _put(code: np.uint64, width: np.uint64, out: Array, at: _At) -> _At:
    """Write up to 60 bits; at: the word to write next, its bits so far, and their number.

    Without a branch: where a word is full depends on the data, and would be guessed wrong.
    """
    k, word, held = at
    word |= code << held
    out[k] = word
    total = held + width
    full = total >> np.uint64(6)
    word = code >> (np.uint64(63) - held) >> np.uint64(1) if full else word
    return k + full, word, total & np.uint64(63)


_write = compiled(_put)


def _put_pairs(twos: Array, pairs: Array, out: Array, at: _At) -> _At:
    """Write pairs of bytes, two of them at a time."""
    for i in range(0, len(twos) // 2 * 2, 2):  # so LLVM knows that none is left
        a, b = pairs[twos[i]], pairs[twos[i + 1]]
        width = a >> _WIDTH
        code = (a & _CODE) | ((b & _CODE) << width)
        at = _write(code, width + (b >> _WIDTH), out, at)
    return at


_write_pairs = compiled(_put_pairs)


def _pack(data: Array, lengths: Array, out: Array) -> int:
    """Write one last block with dynamic codes into out, words of 64 bits; return its bits."""
    codes = np.zeros(len(lengths), np.uint64)
    _make(lengths, codes)
    widths = lengths.astype(np.uint64)
    pairs = np.empty(1 << 16, np.uint64)  # by two bytes, the first the lower one
    for b in range(256):
        for a in range(256):
            both = codes[a] | (codes[b] << widths[a])
            pairs[256 * b + a] = both | ((widths[a] + widths[b]) << _WIDTH)
    at = np.uint64(0), np.uint64(0), np.uint64(0)
    # the last block; dynamic codes; 257 literals, 2 distances, 19 lengths of lengths
    fields = [(1, 1), (2, 2), (0, 5), (1, 5), (15, 4), (0, 3), (0, 3), (0, 3)]
    fields += [(4, 3)] * 16
    for i in range(len(lengths) + 2):
        length = lengths[i] if i < len(lengths) else 1
        turned = 0
        for _ in range(4):
            turned, length = (turned << 1) | (length & 1), length >> 1
        fields.append((turned, 4))
    for value, width in fields:
        at = _write(np.uint64(value), np.uint64(width), out, at)
    whole = len(data) // 4 * 4
    at = _write_pairs(data[:whole].view(np.uint16), pairs, out, at)
    for i in range(whole, len(data)):
        at = _write(codes[data[i]], widths[data[i]], out, at)
    k, word, held = _write(codes[256], widths[256], out, at)
    out[k] = word
    return int(64 * k + held)


pack = compiled(_pack, "i8(u1[::1], i8[::1], u8[::1])")

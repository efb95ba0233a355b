"""Loops of pictures that numba compiles: values to codes, bytes to Huffman's code.

Sources: RFC 1951, sections 3.2.2 (canonical codes) and 3.2.7 (dynamic codes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compiled import compiled

LONGEST = 15
"""The most bits of a code (RFC 1951)."""

Array = npt.NDArray[Any]


def _codes(values: Array, valid: Array, offset: float, scale: float, top: int, out: Array) -> None:
    """Nearest code of each value, clipped to 1..top, the middle one where scale is 0; 0 if invalid.

    In float64, so that every value inside the span is rebuilt to half a step.
    """
    for i in range(len(values)):
        value = np.float64(values[i]) if valid[i] else 0.0
        step = np.rint((value - offset) / scale) if scale > 0.0 else top // 2 + 1.0
        code = np.int32(min(max(step, 1.0), np.float64(top)))
        out[i] = code if valid[i] else 0


codes = compiled(
    _codes,
    [f"void({x}[::1], b1[::1], f8, f8, i8, {c}[::1])" for x in ("f4", "f8") for c in ("u1", "u2")],
)


def _histogram(data: Array, counts: Array) -> None:
    """How often each byte occurs: counts (256,)."""
    tables = np.zeros((4, 256), np.int64)  # equal neighbours need not wait for each other
    whole = len(data) // 4 * 4
    for i in range(0, whole, 4):
        for k in range(4):
            tables[k, data[i + k]] += 1
    for i in range(whole, len(data)):
        tables[0, data[i]] += 1
    counts[:] = tables.sum(0)


histogram = compiled(_histogram, "void(u1[::1], i8[::1])")


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


def _pack(data: Array, lengths: Array, out: Array) -> None:
    """Write one last block with dynamic codes into out, words of 32 bits that are 0 before."""
    codes = np.zeros(len(lengths), np.uint64)
    shorter = np.zeros(LONGEST + 2, np.int64)
    for length in lengths:
        shorter[length + 1] += length > 0
    code = 0
    following = np.zeros(LONGEST + 1, np.int64)
    for length in range(1, LONGEST + 1):
        code = (code + shorter[length]) << 1
        following[length] = code
    for symbol in range(len(lengths)):
        length = lengths[symbol]
        if length:
            code, turned = following[length], 0
            following[length] += 1
            for _ in range(length):
                turned, code = (turned << 1) | (code & 1), code >> 1
            codes[symbol] = turned
    word, held, k = np.uint64(0), np.uint64(0), 0
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
        word |= np.uint64(value) << held
        held += np.uint64(width)
        if held >= np.uint64(32):
            out[k] = np.uint32(word & np.uint64(0xFFFFFFFF))
            k += 1
            word >>= np.uint64(32)
            held -= np.uint64(32)
    widths = lengths.astype(np.uint64)
    for i in range(len(data)):
        word |= codes[data[i]] << held
        held += widths[data[i]]
        if held >= np.uint64(32):
            out[k] = np.uint32(word & np.uint64(0xFFFFFFFF))
            k += 1
            word >>= np.uint64(32)
            held -= np.uint64(32)
    word |= codes[256] << held
    out[k] = np.uint32(word & np.uint64(0xFFFFFFFF))
    out[k + 1] = np.uint32(word >> np.uint64(32))


pack = compiled(_pack, "void(u1[::1], i8[::1], u4[::1])")

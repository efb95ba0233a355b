"""Sums of taps as Triton kernels, for numbers of results: weights are given, not written out.

A bank has dozens of passes, and each text would take Triton a second. Every pixel is one chain of
fused multiply-adds in the order of the taps, whichever text computes it.
"""

from __future__ import annotations

from collections.abc import Sequence

STACK = 8
"""Lines under a column that are computed together."""

_HEAD = '''\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["first", "taps", "stride", "stride_z", "stride_y", "depth", \
"height", "width", "to_z", "to_y", "down", "across"])
def kernel(
    x_ptr, first, places_ptr, weights_ptr, taps, stride, stride_z, stride_y, depth, height, width,
    to_z, to_y, down, across, {pointers},
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """ROWS x BLOCK pixels of the results of one plane; lines y follow one another, lines z beside.

    first: where the first tap of the first pixel is; places: how far the others are from it.
    """
    tile = tl.program_id(0)
    slab = (tile // (down * across)).to(tl.int64)
    top = tile // across % down * ROWS
    plane, z = slab // depth, slab % depth
    begin = x_ptr + first + plane * stride + z * stride_z
    into = plane * depth * height * width + z * to_z
'''

_TILE = """\
    y = top + tl.arange(0, ROWS)[:, None]
    x = tile % across * BLOCK + tl.arange(0, BLOCK)[None, :]
    ok = (y < height) & (x < width)
    begin += y.to(tl.int64) * stride_y + x
    into += y.to(tl.int64) * to_y + x
"""

_LANES = """\
    x = tile % across * BLOCK + tl.arange(0, BLOCK)
    begin += top.to(tl.int64) * stride_y + x
    into += top.to(tl.int64) * to_y + x
    lines = height - top + taps - 1
"""


def sparse(count: int) -> str:
    """Taps that lie anyhow, of so many kernels of one window."""
    return _tap_by_tap(count, "tl.load(places_ptr + t)")


def dense(count: int) -> str:
    """Taps side by side in a line, which need no table of places."""
    return _tap_by_tap(count, "t")


def _tap_by_tap(count: int, place: str) -> str:
    every = range(count)
    lines = [f"a{i} = tl.zeros([ROWS, BLOCK], tl.float32)" for i in every]
    lines.append("for t in tl.range(0, taps, loop_unroll_factor=4):")
    lines.append(f"    v = tl.load(begin + {place}, mask=ok, other=0.0)")
    for i in every:
        lines.append(f"    w = tl.load(weights_ptr + t * {count} + {i})")
        lines.append(f"    a{i} = tl.fma(tl.broadcast_to(w, v.shape), v, a{i})")
    lines += [f"tl.store(to{i}_ptr + into, a{i}, mask=ok)" for i in every]
    return _whole(count, _TILE, lines)


def column(count: int) -> str:
    """STACK taps or more that stand above one another, of one kernel.

    A line is loaded once for all results that take a tap of it: a0 takes w0, a1 the one before.
    """
    assert count == 1
    every = range(STACK)

    def add(line: str, which: Sequence[int]) -> list[str]:
        there = f"ok = (x < width) & ({line} < lines)"
        load = f"v = tl.load(begin + {line} * stride_y, mask=ok, other=0.0)"
        return [
            there,
            load,
            *(f"a{i} = tl.fma(tl.broadcast_to(w{i}, v.shape), v, a{i})" for i in which),
        ]

    older = [f"w{i} = w{i - 1}" for i in reversed(every[1:])]
    lines = [f"a{i} = tl.zeros([BLOCK], tl.float32)" for i in every]
    lines += [f"w{i} = 0.0" for i in every]
    for i in every[:-1]:
        lines += [*older, f"w0 = tl.load(weights_ptr + {i})", *add(str(i), every[: i + 1])]
    lines.append(f"for t in range({STACK - 1}, taps):")
    lines += [f"    {one}" for one in (*older, "w0 = tl.load(weights_ptr + t)", *add("t", every))]
    for i in every[1:]:
        lines += [*older, *add(f"(taps + {i - 1})", every[i:])]
    for i in every:
        lines.append(f"ok = (x < width) & (top + {i} < height)")
        lines.append(f"tl.store(to0_ptr + into + {i} * to_y, a{i}, mask=ok)")
    return _whole(count, _LANES, lines)


def _whole(count: int, place: str, lines: Sequence[str]) -> str:
    pointers = ", ".join(f"to{i}_ptr" for i in range(count))
    body = "".join(f"    {line}\n" for line in lines)
    return _HEAD.format(pointers=pointers) + place + body

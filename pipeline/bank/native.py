"""Loops that numba compiles: weighted sums of lines, and running sums.

Every pixel is one chain of fused multiply-adds in the order of the taps, whichever tile of
registers it stands in: its bits depend on the kernel and the pixels under it and on nothing else.
Tiles are written for LLVM, whose vectoriser neither keeps sums in registers over a loop of taps nor
loads a pixel once for several results. All that is compiled in stands here, but for the whole
numbers of costs.py: by the date of this file numba tells whether its cache holds, so touch it when
those change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.bank.costs import EVEN, LINES, PLAIN, STACKED, TOGETHER
from pipeline.compiled import compiled

LANES = 16 if get_host_cpu_features().get("avx512f") else 8
"""float32 numbers in a vector register."""

VECTORS = {1: 4, 2: 4, 3: 4, 4: 3} | dict.fromkeys((5, 6), 3 if LANES == 16 else 2)
"""Vectors of each line in a tile, by how many lines are computed together: enough sums to keep the
multipliers busy, and no more than leave registers for what is added up."""

STEP = 4096
"""Pixels of a line worked on at a time, so that the lines under a kernel stay in the cache."""

_register: Any = cgutils.alloca_once
_declare: Any = cgutils.get_or_insert_function

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def _tile(count: int, vectors: int, lanes: int, way: int) -> Any:
    """Make `tile(at, weights, to, c)`: vectors * lanes pixels of `count` lines from column c on.

    `at` and `to` hold the addresses of T and of `count` lines. By the way to[m][c] is
    - PLAIN: sum_t weights[t * count + m] at[t][c], for `count` kernels;
    - EVEN + odd: the sum over pairs, weights[t * count + m] (at[t][c] + at[T - 1 - t][c]), and if
      T is odd over the line in the middle, for kernels that are equal if their taps are turned
      round; the last `odd` of the `count` kernels are the negative then: they take differences,
      and nothing from the middle;
    - STACKED: sum_t weights[t] at[t + m][c], for one kernel on lines that follow one another; it
      has at least `count` taps.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number, word = ir.FloatType(), ir.IntType(64)
        vector = ir.VectorType(number, lanes)
        arrays = zip(signature.args[:3], args[:3], strict=True)
        at, weights, to = (context.make_array(kind)(context, builder, a) for kind, a in arrays)
        triple = ir.FunctionType(vector, [vector] * 3)
        fused = _declare(builder.module, triple, f"llvm.fma.v{lanes}f32")
        sums = [[_register(builder, vector) for _ in range(vectors)] for _ in range(count)]
        for total in chain.from_iterable(sums):
            builder.store(ir.Constant(vector, None), total)

        def places(lines: Any, line: Any) -> list[Any]:
            address = builder.load(builder.gep(lines.data, [line]))
            start = builder.gep(builder.inttoptr(address, number.as_pointer()), [args[3]])
            steps = [builder.gep(start, [word(n * lanes)]) for n in range(vectors)]
            return [builder.bitcast(step, vector.as_pointer()) for step in steps]

        def pixels(line: Any) -> list[Any]:
            return [builder.load(place, align=4) for place in places(at, line)]

        def spread(weight: Any) -> Any:
            unset, place = ir.Constant(vector, ir.Undefined), ir.IntType(32)
            one = builder.insert_element(unset, weight, place(0))
            first = ir.Constant(ir.VectorType(place, lanes), None)
            return builder.shuffle_vector(one, unset, first)

        def add(seen: Sequence[Any], tap: Any, which: Iterable[int]) -> None:
            """Add what pixels give to some of the results; in a stack the tap is that of line 0."""
            for m in which:
                at_m = builder.sub(tap, word(m))
                if way != STACKED:
                    at_m = builder.add(builder.mul(tap, word(count)), word(m))
                weight = spread(builder.load(builder.gep(weights.data, [at_m])))
                for x, total in zip(seen, sums[m], strict=True):
                    builder.store(builder.call(fused, [weight, x, builder.load(total)]), total)

        every, even = range(count), range(count - max(way - EVEN, 0))
        lines = builder.extract_value(at.shape, 0)
        if way >= EVEN:
            half = builder.udiv(lines, word(2))
            with cgutils.for_range_slice(builder, word(0), half, word(1), word) as (line, _):
                other = builder.sub(builder.sub(lines, word(1)), line)
                pairs = list(zip(pixels(line), pixels(other), strict=True))
                add([builder.fadd(x, y) for x, y in pairs], line, even)
                add([builder.fsub(x, y) for x, y in pairs], line, every[len(even) :])
            with builder.if_then(builder.icmp_signed("!=", builder.mul(half, word(2)), lines)):
                add(pixels(half), half, even)
        else:
            apart = count - 1 if way == STACKED else 0  # lines that only some results come from
            taps = builder.sub(lines, word(apart))
            for m in range(apart):
                add(pixels(word(m)), word(m), every[: m + 1])
            with cgutils.for_range_slice(builder, word(apart), taps, word(1), word) as (line, _):
                add(pixels(line), line, every)
            for m in range(apart):
                last = builder.add(taps, word(m))
                add(pixels(last), last, every[m + 1 :])
        for m in every:
            for total, place in zip(sums[m], places(to, word(m)), strict=True):
                builder.store(builder.load(total), place, align=4)
        return context.get_dummy_value()

    @intrinsic
    def compute(_: Any, at: Any, weights: Any, to: Any, c: Any) -> Any:
        return types.void(at, weights, to, c), emit

    return compute


def _whole_lines() -> Any:
    """Compile `fill(at, weights, to, length, way)`: lines of some length, tile by tile.

    The last vector of a line overlaps the one before it; what they share they agree on. Raises
    ValueError for a count of lines without a tile.
    """
    made: dict[str, Any] = {}
    text = ["def fill(at, weights, to, length, way):"]
    few = range(TOGETHER + 1)
    together = [(PLAIN, n) for n in few[1:]] + [(STACKED, n) for n in range(2, LINES + 1)]
    together += [(EVEN + odd, even + odd) for even in few for odd in few if even + odd]
    for way, count in together:
        text += [f"    if len(to) == {count} and way == {way}:", "        c = 0"]
        for vectors, lanes in ((VECTORS[count], LANES), (1, LANES), (1, 1)):
            name, width = f"tile{way}_{count}_{vectors}_{lanes}", vectors * lanes
            made[name] = _tile(count, vectors, lanes, way)
            last = "c" if vectors > 1 else f"min(c, length - {width})"
            fits = f"c + {width} <= length" if vectors > 1 else f"c < length and {width} <= length"
            text += [f"        while {fits}:", f"            {name}(at, weights, to, {last})"]
            text += [f"            c += {width}"]
        text += ["        return"]
    text += ["    raise ValueError('no tile computes this many lines')"]
    exec(compile("\n".join(text), __file__, "exec"), made)
    return compiled(made["fill"])


_fill = _whole_lines()


def _sum_taps(
    taps: Places,
    steps: Places,
    weights: Floats,
    to: Places,
    to_steps: Places,
    counts: Places,
    length: int,
    way: int,
) -> None:
    """Weighted sums of lines, as `_tile` has them, for all lines of up to three nested loops.

    taps, to: addresses of what the first line is computed from, and of the first lines of the
    results; steps, to_steps: bytes from one line to the next along each loop, for each tap or, in
    one row, for all; counts: lines along each loop. If stacked, the results are lines that follow
    one another along the last loop, which is at least as long, and the last overlap those before.
    """
    at, into = np.empty_like(taps), np.empty_like(to)
    together = len(to) if way == STACKED else 1
    own = 1 if len(steps) > 1 else 0  # no remainder: a division is as dear as five multiply-adds
    for first in range(0, length, STEP):
        for i in range(counts[0]):
            for j in range(counts[1]):
                for line in range(0, counts[2], together):
                    k = min(line, counts[2] - together)
                    for t in range(len(taps)):
                        step = steps[own * t]
                        at[t] = taps[t] + i * step[0] + j * step[1] + k * step[2] + 4 * first
                    skip = i * to_steps[0] + j * to_steps[1] + k * to_steps[2] + 4 * first
                    for m in range(len(to)):
                        into[m] = to[m] + skip
                    _fill(at, weights, into, min(STEP, length - first), way)


sum_taps = compiled(
    _sum_taps, "void(i8[::1], i8[:, ::1], f4[::1], i8[::1], i8[::1], i8[::1], i8, i8)"
)


def _sum_through(
    first: tuple[Places, Places, Floats, Places, int, int],
    scratch: int,
    step: int,
    strips: int,
    taps: Places,
    weights: Floats,
    to: Places,
    to_steps: Places,
    counts: Places,
    length: int,
    way: int,
) -> None:
    """Weighted sums of lines of weighted sums, strip by strip along the last loop.

    The lines of a strip, at least as many as are computed together, lie in `scratch`, `step` bytes
    apart, and do not leave the cache. first: taps, steps, weights, rows, length and way that they
    are computed with; taps: places in a line. The rest is that of `_sum_taps`, for the results.
    """
    at, steps, between, rows, width, how = first
    down = np.array([0, 0, step])
    for i in range(counts[0]):
        for j in range(counts[1]):
            for strip in range(strips):
                k = counts[2] * strip // strips
                lines = np.array([1, 1, counts[2] * (strip + 1) // strips - k])
                skip = i * steps[0, 0] + j * steps[0, 1] + k * steps[0, 2]
                sum_taps(at + skip, steps, between, scratch + rows, down, lines, width, how)
                skip = i * to_steps[0] + j * to_steps[1] + k * to_steps[2]
                sum_taps(
                    taps + scratch,
                    down.reshape(1, 3),
                    weights,
                    to + skip,
                    to_steps,
                    lines,
                    length,
                    way,
                )


_FIRST = "Tuple((i8[::1], i8[:, ::1], f4[::1], i8[::1], i8, i8))"
sum_through = compiled(
    _sum_through, f"void({_FIRST}, i8, i8, i8, i8[::1], f4[::1], i8[::1], i8[::1], i8[::1], i8, i8)"
)


def _running_sums(x: Floats, size: int, weight: float, out: Floats) -> None:
    """out[o, i, j] = weight * sum of x[o, i : i + size, j], added and taken away in float64."""
    for o in range(x.shape[0]):
        total = np.zeros(x.shape[2])
        for i in range(size - 1):
            for j in range(x.shape[2]):
                total[j] += x[o, i, j]
        for i in range(out.shape[1]):
            new, old, y = x[o, i + size - 1], x[o, i], out[o, i]
            for j in range(x.shape[2]):
                both = total[j] + new[j]
                y[j] = weight * both
                total[j] = both - old[j]


running_sums = compiled(_running_sums, "void(f4[:, :, ::1], i8, f8, f4[:, :, ::1])")

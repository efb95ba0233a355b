"""Loops that numba compiles: pixels by their places, whatever a pixel is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.compiled import compiled

_copy: Any = cgutils.raw_memcpy

Places = npt.NDArray[np.int64]


def _mover(item: int) -> Any:
    """Make `move(to, at, count)`: copy items of some bytes from one address to another."""

    def emit(_: Any, builder: Any, __: Any, args: Any) -> Any:
        to, at = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in args[:2])
        _copy(builder, to, at, args[2], item)
        return ir.Constant(ir.IntType(8).as_pointer(), None)

    @intrinsic
    def move(_: Any, to: Any, at: Any, count: Any) -> Any:
        return types.void(to, at, count), emit

    return move


_move_bytes, _move_floats = _mover(1), _mover(4)


@compiled
def _move(to: int, at: int, count: int, item: int) -> None:
    if item == 4:
        _move_floats(to, at, count)
    else:
        _move_bytes(to, at, count * item)


def _gather(
    at: int, to: int, places: Places, counts: Places, to_steps: Places, run: Places, item: int
) -> None:
    """Copy pixels of `item` bytes, wherever they lie, to the lines of three nested loops.

    at, to: addresses; places: bytes from `at` at each step along each axis, one axis after
    another; counts: steps along each; to_steps: bytes from result to result along each; run: where
    along the last axis the longest range begins and ends whose pixels follow one another. Lines
    may stay where they are.
    """
    second, third = counts[0], counts[0] + counts[1]
    last, end = third + counts[2], len(places)
    for i in range(counts[0]):
        for j in range(counts[1]):
            for k in range(counts[2]):
                line = at + places[i] + places[second + j] + places[third + k]
                out = to + i * to_steps[0] + j * to_steps[1] + k * to_steps[2] - item * last
                for c in range(last, last + run[0]):
                    _move(out + item * c, line + places[c], 1, item)
                start, stop = last + run[0], last + run[1]
                if out + item * start != line + places[start]:
                    _move(out + item * start, line + places[start], stop - start, item)
                for c in range(stop, end):
                    _move(out + item * c, line + places[c], 1, item)


gather = compiled(_gather, "void(i8, i8, i8[::1], i8[::1], i8[::1], i8[::1], i8)")

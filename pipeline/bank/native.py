"""Loops that numba compiles: taps summed line by line, and running sums.

Every pixel is one chain of fused multiply-adds in the order of the taps, whether it stands in a
vector or in the rest of a line: its bits depend on the pixels under the kernel and on nothing
else. Nothing but contraction is allowed to the compiler; reassociation would break that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from pipeline.bank.costs import WINDOWS

AT_ONCE = 9
"""Taps that one pass over a line adds up: as many streams as the vectoriser still checks."""

STEP = 4096
"""Pixels of a line worked on at a time, so that they stay in the first cache."""

_F = TypeVar("_F", bound=Callable[..., Any])

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]


def _compiled(function: _F, signature: str | None = None) -> _F:
    """Compile for a signature, or take what an earlier process left in the cache.

    Without a signature it becomes part of the functions that call it.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    if signature is None:
        return cast("_F", numba.njit(**options)(function))
    try:
        return cast("_F", numba.njit(signature, cache=True, **options)(function))
    except RuntimeError:  # no folder to keep it in: compile in each process
        return cast("_F", numba.njit(signature, **options)(function))


def _unrolled(name: str, start: str) -> Any:
    """Compile `name(x, at, offsets, weights, k, count, y)`: y = start + taps k to k + count of x.

    numba does not unroll a loop over taps inside a loop over pixels, so it is written out for
    each count.
    """
    lines = [f"def {name}(x, at, offsets, weights, k, count, y):", "    n = len(y)"]
    for count in range(1, AT_ONCE + 1):
        lines.append(f"    if count == {count}:")
        for i in range(count):
            lines.append(f"        w{i}, p{i} = weights[k + {i}], at + offsets[k + {i}]")
            lines.append(f"        x{i} = x[p{i} : p{i} + n]")
        lines.append("        for c in range(n):")
        lines.append(f"            total = {start}")
        lines += [f"            total = total + w{i} * x{i}[c]" for i in range(count)]
        lines.append("            y[c] = total")
    made: dict[str, Any] = {"zero": np.float32(0.0)}
    exec(compile("\n".join(lines), __file__, "exec"), made)
    return _compiled(made[name])


_set = _unrolled("set", "zero")
_add = _unrolled("add", "y[c]")


def _sum_taps(x: Floats, starts: Places, offsets: Places, weights: Floats, out: Floats) -> None:
    """out[line, c] = sum_k weights[k] x[starts[line] + offsets[k] + c]; x is flat, taps exist."""
    taps, length = len(weights), out.shape[1]
    for line in range(len(starts)):
        for first in range(0, length, STEP):
            y, at = out[line, first : first + STEP], starts[line] + first
            _set(x, at, offsets, weights, 0, min(AT_ONCE, taps), y)
            for k in range(AT_ONCE, taps, AT_ONCE):
                _add(x, at, offsets, weights, k, min(AT_ONCE, taps - k), y)


sum_taps = _compiled(_sum_taps, "void(f4[::1], i8[::1], i8[::1], f4[::1], f4[:, ::1])")


def _windows() -> Any:
    """Compile `window(x, at, stride, weights, y, z)`: all taps of a small window, for two lines.

    Neighbouring taps are loads at a constant distance, and two lines share most of them.
    """
    lines = ["def window(x, at, stride, weights, y, z):", "    n = len(y)"]
    for height, width in WINDOWS:
        lines.append(f"    if weights.shape[0] == {height} and weights.shape[1] == {width}:")
        for i in range(height + 1):
            lines.append(f"        a{i} = at + {i} * stride")
            lines.append(f"        x{i} = x[a{i} : a{i} + n + {width - 1}]")
        taps = [(i, j) for i in range(height) for j in range(width)]
        lines += [f"        w{i}_{j} = weights[{i}, {j}]" for i, j in taps]
        lines.append("        for c in range(n):")
        for i in range(height + 1):
            lines += [f"            v{i}_{j} = x{i}[c + {j}]" for j in range(width)]
        for down, line in enumerate("yz"):
            lines.append(f"            {line}c = zero")
            lines += [
                f"            {line}c = {line}c + w{i}_{j} * v{i + down}_{j}" for i, j in taps
            ]
        lines.append("            y[c], z[c] = yc, zc")
    made: dict[str, Any] = {"zero": np.float32(0.0)}
    exec(compile("\n".join(lines), __file__, "exec"), made)
    return _compiled(made["window"])


_window = _windows()


def _sum_window(
    x: Floats, starts: Places, stride: int, weights: Floats, height: int, out: Floats
) -> None:
    """out[line, c] = sum_ij weights[i, j] x[starts[line] + i stride + c + j]; x is flat.

    Lines come in planes of a height of at least 2; the last two of an odd plane overlap the pair
    before them.
    """
    for first in range(0, len(starts), height):
        for row in range(0, height, 2):
            line = first + min(row, height - 2)
            for c in range(0, out.shape[1], STEP):
                y, z = out[line, c : c + STEP], out[line + 1, c : c + STEP]
                _window(x, starts[line] + c, stride, weights, y, z)


sum_window = _compiled(_sum_window, "void(f4[::1], i8[::1], i8, f4[:, ::1], i8, f4[:, ::1])")


def _add_lines(x: Floats, starts: Places, weight: Any, more: bool, out: Floats) -> None:
    """out[line] = weight * x[starts[line] :], or, with `more`, that added to it; x is flat."""
    offsets, weights = np.zeros(1, np.int64), np.full(1, weight)
    for line in range(len(starts)):
        if more:
            _add(x, starts[line], offsets, weights, 0, 1, out[line])
        else:
            _set(x, starts[line], offsets, weights, 0, 1, out[line])


add_lines = _compiled(_add_lines, "void(f4[::1], i8[::1], f4, b1, f4[:, ::1])")


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


running_sums = _compiled(_running_sums, "void(f4[:, :, ::1], i8, f8, f4[:, :, ::1])")

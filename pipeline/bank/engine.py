"""Valid correlation without a transform: taps are multiplied and added, each plane by itself.

On a CPU compiled loops do it (`native`), elsewhere a kernel of its own (`shifted`). A pixel's bits
depend on the pixels under the kernel alone. (torch's conv2d on a CPU answers differently for one
and for eight images, and for a few output channels it is many times slower than this.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import ceil, prod
from types import ModuleType

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.bank import shifted
from pipeline.bank.costs import EVEN, LINES, ODD, PLAIN, STACKED, way
from pipeline.bank.expr import Kernel
from pipeline.bank.memory import packed, spaced, strides_of
from pipeline.bank.passes import separate
from pipeline.types import Ints

STRIP = 1 << 19
"""Bytes of lines that stay in the cache between two passes."""

Words = npt.NDArray[np.int64]
Cut = tuple[Tensor, Ints]
"""Planes (P, *shape), and where in them what is needed begins."""


def convolve(x: Tensor, kernel: Kernel) -> Tensor:
    """Correlate with a kernel of any rank by the fewest taps: as a sum of 1-D passes or dense."""
    total: Tensor | None = None
    for chain in separate(kernel) or ((kernel,),):
        part = x
        for step in chain:
            shape = tuple(n - k + 1 for n, k in zip(part.shape[1:], step.shape, strict=True))
            (part,) = correlate((part, (0,) * len(shape)), (step,), shape, passing=True)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def correlate(
    x: Cut, kernels: tuple[Kernel, ...], shape: Ints, *, passing: bool = False
) -> list[Tensor]:
    """Results (P, *shape), float32, of kernels with one window, each plane by itself.

    Kernels that are computed alike (`costs.alike`); even ones come before odd ones.
    passing: they are read by a next pass, and need not be contiguous.
    """
    planes, corner = x
    if planes.device.type != "cpu":
        return shifted.correlate(planes, corner, kernels, shape)
    if planes.stride(-1) != 1:
        planes = planes.contiguous()
    count = planes.shape[0]
    out = [(spaced if passing else packed)((count, *shape)) for _ in kernels]
    if out[0].numel():
        launch = _launch(kernels, corner, planes.stride(), (count, *shape), out[0].stride())
        _sum_taps(launch, launch.taps + planes.data_ptr(), out)
    return out


def correlate_through(
    x: Cut, column: Kernel, kernels: tuple[Kernel, ...], shape: Ints, *, passing: bool = False
) -> list[Tensor]:
    """Correlate with a column, and with kernels along lines what it gives, which is never there.

    The bits are those of the two one after the other.
    """
    planes, corner = x
    if planes.device.type != "cpu":
        width = shape[-1] + kernels[0].shape[-1] - 1
        (between,) = correlate(x, (column,), (*shape[:-1], width))
        return correlate((between, (0,) * len(shape)), kernels, shape)
    if planes.stride(-1) != 1:
        planes = planes.contiguous()
    whole = (planes.shape[0], *shape)
    out = [(spaced if passing else packed)(whole) for _ in kernels]
    if out[0].numel():
        both = _through(column, kernels, corner, planes.stride(), whole, out[0].stride())
        first, then, scratch = both.first, both.then, spaced(both.scratch)
        _native().sum_through(
            (
                first.taps + planes.data_ptr(),
                first.steps,
                first.weights,
                first.rows,
                first.length,
                first.way,
            ),
            scratch.data_ptr(),
            4 * scratch.stride(1),
            both.strips,
            then.taps,
            then.weights,
            np.array([line.data_ptr() for line in out]),
            then.to_steps,
            then.counts,
            then.length,
            then.way,
        )
    return out


def add_up(
    parts: Sequence[Cut], weights: tuple[float, ...], shape: Ints, *, passing: bool = False
) -> Tensor:
    """The weighted sum of planes (P, *shape), pixel by pixel; passing as in `correlate`."""
    if parts[0][0].device.type != "cpu":
        return shifted.add_up(parts, weights, shape)
    lines = [x if x.stride(-1) == 1 else x.contiguous() for x, _ in parts]
    out = (spaced if passing else packed)((lines[0].shape[0], *shape))
    if out.numel():
        corners = tuple(corner for _, corner in parts)
        strides = tuple(x.stride() for x in lines)
        launch = _sum_launch(weights, corners, strides, tuple(out.shape), out.stride())
        _sum_taps(launch, launch.taps + np.array([x.data_ptr() for x in lines]), [out])
    return out


def run_sums(x: Tensor, kernel: Kernel) -> Tensor:
    """Correlate with equal weights along one axis, (P, *shape) each plane by itself."""
    axis = 1 + int(np.argmax(kernel.shape))
    size, weight = max(kernel.shape), float(kernel.array.flat[0])
    if x.device.type != "cpu":
        return shifted.run_sums(x, axis, size, weight)
    x = x.contiguous()
    out = packed(tuple(n - (size - 1) * (a == axis) for a, n in enumerate(x.shape)))
    if out.numel():
        inner = prod(x.shape[axis + 1 :])
        shape = (prod(x.shape[:axis]), -1, inner)
        _native().running_sums(x.numpy().reshape(shape), size, weight, out.numpy().reshape(shape))
    return out


# ---------------------------------------------------------------- compiled loops
@dataclass(frozen=True, slots=True, eq=False)
class _Launch:
    """What `native.sum_taps` is told, apart from the memory; `rows` lie between stacked results."""

    taps: Words
    steps: Words
    weights: npt.NDArray[np.float32]
    rows: Words
    to_steps: Words
    counts: Words
    length: int
    way: int


@cache
def _native() -> ModuleType:
    """The loops, once there is a first one to run: to look them up each time is dear, too."""
    from pipeline.bank import native

    return native


def _sum_taps(launch: _Launch, taps: Words, out: Sequence[Tensor]) -> None:
    to = launch.rows + np.array([x.data_ptr() for x in out])
    _native().sum_taps(
        taps,
        launch.steps,
        launch.weights,
        to,
        launch.to_steps,
        launch.counts,
        launch.length,
        launch.way,
    )


@lru_cache(maxsize=4096)
def _launch(
    kernels: tuple[Kernel, ...], corner: Ints, strides: Ints, out: Ints, out_strides: Ints
) -> _Launch:
    """Correlate planes with these strides: results (P, *shape) of shape and strides `out`."""
    at, weights = _taps(kernels)
    size = 4 * np.array(strides, np.int64)
    taps = (at + corner) @ size[1:]
    steps, to_steps, counts = _loops(size), 4 * _loops(out_strides), _loops(out, 1)
    how = _way(kernels)
    rows = min(LINES, len(taps)) if how == STACKED else 1
    if rows > 1:
        order = _inwards(len(out), kernels[0])
        steps, to_steps, counts = steps[order], to_steps[order], counts[order]
        rows = min(rows, int(counts[2]))
        more = taps[-1] + steps[2] * np.arange(1, rows)
        taps = np.concatenate([taps, more])
    between = np.arange(rows) * to_steps[2]
    if how == STACKED and rows == 1:
        how = PLAIN
    return _Launch(taps, steps[None], weights.ravel(), between, to_steps, counts, out[-1], how)


@dataclass(frozen=True, slots=True, eq=False)
class _Through:
    """What `native.sum_through` is told: a column whose results go to scratch, lines from there."""

    first: _Launch
    then: _Launch
    scratch: Ints
    strips: int


@lru_cache(maxsize=4096)
def _through(
    column: Kernel,
    kernels: tuple[Kernel, ...],
    corner: Ints,
    strides: Ints,
    out: Ints,
    out_strides: Ints,
) -> _Through:
    """The two of `correlate_through`, both with the loop along the column last."""
    width = out[-1] + kernels[0].shape[-1] - 1
    first = _launch((column,), corner, strides, (*out[:-1], width), out_strides)
    then = _launch(kernels, (0,) * len(corner), strides, out, out_strides)
    order = _inwards(len(out), column)
    then = replace(then, to_steps=then.to_steps[order], counts=then.counts[order])
    lines, stack = int(then.counts[2]), len(first.rows)
    strips = max(1, min(ceil(4 * lines * width / STRIP), lines // stack))
    scratch = (1, ceil(lines / strips), width)
    rows = 4 * strides_of(scratch, True)[1] * np.arange(stack)
    return _Through(replace(first, rows=rows), then, scratch, strips)


@lru_cache(maxsize=4096)
def _sum_launch(
    weights: tuple[float, ...],
    corners: tuple[Ints, ...],
    strides: tuple[Ints, ...],
    out: Ints,
    out_strides: Ints,
) -> _Launch:
    """Add planes with these corners and strides up."""
    sizes = [4 * np.array(s, np.int64) for s in strides]
    taps = np.array([size[1:] @ corner for size, corner in zip(sizes, corners, strict=True)])
    steps = np.stack([_loops(size) for size in sizes])
    to_steps, counts = 4 * _loops(out_strides), _loops(out, 1)
    single = np.array(weights, np.float32)
    return _Launch(taps, steps, single, np.zeros(1, np.int64), to_steps, counts, out[-1], PLAIN)


def _inwards(axes: int, column: Kernel) -> list[int]:
    """The three loops, that along the axis of a column last; axes: of planes, (P, *shape)."""
    along = 5 - axes + int(np.argmax(column.shape))
    return [*(i for i in range(3) if i != along), along]


def _loops(sizes: Sequence[int] | Words, filled: int = 0) -> Words:
    """Of planes and lines, without the last axis, as three nested loops."""
    return np.pad(sizes[:-1], (4 - len(sizes), 0), constant_values=filled).astype(np.int64)


@lru_cache(maxsize=4096)
def _taps(kernels: tuple[Kernel, ...]) -> tuple[Words, npt.NDArray[np.float32]]:
    """Where any of some kernels is not zero, (taps, axes), and weights (taps, kernels).

    Lines that stand above one another share their pixels: a column has all of its taps. Where taps
    come in pairs, the second half has the weights of the first.
    """
    arrays = np.stack([kernel.array.astype(np.float32) for kernel in kernels], -1)
    how = _way(kernels)
    used = arrays.any(-1) | (how == STACKED)
    if not used.any():
        used.flat[0] = True
    weights = arrays[used]
    return np.argwhere(used), weights[: ceil(len(weights) / 2)] if how >= EVEN else weights


def _way(kernels: tuple[Kernel, ...]) -> int:
    """How kernels are summed together: `native` has a way for each number of odd ones."""
    ways = [way(kernel) for kernel in kernels]
    assert ways == sorted(ways), "odd kernels come last"
    return ways[0] if ways[0] < EVEN else EVEN + ways.count(ODD)

"""Valid correlation by shifted sums: one multiply-add of the whole plane per tap.

Only elementwise operations, so a plane's bits do not depend on how many planes are computed with
it. (torch's conv2d on a CPU answers differently for one and for eight images, and for a few output
channels it is many times slower than this.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.bank.passes import separate
from pipeline.types import Ints

STRIP = 1 << 17
"""Output pixels worked on at a time on a CPU: what stays in a core's cache."""


def convolve(x: Tensor, kernel: Kernel) -> Tensor:
    """Correlate with a kernel of any rank by the fewest taps: as a sum of 1-D passes or dense."""
    total: Tensor | None = None
    for chain in separate(kernel) or ((kernel,),):
        part = x
        for step in chain:
            part = correlate(part, step)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def correlate(x: Tensor, kernel: Kernel) -> Tensor:
    """(P, *shape) -> (P, *(shape - kernel.shape + 1)), float32, each plane by itself."""
    shape = tuple(n - k + 1 for n, k in zip(x.shape[1:], kernel.shape, strict=True))
    out = torch.empty((x.shape[0], *shape), dtype=x.dtype, device=x.device)
    taps = [
        (sum(k * step for k, step in zip(at, x.stride()[1:], strict=True)), weight)
        for at, weight in _taps(kernel)
    ]
    for planes, rows in _strips(out.shape, whole=x.device.type != "cpu"):
        start = x.storage_offset() + planes.start * x.stride(0) + rows.start * x.stride(1)
        _sum_taps(x, start, taps, out[planes, rows])
    return out


@lru_cache(maxsize=512)
def _taps(kernel: Kernel) -> tuple[tuple[Ints, float], ...]:
    """Where a kernel is not zero, and its weights there."""
    array = kernel.array
    return tuple((tuple(at), float(array[tuple(at)])) for at in np.argwhere(array).tolist())


def _sum_taps(x: Tensor, start: int, taps: Sequence[tuple[int, float]], out: Tensor) -> None:
    """Add up views of x, shifted from `start` in its storage, times their weights."""
    size, stride = out.shape, x.stride()
    if not taps:
        out.zero_()
        return
    (offset, weight), *more = taps
    torch.mul(x.as_strided(size, stride, start + offset), weight, out=out)
    for offset, weight in more:
        out.add_(x.as_strided(size, stride, start + offset), alpha=weight)


def _strips(shape: Ints, *, whole: bool) -> list[tuple[slice, slice]]:
    """Cut planes and rows so that a piece stays in cache; rows only depend on the plane's shape."""
    planes, rows = shape[0], shape[1]
    if whole or not prod(shape):
        return [(slice(0, planes), slice(0, rows))] if prod(shape) else []
    step = max(1, STRIP // prod(shape[2:])) if prod(shape[1:]) > STRIP else rows
    many = max(1, STRIP // prod(shape[1:]))
    return [
        (slice(p, min(p + many, planes)), slice(r, min(r + step, rows)))
        for p in range(0, planes, many)
        for r in range(0, rows, step)
    ]

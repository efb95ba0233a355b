"""Valid correlation by shifted sums: one multiply-add of the whole plane per tap.

Only elementwise operations, so a plane's bits do not depend on how many planes are computed with
it. (torch's conv2d on a CPU answers differently for one and for eight images, and for a few output
channels it is many times slower than this.)
"""

from __future__ import annotations

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
    taps = [(tuple(at), float(kernel.array[tuple(at)])) for at in np.argwhere(kernel.array)]
    for part in _strips(out.shape, whole=x.device.type != "cpu"):
        _sum_taps(x[part[0]], out[part], part[1], taps)
    return out


def _sum_taps(x: Tensor, out: Tensor, rows: slice, taps: list[tuple[Ints, float]]) -> None:
    """Fill `out`, which holds `rows` of the first spatial axis."""
    starts = (rows.start, *(0,) * (out.ndim - 2))
    first = True
    for at, weight in taps:
        box = tuple(
            slice(s + k, s + k + n) for s, k, n in zip(starts, at, out.shape[1:], strict=True)
        )
        shifted = x[(slice(None), *box)]
        if first:
            torch.mul(shifted, weight, out=out)
            first = False
        else:
            out.add_(shifted, alpha=weight)
    if first:
        out.zero_()


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

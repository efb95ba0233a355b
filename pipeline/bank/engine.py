"""Valid correlation without a transform: taps are multiplied and added, each plane by itself.

On a CPU compiled loops do it (`native`), elsewhere torch by shifted sums. A pixel's bits depend
on the pixels under the kernel alone. (torch's conv2d on a CPU answers differently for one and for
eight images, and for a few output channels it is many times slower than this.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.costs import window
from pipeline.bank.expr import Kernel
from pipeline.bank.passes import separate
from pipeline.types import Ints


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
    if not prod(shape) or not any(kernel.array.flat):
        return x.new_zeros((x.shape[0], *shape))
    return (_native if x.device.type == "cpu" else _shifted)(x, kernel, shape)


def add_up(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted sum of planes (P, *shape), pixel by pixel."""
    if parts[0].device.type != "cpu":
        total = parts[0] * weights[0]
        for part, weight in zip(parts[1:], weights[1:], strict=True):
            total.add_(part, alpha=weight)
        return total
    from pipeline.bank.native import add_lines

    out = torch.empty(parts[0].shape, dtype=parts[0].dtype)
    for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        flat, starts = _lines(part, part.shape)
        add_lines(flat, starts, np.float32(weight), i > 0, _rows(out))
    return out


def run_sums(x: Tensor, kernel: Kernel) -> Tensor:
    """Correlate with equal weights along one axis, (P, *shape) each plane by itself."""
    axis = 1 + int(np.argmax(kernel.shape))
    size, weight = max(kernel.shape), float(kernel.array.flat[0])
    if x.device.type != "cpu":
        total = torch.nn.functional.pad(x.double().movedim(axis, -1).cumsum(-1), (1, 0))
        return ((total[..., size:] - total[..., :-size]) * weight).movedim(-1, axis).to(x.dtype)
    from pipeline.bank.native import running_sums

    x = x.contiguous()
    out = torch.empty([n - (size - 1) * (a == axis) for a, n in enumerate(x.shape)])
    if out.numel():
        inner = prod(x.shape[axis + 1 :])
        shape = (prod(x.shape[:axis]), -1, inner)
        running_sums(x.numpy().reshape(shape), size, weight, out.numpy().reshape(shape))
    return out


def _native(x: Tensor, kernel: Kernel, shape: Ints) -> Tensor:
    from pipeline.bank.native import sum_taps, sum_window

    out = torch.empty((x.shape[0], *shape), dtype=x.dtype)
    x = x if x.stride(-1) == 1 else x.contiguous()
    flat, starts = _lines(x, out.shape)
    if window(kernel) and len(shape) > 1 and shape[-2] > 1:  # the same bits, sooner
        weights = kernel.array.astype(np.float32).reshape(kernel.shape[-2:])
        sum_window(flat, starts, x.stride(-2), weights, shape[-2], _rows(out))
        return out
    at, weights = _taps(kernel)
    sum_taps(flat, starts, at @ np.array(x.stride()[1:], np.int64), weights, _rows(out))
    return out


def _lines(x: Tensor, shape: Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The memory under planes, flat, and where in it each line of a result begins."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    starts = _starts(tuple(shape[:-1]), x.stride()[:-1])
    return x.as_strided((last + 1,), (1,)).numpy(), starts


@lru_cache(maxsize=16)
def _starts(counts: Ints, steps: Ints) -> npt.NDArray[np.int64]:
    starts = np.zeros(1, np.int64)
    for n, step in zip(counts, steps, strict=True):
        starts = np.add.outer(starts, np.arange(n, dtype=np.int64) * step).ravel()
    return starts


def _rows(out: Tensor) -> npt.NDArray[Any]:
    return out.numpy().reshape(-1, out.shape[-1])


def _shifted(x: Tensor, kernel: Kernel, shape: Ints) -> Tensor:
    """One multiply-add of the whole plane per tap."""
    at, weights = _taps(kernel)
    out = torch.zeros((x.shape[0], *shape), dtype=x.dtype, device=x.device)
    for corner, weight in zip(at.tolist(), weights.tolist(), strict=True):
        box = (slice(a, a + n) for a, n in zip(corner, shape, strict=True))
        out.add_(x[(slice(None), *box)], alpha=weight)
    return out


@lru_cache(maxsize=512)
def _taps(kernel: Kernel) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Where a kernel is not zero, (taps, axes), and its weights there."""
    array = kernel.array
    at = np.argwhere(array)
    return at, array[tuple(at.T)].astype(np.float32)

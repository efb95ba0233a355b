"""Valid correlation without a transform: taps are multiplied and added, each plane by itself.

On a CPU compiled loops do it (`native`), elsewhere torch by shifted sums. A pixel's bits depend
on the pixels under the kernel alone. (torch's conv2d on a CPU answers differently for one and for
eight images, and for a few output channels it is many times slower than this.)
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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


def _native(x: Tensor, kernel: Kernel, shape: Ints) -> Tensor:
    from pipeline.bank.native import sum_taps

    x = x if x.stride(-1) == 1 else x.contiguous()
    at, weights = _taps(kernel)
    out = torch.empty((x.shape[0], *shape), dtype=x.dtype)
    last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    flat = x.as_strided((last + 1,), (1,)).numpy()
    starts = np.zeros(1, np.int64)
    for n, step in zip(out.shape[:-1], x.stride(), strict=False):
        starts = np.add.outer(starts, np.arange(n, dtype=np.int64) * step).ravel()
    offsets = at @ np.array(x.stride()[1:], np.int64)
    sum_taps(flat, starts, offsets, weights, out.numpy().reshape(len(starts), shape[-1]))
    return out


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

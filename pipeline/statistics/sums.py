"""Sums whose bits depend on the summands and their order alone.

torch.sum, mean and var choose their order by batch size, memory layout, vector width and number
of threads. Here every step is an elementwise IEEE operation, so the order is the one written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SEGMENT = 1 << 16
"""Longest run of pixels one tree adds up, a full cell of moments; it is part of the order."""

# float64 temporaries of this many pixels stay in a CPU's cache; a GPU wants few, large launches.
_CPU_PIXELS = 1 << 17
_GPU_PIXELS = 1 << 25


def tree(x: Tensor) -> Tensor:
    """Add up the last axis, (..., n) to (...), by halves: pair i with i + ceil(n / 2) till done.

    The error grows with log2(n), not with n. `x` is used up: its content is undefined afterwards.

    >>> import torch
    >>> tree(torch.arange(7.0))
    tensor(21.)
    """
    n = x.shape[-1]
    while n > 1:
        half = (n + 1) // 2
        x[..., : n - half] += x[..., half:n]
        n = half
    return x[..., 0].clone()


def chunks(values: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut (L, n) into parts small enough to work on at once: some rows, a segment of pixels.

    It bounds memory and keeps the cache warm. How many rows go together changes no bit.
    """
    limit = _CPU_PIXELS if values.device.type == "cpu" else _GPU_PIXELS
    step = max(1, limit // min(values.shape[1], SEGMENT))
    for first in range(0, values.shape[0], step):
        for start in range(0, values.shape[1], SEGMENT):
            yield slice(first, first + step), slice(start, start + SEGMENT)

"""Convolution around invalid pixels: exact where no tap is missed, a local mean where one is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.engine import convolve
from pipeline.bank.expr import Kernel

BLOCK = 64
"""Side, in pixels, of the blocks in which holes are looked for."""

Cut: TypeAlias = tuple[slice, ...]


def around_holes(
    plain: Tensor, x: Tensor, valid: Tensor, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """Correlate as if each missed tap saw the local mean of the valid pixels.

    With M the validity, w the taps and S their sum: out = w*(Mx) + mu (S - w*M), with
    mu = (|w|*Mx) / (|w|*M), and support = (|w|*M) / sum|w|. For w >= 0 this is normalised
    convolution; for a zero-sum kernel a constant scene with holes gives no edge. `plain` is
    w*(Mx), by whatever engine; written through the missing weight, w*(1 - M), the result is
    exactly that where no tap is missed. Gives it with the validity of the centres, and support.
    """
    size = Kernel.of(np.abs(kernel.array), kernel.origin)
    weight = float(size.array.sum()) or 1.0
    data, support, hole = plain.clone(), torch.ones_like(plain), ~valid
    for box, wide in _blocks_with_holes(hole, kernel):
        missing = hole[wide].to(x.dtype)
        seen = torch.where(valid[wide], x[wide], 0.0)
        missed = convolve(missing, kernel)
        around, lost = convolve(torch.cat([seen, missing]), size).chunk(2)
        data[box] += around / (weight - lost).clamp_min(weight * 1e-6) * missed
        support[box] = (1.0 - lost / weight).clamp(0.0, 1.0)
    centre = tuple(
        slice(o, n - (k - 1 - o))
        for o, k, n in zip(kernel.origin, kernel.shape, valid.shape[1:], strict=True)
    )
    return data, valid[(slice(None), *centre)], support


def _blocks_with_holes(hole: Tensor, kernel: Kernel) -> Iterator[tuple[Cut, Cut]]:
    """Where a response misses a tap: blocks of the output, and the input under them.

    Neighbours along the last axis come as one block.
    """
    shape = [n - k + 1 for n, k in zip(hole.shape[1:], kernel.shape, strict=True)]
    rows = product(*(range(0, n, BLOCK) for n in shape[:-1]))
    for corner in rows:
        lead = [slice(a, min(a + BLOCK, n)) for a, n in zip(corner, shape, strict=False)]
        under = hole[_under((*lead, slice(0, shape[-1])), kernel)]
        lines = under.any(dim=tuple(range(under.ndim - 1))).cpu().numpy()
        run: slice | None = None
        for a in range(0, shape[-1] + BLOCK, BLOCK):
            part = slice(a, min(a + BLOCK, shape[-1]))
            if a < shape[-1] and lines[a : part.stop + kernel.shape[-1] - 1].any():
                run = slice(run.start if run else a, part.stop)
            elif run is not None:
                yield (slice(None), *lead, run), _under((*lead, run), kernel)
                run = None


def _under(block: Cut, kernel: Kernel) -> Cut:
    """The input that a block of the output is computed from."""
    taps = zip(block, kernel.shape, strict=True)
    return (slice(None), *(slice(part.start, part.stop + k - 1) for part, k in taps))

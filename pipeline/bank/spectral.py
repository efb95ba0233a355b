"""Filters in the frequency domain: one forward transform for all, one inverse for each.

Planes are transformed one at a time, so that their bits do not depend on their number.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.expr import Spectral
from pipeline.types import Ints

Frequencies: TypeAlias = npt.NDArray[Any]

_REMEMBERED = 1 << 20
"""Pixels. Transfer functions of larger images are sampled again for each of them."""


def forward(planes: Tensor, rank: int) -> Tensor:
    """(P, *shape) float32 -> (P, *half) complex64: transformed over the last `rank` axes."""
    axes = tuple(range(-rank, 0))
    return torch.stack([torch.fft.rfftn(plane, dim=axes) for plane in planes])


def inverse(spectra: Tensor, node: Spectral, sizes: Ints) -> Tensor:
    """Multiply by the node's transfer function and transform back to axes of these sizes."""
    axes = tuple(range(-len(sizes), 0))
    transfer = torch.from_numpy(_half(node, sizes)).to(spectra.device)
    return torch.stack([torch.fft.irfftn(s * transfer, s=sizes, dim=axes) for s in spectra])


def gain(node: Spectral, sizes: Ints) -> float:
    """What the node multiplies a constant image by."""
    return float(_half(node, sizes).flat[0].real)


def _half(node: Spectral, sizes: Ints) -> Frequencies:
    """The half of a transfer function that rfftn keeps, complex64, or float32 where it is real."""
    return _remembered(node, sizes) if prod(sizes) <= _REMEMBERED else _sampled(node, sizes)


def _sampled(node: Spectral, sizes: Ints) -> Frequencies:
    """With y = F^-1(H X) and X of a real image, Re y and Im y are F^-1 of X times one of

    (H(k) + conj H(-k)) / 2 and (H(k) - conj H(-k)) / 2i, which have real inverse transforms.
    """
    values = np.asarray(node.transfer.sample(sizes))
    opposite = np.roll(np.flip(values), 1, axis=tuple(range(values.ndim))).conj()
    values = (values + opposite) / 2 if node.part == "real" else (values - opposite) / 2j
    kept = values[..., : sizes[-1] // 2 + 1]
    if np.iscomplexobj(kept) and kept.imag.any():
        return np.asarray(kept, np.complex64)
    return np.asarray(kept.real, np.float32)


_remembered = lru_cache(maxsize=64)(_sampled)

"""Filters in the frequency domain: one forward transform for all, one inverse for each.

Planes are transformed one at a time, so that their bits do not depend on their number.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import ceil, prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.expr import Spectral, Spectrum
from pipeline.bank.value import Value, extend
from pipeline.boundary import Boundary
from pipeline.types import Ints, Reach, Region, Tile

Frequencies: TypeAlias = npt.NDArray[Any]

_REMEMBERED = 1 << 20
"""Pixels. Transfer functions of larger images are sampled again for each of them."""


def transform(node: Spectrum, value: Value, tile: Tile) -> Value:
    """Extend whole planes, fill invalid pixels with the mean of the valid ones, transform.

    The validity that is handed on is that of the planes as they were.
    """
    shape = tile.source.header.shape
    assert tile.core == Region.whole(shape), "filters in the frequency domain take whole images"
    margin = tuple((n, n) for n in _padding(node, shape))
    mean = _valid_mean(value)
    inner = replace(value, data=_fill(value.data, value.valid, mean), margin=margin, valid=None)
    wide = extend(inner, tile.core, tile, node.boundary or Boundary())
    data = _forward(_fill(wide.data, wide.valid, mean), node.rank)
    return replace(value, data=data, support=None)


def _padding(node: Spectrum, shape: Ints) -> Ints:
    """Pixels by which each axis is extended on either side before the transform."""
    share = 0.0 if node.boundary is not None and node.boundary.mode == "wrap" else node.pad
    lead = len(shape) - node.rank
    return tuple(0 if i < lead else ceil(share * n) for i, n in enumerate(shape))


def _valid_mean(value: Value) -> Tensor:
    """The mean of each plane's valid pixels, (P,); 0 where it has none."""
    means = []
    for i, plane in enumerate(value.data):
        seen = plane if value.valid is None else plane[value.valid[i]]
        means.append(seen.double().mean() if seen.numel() else plane.new_zeros(()))
    return torch.stack([mean.to(value.data.dtype) for mean in means])


def _fill(data: Tensor, valid: Tensor | None, mean: Tensor) -> Tensor:
    if valid is None:
        return data
    return torch.where(valid, data, mean.reshape(-1, *(1,) * (data.ndim - 1)))


def respond(node: Spectral, value: Value, margin: Reach, tile: Tile) -> Value:
    """A response over the image, extended again by the boundary rule as far as it is needed."""
    shape = tile.source.header.shape
    pad = _padding(node.of, shape)
    sizes = tuple(n + 2 * p for n, p in zip(shape, pad, strict=True))[-node.of.rank :]
    data = _inverse(value.data, node, sizes)
    data = data[(slice(None), *(slice(p, p + n) for n, p in zip(shape, pad, strict=True)))]
    base = None if value.base is None else value.base * _gain(node, sizes)
    support = None
    if value.valid is not None:
        share = value.valid.flatten(1).float().mean(1)  # the reach is the image
        support = share.reshape(-1, *(1,) * len(shape)).expand(data.shape)
    found = Value(data, margin, value.valid, support, base)
    return extend(found, tile.core, tile, node.of.boundary or Boundary())


def _forward(planes: Tensor, rank: int) -> Tensor:
    """(P, *shape) float32 -> (P, *half) complex64: transformed over the last `rank` axes."""
    axes = tuple(range(-rank, 0))
    return torch.stack([torch.fft.rfftn(plane, dim=axes) for plane in planes])


def _inverse(spectra: Tensor, node: Spectral, sizes: Ints) -> Tensor:
    """Multiply by the node's transfer function and transform back to axes of these sizes."""
    axes = tuple(range(-len(sizes), 0))
    transfer = torch.from_numpy(_half(node, sizes)).to(spectra.device)
    return torch.stack([torch.fft.irfftn(s * transfer, s=sizes, dim=axes) for s in spectra])


def _gain(node: Spectral, sizes: Ints) -> float:
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

"""B-spline interpolation along one axis, by exactly rounded operations in a fixed order.

Source: M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing: part II - efficient design and
applications", IEEE Transactions on Signal Processing 41 (1993), 834-848. It is scipy.ndimage's
with mode="mirror".
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.boundary import fold

if TYPE_CHECKING:
    from torch import Tensor

Order: TypeAlias = Literal[1, 3]
Positions: TypeAlias = npt.NDArray[np.float64]

_POLE = sqrt(3.0) - 2.0
_HORIZON = 30
"""Samples after which a power of the pole, 7e-18, adds nothing to a float64."""


def interpolate(x: Tensor, axis: int, positions: Positions, order: Order) -> Tensor:
    """Values of x between its samples along an axis: float64, len(positions) of them.

    order: 1, straight lines; 3, the cubic spline through all samples. positions: in [0, n - 1].
    """
    import torch

    size = x.shape[axis]
    order = order if size > 1 else 1
    low = np.clip(np.floor(positions), 0, max(size - 2, 0)).astype(np.intp)
    t = positions - low
    if order == 1:
        weights = [1.0 - t, t]
    else:
        x, u = _coefficients(x, axis), 1.0 - t
        centre, after = (2.0 / 3.0 - s * s + s * s * s / 2.0 for s in (t, u))
        weights = [u * u * u / 6.0, centre, after, t * t * t / 6.0]
    first = 0 if order == 1 else -1
    aligned = (-1, *(1,) * (x.ndim - 1 - axis % x.ndim))
    out: Tensor | None = None
    for tap, weight in enumerate(weights, first):
        places = torch.from_numpy(fold(low + tap, size, "mirror")).to(x.device)
        part = x.index_select(axis, places).mul_(torch.from_numpy(weight).to(x).reshape(aligned))
        out = part if out is None else out.add_(part)
    assert out is not None
    return out


def _coefficients(x: Tensor, axis: int) -> Tensor:
    """The cubic spline's coefficients, mirrored about the first and the last sample."""
    size = x.shape[axis]
    c = x.movedim(axis, 0).mul(6.0).contiguous()
    period, start = 2 * size - 2, c[0].clone()
    for k in range(1, min(_HORIZON, period)):
        start.add_(c[min(k, period - k)] * _POLE**k)
    c[0] = start / (1.0 - _POLE**period)
    for k in range(1, size):
        c[k].add_(c[k - 1] * _POLE)
    c[-1] = (c[-1] + c[-2] * _POLE) * (_POLE / (_POLE * _POLE - 1.0))
    for k in range(size - 2, -1, -1):
        c[k] = (c[k + 1] - c[k]) * _POLE
    return c.movedim(0, axis)

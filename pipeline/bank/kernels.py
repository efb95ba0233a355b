"""What the filter families share when they build taps: pure numpy, float64, numpy's axis order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import erf, pi, prod, sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Array, Kernel
from pipeline.errors import PlanError
from pipeline.types import Grid, Ints

MAX_TAPS = 1 << 24
"""128 MiB of float64: a larger kernel is a slip of the unit, not a filter."""

HUGE = 1e9
"""Pixels. Any radius beyond this is refused as too large; it keeps int() from overflowing."""

MIN_SIGMA = 0.1
"""Pixels. A sampled Gaussian this narrow is one tap, its derivatives overflow long before 0."""

Convention: TypeAlias = Literal["scipy", "ibsi", "opencv", "integrated"]
"""How a Gaussian becomes taps: what `gaussian_radius` and `gaussian_taps` do about it."""


def axis_index(axis: str, grid: Grid) -> int:
    """The index of a named axis: x is the last, y the one before it, z the third-last.

    Raises
    ------
    PlanError
        Where the grid has no such axis.
    """
    back = "xyz".index(axis) + 1
    if back > grid.ndim:
        message = (
            f"these images have no axis {axis!r} ({grid.ndim} axes); "
            f"choose from: {', '.join('xyz'[: grid.ndim])}"
        )
        raise PlanError(message)
    return grid.ndim - back


def sigma_in_pixels(sigma: float, grid: Grid) -> tuple[float, ...]:
    """Divide a standard deviation by the spacing of each axis.

    Raises
    ------
    PlanError
        Where it is below 0.1 pixel along an axis.
    """
    scaled = tuple(sigma / step for step in grid.spacing)
    if min(scaled) < MIN_SIGMA:
        message = (
            f"sigma={sigma:g} is {min(scaled):.2g} pixels on spacing {grid.spacing}, less than "
            f"{MIN_SIGMA}: give a larger sigma, resample the images, or filter fewer axes (rank: 2)"
        )
        raise PlanError(message)
    return scaled


def gaussian_radius(sigma: float, truncate: float, convention: Convention = "scipy") -> int:
    """Taps on each side of the centre, in pixels: int(truncate sigma + 0.5).

    OpenCV's rule for an odd number of taps, round(2 truncate sigma + 1) | 1, gives up to one more.
    """
    if convention == "opencv":
        return round(min(2 * truncate * sigma + 1, HUGE)) // 2
    return int(min(truncate * sigma + 0.5, HUGE))


def gaussian_taps(
    sigma: float, radius: int, order: int = 0, convention: Convention = "scipy"
) -> Array:
    """Taps of the order-th derivative of a Gaussian at -radius..radius, sigma in pixels.

    g(x) = exp(-x^2 / 2 sigma^2) divided by its area A, times (-1 / sigma)^n He_n(x / sigma) for
    order n, with He_n the probabilists' Hermite polynomial. A is the sum over the samples (scipy,
    opencv) or sqrt(2 pi) sigma (ibsi). `integrated` takes the mean over each pixel instead, the
    difference of derivative n - 1 between its two edges, with A the area under all pixels.
    In the sense of a convolution: flip to correlate.
    """

    def derivative(x: Array, order: int) -> Array:
        hermite = np.polynomial.hermite_e.hermeval(x / sigma, [0.0] * order + [1.0])
        return np.asarray((-1 / sigma) ** order * hermite * np.exp(-0.5 * (x / sigma) ** 2))

    if order and radius < 1:
        message = (
            f"the derivative of a Gaussian of sigma {sigma:g} pixels, cut off at {radius} pixels, "
            "is 0 everywhere: give a larger sigma or truncate"
        )
        raise PlanError(message)
    x = np.arange(-radius, radius + 1, dtype=np.float64)
    area = sqrt(2 * pi) * sigma
    if convention == "integrated":
        edges = np.append(x, radius + 1.0) - 0.5
        primitive = np.array([area / 2 * erf(e / sigma / sqrt(2)) for e in edges])
        values = np.diff(derivative(edges, order - 1) if order else primitive)
        area = primitive[-1] - primitive[0]
    else:
        values = derivative(x, order)
        area = area if convention == "ibsi" else derivative(x, 0).sum()
    return np.asarray(values / area, dtype=np.float64)


def gaussian_weights(
    sigmas: Sequence[float], orders: Sequence[int], truncate: float, convention: Convention
) -> Array:
    """The outer product of one axis' taps after another's; in the sense of a convolution.

    Raises
    ------
    PlanError
        Above 2**24 taps.
    """
    radii = [gaussian_radius(s, truncate, convention) for s in sigmas]
    bounded(tuple(2 * r + 1 for r in radii))
    axes = (gaussian_taps(*axis, convention) for axis in zip(sigmas, radii, orders, strict=True))
    return np.asarray(reduce(np.multiply.outer, axes), dtype=np.float64)


def bounded(shape: Ints) -> Ints:
    """Return the shape of a kernel that is about to be built; PlanError above 2**24 taps."""
    if prod(shape) > MAX_TAPS:
        message = (
            f"a kernel of {'x'.join(map(str, shape))} taps is too large (at most {MAX_TAPS} taps): "
            "give a smaller size, or check the units"
        )
        raise PlanError(message)
    return shape


def convolving(weights: npt.ArrayLike) -> Kernel:
    """Flip weights of a true convolution into taps as applied; also for even sizes.

    out[i] = sum_k w[k] x[i - k + size // 2], which is scipy.ndimage.convolve.
    """
    array = np.asarray(weights, dtype=np.float64)
    return Kernel.of(np.flip(array), tuple(n - 1 - n // 2 for n in array.shape))

"""Kernels of the Visual Geometry Group's texture banks: zero mean, absolute values of sum 1."""

from __future__ import annotations

from math import cos, isclose, radians, sin

import numpy as np

from pipeline.bank.expr import Array, Conv, Input
from pipeline.bank.kernels import HUGE, MIN_SIGMA, bounded, convolving
from pipeline.bank.passes import TOLERANCE
from pipeline.errors import PlanError
from pipeline.types import Grid, Ints

SUPPORT = 24
"""Half the width of every kernel, in their pixels."""

ORIENTATIONS = tuple(30 * k for k in range(6))
"""Degrees that bars and edges turn by, clockwise from +x."""


def pixels(family: str, scale: float, grid: Grid) -> tuple[float, ...]:
    """What they call a pixel, in pixels of each axis of a grid.

    Raises
    ------
    PlanError
        Where it is below 0.1 pixel along an axis.
    """
    scaled = tuple(scale / step for step in grid.spacing)
    if min(scaled) < MIN_SIGMA:
        message = (
            f"{family}: scale={scale:g} is {min(scaled):.2g} pixels on spacing {grid.spacing}, "
            f"less than {MIN_SIGMA}: give a larger scale, or resample the images"
        )
        raise PlanError(message)
    return scaled


def square_pixel(family: str, scale: float, grid: Grid) -> float:
    """What they call a pixel, in pixels of a 2-D grid.

    Raises
    ------
    PlanError
        Also where the images are not 2-D with square pixels.
    """
    if grid.ndim != 2 or not isclose(*grid.spacing, rel_tol=1e-3):
        message = (
            f"{family} needs 2-D images with square pixels (got {grid.ndim} axes with spacing "
            f"{grid.spacing}); filter slice by slice (rank: 2), or resample"
        )
        raise PlanError(message)
    return pixels(family, scale, grid)[-1]


def offsets(*ones: float) -> tuple[Array, ...]:
    """Distances from the centre along each axis, in their pixels, shaped to broadcast."""
    halves: Ints = tuple(max(1, round(min(SUPPORT * one, HUGE))) for one in ones)
    bounded(tuple(2 * half + 1 for half in halves))
    axes = (np.arange(-half, half + 1) / one for half, one in zip(halves, ones, strict=True))
    return tuple(np.ix_(*axes))


def normalised(weights: Array) -> Conv:
    """Convolve with weights, less their mean and divided by the sum of their absolute values.

    Margins that hold less than the compiler's tolerance of that sum are cut off.
    """
    centred = weights - weights.mean()
    centred /= np.abs(centred).sum()
    for axis, size in enumerate(centred.shape):
        share = np.abs(np.moveaxis(centred, axis, 0)).reshape(size, -1).sum(1)
        outer = np.cumsum(share + share[::-1])[: size // 2]
        cut = int(np.searchsorted(outer, TOLERANCE))
        centred = centred.take(range(cut, size - cut), axis)
    return Conv(Input(), convolving(centred))


def stripe(sigma: float, degrees: float, order: int, one: float) -> Conv:
    """First (edge) or second (bar) derivative across a Gaussian three times as long as wide."""
    y, x = offsets(one, one)
    cosine, sine = cos(radians(degrees)), sin(radians(degrees))
    u, v = x * cosine + y * sine, x * sine - y * cosine
    gaussian = np.exp(-((u / (3 * sigma)) ** 2 + (v / sigma) ** 2) / 2)
    return normalised(gaussian * (-v if order == 1 else v**2 - sigma**2))


def spot(sigma: float, one: float, *, laplacian: bool) -> Conv:
    """A round Gaussian, or its Laplacian."""
    r2 = np.asarray(sum(t**2 for t in offsets(one, one)))
    gaussian = np.exp(-r2 / (2 * sigma**2))
    return normalised(gaussian * (r2 - 2 * sigma**2) if laplacian else gaussian)

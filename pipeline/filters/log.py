"""The Laplacian of a Gaussian."""

from __future__ import annotations

from math import pi, prod
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Kernel, Responses
from pipeline.bank.kernels import bounded, gaussian_radius, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid


@FILTERS.register("log")
@dataclass(frozen=True, config=PARAMETERS)
class LaplacianOfGaussian:
    """The Laplacian of a Gaussian, sampled: IBSI 2 section 3.2 (L6PA); blobs and rings.

    g(k) = -1/sigma^2 (1 / (sqrt(2 pi) sigma))^d (d - |k|^2/sigma^2) exp(-|k|^2 / 2 sigma^2)

    on the box |k_a| <= int(truncate sigma + 0.5), sigma in pixels, d the rank: a slice of the 3-D
    kernel is not the 2-D one. Negative at the centre, so a bright blob gives a negative response.
    The sum is not forced to zero (-1.7e-4 at sigma 2). It is not scipy.ndimage.gaussian_laplace,
    which adds Gaussians that are each divided by their sum, but nears it as sigma grows.
    Pixels that are not square: k_a / sigma_a per axis, the factor 1/sigma^2 with the geometric
    mean of the sigma_a. ITK and PyRadiomics multiply by sigma^2: `scale_normalized: true`.

    Examples
    --------
    >>> kernel = LaplacianOfGaussian(sigma=2).responses(Grid((1.0, 1.0)))[""].kernel
    >>> kernel.shape, float(kernel.array[8, 8].round(7))
    ((17, 17), -0.0198944)
    """

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    truncate: Annotated[float, Field(gt=0, description="half the box's edge; sigmas")] = 4.0
    scale_normalized: Annotated[
        bool, Field(description="multiply by sigma^2 (pixels), to compare scales")
    ] = False

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        # Symmetric: correlation and convolution are one.
        return {"": Conv(Input(), Kernel.of(self._weights(grid)))}

    def _weights(self, grid: Grid) -> Array:
        sigmas = sigma_in_pixels(self.sigma, grid)
        radii = [gaussian_radius(s, self.truncate) for s in sigmas]
        bounded(tuple(2 * r + 1 for r in radii))
        axes = np.ix_(*(np.arange(-r, r + 1) / s for r, s in zip(radii, sigmas, strict=True)))
        square = np.asarray(sum(a * a for a in axes), dtype=np.float64)
        density = np.exp(-square / 2) / ((2 * pi) ** (grid.ndim / 2) * prod(sigmas))
        variance = 1.0 if self.scale_normalized else prod(sigmas) ** (2 / grid.ndim)
        return np.asarray((square - grid.ndim) * density / variance, dtype=np.float64)

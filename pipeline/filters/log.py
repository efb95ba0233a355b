"""The Laplacian of a Gaussian."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Kernel, Responses
from pipeline.bank.kernels import Convention, gaussian_weights, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid


@FILTERS.register("log")
@dataclass(frozen=True, config=PARAMETERS)
class LaplacianOfGaussian:
    """The Laplacian of a Gaussian, sampled: IBSI 2 section 3.2 (L6PA); blobs and rings.

    g(k) = -1/sigma^2 (1 / (sqrt(2 pi) sigma))^d (d - |k|^2/sigma^2) exp(-|k|^2 / 2 sigma^2)

    on the box |k_a| <= int(truncate sigma + 0.5), sigma in pixels, d the rank: a slice of the 3-D
    kernel is not the 2-D one. Negative at the centre, so a bright blob gives a negative response.
    Pixels that are not square: k_a / sigma_a per axis, the factor 1/sigma^2 with the geometric
    mean of the sigma_a. ITK and PyRadiomics multiply by sigma^2: `scale_normalized: true`.

    `convention: scipy` divides the Gaussians by their sums: scipy.ndimage.gaussian_laplace; the
    others are those of `gaussian`. The sum of the taps is not forced to zero (-1.7e-4 at sigma 2).
    With `zero_sum: true` their mean is subtracted from all of them, so that a constant image
    gives 0; with `convention: scipy` that is MATLAB's fspecial("log").

    References
    ----------
    D. Marr, E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society B 207,
    1980; A. Depeursinge et al., "Standardised convolutional filtering for radiomics",
    arXiv:2006.05470, section 3.2.

    Examples
    --------
    >>> kernel = LaplacianOfGaussian(sigma=2).responses(Grid((1.0, 1.0)))[""].kernel
    >>> kernel.shape, float(kernel.array[8, 8].round(7))
    ((17, 17), -0.0198944)
    """

    topic: ClassVar[Topic] = "blobs"
    examples: ClassVar[Examples] = ({"sigma": 2},)

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    truncate: Annotated[float, Field(gt=0, description="half the box's edge; sigmas")] = 4.0
    scale_normalized: Annotated[
        bool, Field(description="multiply by sigma^2 (pixels), to compare scales")
    ] = False
    zero_sum: Annotated[bool, Field(description="subtract the mean of the taps")] = False
    convention: Annotated[Convention, Field(description="how the Gaussian becomes a kernel")] = (
        "ibsi"
    )

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        # Symmetric: correlation and convolution are one.
        return {"": Conv(Input(), Kernel.of(self._weights(grid)))}

    def _weights(self, grid: Grid) -> Array:
        sigmas = sigma_in_pixels(self.sigma, grid)
        twice = (2 * np.eye(grid.ndim, dtype=int)).tolist()
        second = (
            gaussian_weights(sigmas, orders, self.truncate, self.convention) * sigma**2
            for sigma, orders in zip(sigmas, twice, strict=True)
        )
        weights: Array = sum(second, start=np.zeros(()))
        if not self.scale_normalized:
            weights = weights / prod(sigmas) ** (2 / grid.ndim)
        return weights - weights.mean() if self.zero_sum else weights

"""The difference of two Gaussians."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Kernel, Responses
from pipeline.bank.kernels import Convention, gaussian_weights, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid

RATIO = 1.6
"""Makes it nearly the Laplacian of a Gaussian: Marr and Hildreth's compromise."""


@FILTERS.register("dog")
@dataclass(frozen=True, config=PARAMETERS)
class DifferenceOfGaussians:
    """A narrow Gaussian minus a wide one: details between the two widths, and blobs.

    g(sigma) - g(ratio sigma), both as in `gaussian`: positive at the centre, so a bright blob gives
    a positive response, where `log` gives a negative one. Equal to
    skimage.filters.difference_of_gaussians(low_sigma, high_sigma). Near -(ratio - 1) sigma^2 LoG as
    the ratio nears 1, and scale-normalised as it stands. The taps sum to 0, except with
    `convention: ibsi`.

    References
    ----------
    D. Marr, E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society B 207,
    1980.

    Examples
    --------
    >>> item = DifferenceOfGaussians(sigma=0.5, truncate=1)
    >>> item.responses(Grid((1.0,)))[""].kernel.array.round(4)
    array([-0.1325,  0.265 , -0.1325])
    """

    topic: ClassVar[Topic] = "blobs"
    examples: ClassVar[Examples] = ({"sigma": 1.5},)

    sigma: Annotated[float, Field(gt=0, description="the narrow standard deviation; a length")]
    ratio: Annotated[
        float, Field(gt=1, description="the wide standard deviation over the narrow one")
    ] = RATIO
    sigma_wide: Annotated[
        float | None, Field(gt=0, description="in place of a ratio: the wide one; a length")
    ] = None
    truncate: Annotated[float, Field(gt=0, description="radius of each kernel; sigmas")] = 4.0
    convention: Annotated[Convention, Field(description="how the Gaussians become kernels")] = (
        "scipy"
    )

    @model_validator(mode="after")
    def _the_wide_one_is_wider(self) -> Self:
        if self.sigma_wide is not None and self.ratio != RATIO:
            message = "ratio and sigma_wide say the same; give one of them"
            raise ValueError(message)
        if self.sigma_wide is not None and self.sigma_wide <= self.sigma:
            message = (
                f"sigma_wide={self.sigma_wide:g} must be greater than sigma={self.sigma:g}; "
                "exchange them"
            )
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        narrow, wide = (
            gaussian_weights(
                sigma_in_pixels(sigma, grid), (0,) * grid.ndim, self.truncate, self.convention
            )
            for sigma in (self.sigma, self.sigma_wide or self.ratio * self.sigma)
        )
        margin = [(m - n) // 2 for m, n in zip(wide.shape, narrow.shape, strict=True)]
        weights = np.pad(narrow, [(m, m) for m in margin]) - wide
        # Symmetric: correlation and convolution are one.
        return {"": Conv(Input(), Kernel.of(weights))}

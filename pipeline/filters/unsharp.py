"""Unsharp masking: an image plus what a Gaussian takes away from it."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Join, Kernel, Map, Responses
from pipeline.bank.kernels import gaussian_weights, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid


@FILTERS.register("unsharp")
@dataclass(frozen=True, config=PARAMETERS)
class Unsharp:
    """Sharpen: f + amount (f - G f), with G a Gaussian; high-boost where amount > 1. Any rank.

    G is that of `gaussian` and scipy.ndimage. Linear and not clipped: equal to
    skimage.filters.unsharp_mask(radius=sigma, amount=amount, preserve_range=True). A threshold
    leaves pixels as they are where |f - G f| is below it, in the unit of the image.

    References
    ----------
    R. Gonzalez, R. Woods, "Digital image processing", "Unsharp masking and highboost
    filtering".

    Examples
    --------
    >>> kernel = Unsharp(sigma=1, truncate=1).responses(Grid((1.0,)))[""].kernel
    >>> kernel.array.round(4)
    array([-0.2741,  1.5481, -0.2741])
    """

    topic: ClassVar[Topic] = "points, relief, sharpness"
    examples: ClassVar[Examples] = ({"sigma": 1.5},)

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")] = 1.0
    amount: Annotated[float, Field(gt=0, description="factor of what the Gaussian takes away")] = (
        1.0
    )
    truncate: Annotated[float, Field(gt=0, description="radius of the kernel; sigmas")] = 4.0
    threshold: Annotated[
        float, Field(ge=0, description="smallest |f - G f| that changes a pixel")
    ] = 0.0

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        sigmas = sigma_in_pixels(self.sigma, grid)
        blur = gaussian_weights(sigmas, (0,) * grid.ndim, self.truncate, "scipy")
        image = np.zeros_like(blur)
        image[tuple(n // 2 for n in blur.shape)] = 1.0
        if not self.threshold:
            return {"": Conv(Input(), Kernel.of(image + self.amount * (image - blur)))}
        detail = Conv(Input(), Kernel.of(image - blur))
        chosen = Map(Map(detail, "abs"), "at_least", self.threshold)
        change = Map(Join((detail, chosen), "product"), "multiply", self.amount)
        return {"": Join((Input(), change), "sum")}

"""Gaussian smoothing, and the derivatives of it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses, separable
from pipeline.bank.kernels import (
    axis_index,
    bounded,
    gaussian_radius,
    gaussian_taps,
    sigma_in_pixels,
)
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid


@FILTERS.register("gaussian")
@dataclass(frozen=True, config=PARAMETERS)
class Gaussian:
    """A Gaussian, or its derivative of some order along one axis, smoothing along the others.

    g(x) = exp(-x^2 / 2 sigma^2) per axis at the whole pixels -r..r, r = int(truncate sigma + 0.5)
    with sigma in pixels, divided by its sum; order n multiplies by the polynomial of the n-th
    derivative, per pixel^n. Convolves: order 1 is positive where the image grows. Equal to
    scipy.ndimage.gaussian_filter. Sampling distorts it below a sigma of about 0.7 pixels.

    Examples
    --------
    >>> Gaussian(sigma=1, truncate=1).responses(Grid((1.0,)))[""].kernel.array.round(4)
    array([0.2741, 0.4519, 0.2741])
    """

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    truncate: Annotated[float, Field(gt=0, description="radius of the kernel; sigmas")] = 4.0
    order: Annotated[int, Field(ge=0, le=4, description="order of the derivative; 0: none")] = 0
    axis: Annotated[Literal["x", "y", "z"] | None, Field(description="axis of the derivative")] = (
        None
    )

    @model_validator(mode="after")
    def _a_derivative_has_an_axis(self) -> Self:
        if self.order and self.axis is None:
            message = f"order={self.order} needs an axis; add axis: x, y or z"
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank; PlanError where the grid lacks the axis."""
        orders = [0] * grid.ndim
        if self.order and self.axis:
            orders[axis_index(self.axis, grid)] = self.order
        sigmas = sigma_in_pixels(self.sigma, grid)
        radii = [gaussian_radius(s, self.truncate) for s in sigmas]
        bounded(tuple(2 * r + 1 for r in radii))
        taps = [gaussian_taps(s, r, n)[::-1] for s, r, n in zip(sigmas, radii, orders, strict=True)]
        return {"": separable(taps)}

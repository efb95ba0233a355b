"""Gaussian smoothing, and the derivatives of it."""

from __future__ import annotations

from math import prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Responses
from pipeline.bank.kernels import (
    Convention,
    axis_index,
    convolving,
    gaussian_weights,
    sigma_in_pixels,
)
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.turned import turned
from pipeline.types import Grid, Ints

MAX_ORDER = 10
"""ImageScience's limit too; a radius of 4 sigma cuts the outermost lobe from order 7 on."""


@FILTERS.register("gaussian")
@dataclass(frozen=True, config=PARAMETERS)
class Gaussian:
    """A Gaussian, or a derivative of it along any axes, smoothing along the others.

    g(x) = exp(-x^2 / 2 sigma^2) per axis at the whole pixels -r..r, r = int(truncate sigma + 0.5)
    with sigma in pixels, divided by its sum; order n multiplies by the polynomial of the n-th
    derivative, per pixel^n. Convolves: order 1 is positive where the image grows. Equal to
    scipy.ndimage.gaussian_filter. Sampling distorts it below a sigma of about 0.7 pixels.

    `derivative: xxy` is d^3 / dx^2 dy; `order: 2, axis: x` is another way to write
    `derivative: xx`. Scale-normalised derivatives are multiplied by sigma^n, in pixels and axis by
    axis, so that they have the image's unit and compare across scales. The radius does not grow
    with the order, as in scipy: raise `truncate` for orders above 4.

    `convention` says how the Gaussian becomes a kernel:

    - `scipy`: as above; also scikit-image.
    - `ibsi`: divided by sqrt(2 pi) sigma instead of its sum (IBSI 2, MIRP): the taps
      sum to 1.014 per axis at sigma 0.5, 0.9999 to 1 from sigma 1 on.
    - `opencv`: round(2 truncate sigma + 1) taps per axis, plus one where that is even: OpenCV's
      rule for float images, with `truncate: 3` the one for 8 bits (getGaussianKernel;
      GaussianBlur on 8 bits also rounds the taps).
    - `integrated`: the mean over each pixel instead of the value at its centre, as if the image
      were made of squares (kornia's erf kernel), so that a narrow one still blurs; its variance
      is sigma^2 + 1/12 from a sigma of 0.7 on.

    Rotation invariance takes the largest (signed) or the mean response over the 4 (24 in 3-D)
    right-angle rotations; the mean is 0 where one of them only changes the sign (x, xxx, xy).

    References
    ----------
    T. Lindeberg, "Feature detection with automatic scale selection", International Journal of
    Computer Vision 30, 1998 (scale-normalised derivatives, gamma = 1).

    Examples
    --------
    >>> Gaussian(sigma=1, truncate=1).responses(Grid((1.0,)))[""].kernel.array.round(4)
    array([0.2741, 0.4519, 0.2741])
    """

    topic: ClassVar[Topic] = "smoothing"
    examples: ClassVar[Examples] = (
        {"sigma": 2},
        {"sigma": 2, "derivative": ["x", "xx", "xy"]},
    )

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    truncate: Annotated[float, Field(gt=0, description="radius of the kernel; sigmas")] = 4.0
    order: Annotated[
        int, Field(ge=0, le=MAX_ORDER, description="order of the derivative; 0: none")
    ] = 0
    axis: Annotated[Literal["x", "y", "z"] | None, Field(description="axis of the derivative")] = (
        None
    )
    derivative: Annotated[
        str | None,
        Field(max_length=MAX_ORDER, description="axes to differentiate along: x, xx, xy"),
    ] = None
    scale_normalized: Annotated[
        bool, Field(description="multiply by sigma^order (pixels), to compare scales")
    ] = False
    convention: Annotated[Convention, Field(description="how the Gaussian becomes a kernel")] = (
        "scipy"
    )
    rotation_invariant: RotationInvariant = "none"

    @field_validator("derivative")
    @classmethod
    def _names_axes(cls, text: str | None) -> str | None:
        if text is not None and (not text or set(text) - set("xyz")):
            message = f"must be made of the axes x, y and z, such as xx or xy (got {text!r})"
            raise ValueError(message)
        return text

    @model_validator(mode="after")
    def _a_derivative_is_given_once_and_has_an_axis(self) -> Self:
        if self.derivative and (self.order or self.axis):
            message = "derivative already says order and axis; give it or them"
            raise ValueError(message)
        if self.order and self.axis is None:
            message = f"order={self.order} needs an axis; add axis: x, y or z"
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank; PlanError where the grid lacks the axis."""
        sigmas, orders = sigma_in_pixels(self.sigma, grid), self._orders(grid)
        weights = gaussian_weights(sigmas, orders, self.truncate, self.convention)
        if self.scale_normalized:
            weights = weights * prod(s**n for s, n in zip(sigmas, orders, strict=True))
        found = {"": Conv(Input(), convolving(weights))}
        return turned("gaussian", found, self.rotation_invariant, grid)

    def _orders(self, grid: Grid) -> Ints:
        """The order of the derivative along each axis of the grid."""
        along = self.derivative or (self.axis or "") * self.order
        indices = [axis_index(axis, grid) for axis in along]
        return tuple(map(indices.count, range(grid.ndim)))

"""Gabor wavelets: a wave under a Gaussian."""

from __future__ import annotations

from math import ceil, cos, isclose, log, pi, radians, sin, sqrt
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Join, Node, Responses
from pipeline.bank.kernels import HUGE, bounded, convolving, sigma_in_pixels
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid

Orientations = Annotated[
    int, Field(ge=1, le=360, description="a count N, short for orientation: [0, 180/N, ...]")
]


def _with_shorthand(schema: dict[str, Any]) -> None:
    schema["properties"]["orientations"] = TypeAdapter(Orientations).json_schema()


@FILTERS.register("gabor")
@dataclass(frozen=True, config=ConfigDict(**PARAMETERS, json_schema_extra=_with_shorthand))
class Gabor:
    """A complex wave under a Gaussian: stripes of one width and one direction, 2-D.

    g(x, y) = exp(-(u^2 + gamma^2 v^2) / 2 sigma^2 + 2 pi i u / wavelength) gamma / (2 pi sigma^2)

    u = x cos t + y sin t and v = -x sin t + y cos t, with t the orientation: the wave runs along
    +x at 0 and turns clockwise on the screen, whose row axis points down. Convolves. Kernel, box
    and scale are those of skimage.filters.gabor_kernel (frequency = 1 / wavelength,
    sigma_x = sigma, sigma_y = sigma / gamma, n_stds = truncate), the responses those of
    skimage.filters.gabor. The Gaussian integrates to 1; IBSI 2 section 3.4 (Q88H) has its peak at
    1: multiply by 2 pi sigma^2 / gamma, sigma in pixels. The real part is not made zero-mean.
    Without sigma, skimage's bandwidth rule: sigma = wavelength / pi sqrt(ln 2 / 2)
    (2^b + 1) / (2^b - 1), with b the bandwidth in octaves.

    Examples
    --------
    >>> Gabor.spread({"wavelength": 4, "orientations": 4})
    {'wavelength': 4, 'orientation': [0.0, 45.0, 90.0, 135.0]}
    """

    wavelength: Annotated[float, Field(gt=0, description="period of the wave; a length")]
    orientation: Annotated[
        float, Field(description="direction the wave runs in, clockwise from +x; degrees")
    ] = 0.0
    sigma: Annotated[
        float | None, Field(gt=0, description="standard deviation along the wave; a length")
    ] = None
    bandwidth: Annotated[
        float,
        Field(
            ge=0.01, le=10, description="half-response bandwidth where no sigma is given; octaves"
        ),
    ] = 1.0
    gamma: Annotated[
        float,
        Field(
            ge=0.01, le=100, description="the Gaussian's width along the wave over that across it"
        ),
    ] = 1.0
    output: Annotated[
        Literal["magnitude", "real", "imaginary"], Field(description="part of the response")
    ] = "magnitude"
    truncate: Annotated[float, Field(gt=0, description="half-axes of the box; sigmas")] = 3.0

    @classmethod
    def spread(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Turn a count of orientations into the list of them, evenly spaced over 180 degrees."""
        if "orientations" not in given:
            return given
        rest = dict(given)
        count = rest.pop("orientations")
        if "orientation" in rest:
            message = "orientations is a count and orientation a list of degrees; give one of them"
            raise ValueError(message)
        if type(count) is not int or not 1 <= count <= 360:
            message = (
                f"orientations is a count from 1 to 360 (got {count!r}); "
                "for angles in degrees write orientation"
            )
            raise ValueError(message)
        return rest | {"orientation": [180.0 * k / count for k in range(count)]}

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D with square pixels."""
        kernel = self._kernel(grid)
        real, imaginary = (Conv(Input(), convolving(part)) for part in (kernel.real, kernel.imag))
        parts: dict[str, Node] = {
            "real": real,
            "imaginary": imaginary,
            "magnitude": Join((real, imaginary), "norm"),
        }
        return {"": parts[self.output]}

    def _kernel(self, grid: Grid) -> npt.NDArray[np.complex128]:
        wavelength, along = self._pixels(grid)
        across = along / self.gamma
        cosine, sine = cos(radians(self.orientation)), sin(radians(self.orientation))
        rows = self._reach(across * cosine, along * sine)
        columns = self._reach(along * cosine, across * sine)
        bounded((2 * rows + 1, 2 * columns + 1))
        y, x = np.ogrid[-rows : rows + 1, -columns : columns + 1]
        u, v = x * cosine + y * sine, -x * sine + y * cosine
        envelope = np.exp(-((u / along) ** 2 + (v / across) ** 2) / 2) / (2 * pi * along * across)
        return np.asarray(envelope * np.exp(2j * pi * u / wavelength), dtype=np.complex128)

    def _pixels(self, grid: Grid) -> tuple[float, float]:
        """Wavelength and sigma in pixels."""
        if grid.ndim != 2 or not isclose(*grid.spacing, rel_tol=1e-3):
            message = (
                "gabor needs 2-D images with square pixels "
                f"(got {grid.ndim} axes with spacing {grid.spacing}); "
                "filter slice by slice (rank: 2), resample, or give its lengths in pixels"
            )
            raise PlanError(message)
        wavelength = self.wavelength / grid.spacing[-1]
        if wavelength < 2:
            message = (
                f"gabor: wavelength={self.wavelength:g} is {wavelength:.3g} pixels; waves under "
                "2 pixels cannot be told from longer ones: give a longer one"
            )
            raise PlanError(message)
        octaves = 2.0**self.bandwidth
        ratio = sqrt(log(2) / 2) / pi * (octaves + 1) / (octaves - 1)
        return wavelength, sigma_in_pixels(self.sigma or ratio * self.wavelength, grid)[-1]

    def _reach(self, first: float, second: float) -> int:
        """Half the box's edge from the Gaussian's two half-axes on it, in pixels."""
        return ceil(min(max(self.truncate * max(abs(first), abs(second)), 1), HUGE))

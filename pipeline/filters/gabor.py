"""Gabor wavelets: a wave under a Gaussian."""

from __future__ import annotations

from itertools import combinations
from math import ceil, cos, log, pi, radians, sin, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Join, Node, Responses
from pipeline.bank.kernels import HUGE, bounded, convolving, sigma_in_pixels
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.orientations import (
    Orientation,
    OrientationPool,
    Orientations,
    TurnedOrPooled,
    half_turn,
    pooled,
    spread_orientations,
)
from pipeline.filters.turned import turned
from pipeline.types import Grid, Ints


@FILTERS.register("gabor")
@dataclass(frozen=True, config=PARAMETERS)
class Gabor:
    """A complex wave under a Gaussian: stripes of one width and one direction.

    g(x, y) = a exp(-(u^2 + gamma^2 v^2) / 2 sigma^2) exp(i (2 pi u / wavelength + phase))

    u = x cos t + y sin t and v = -x sin t + y cos t, with t the orientation: the wave runs along
    +x at 0 and turns clockwise on the screen, whose row axis points down. Convolves. The real
    part is not made zero-mean. Without sigma, skimage's bandwidth rule: sigma = wavelength / pi
    sqrt(ln 2 / 2) (2^b + 1) / (2^b - 1), with b the bandwidth in octaves.

    `convention` names whose amplitude a and whose box, when the half-axes on the image's axes,
    truncate times the Gaussian's, are r_x and r_y:

    - skimage: the Gaussian integrates to 1, a = gamma / (2 pi sigma^2) with sigma in pixels; the
      box reaches ceil(max(r, 1)). skimage.filters.gabor_kernel with frequency = 1 / wavelength,
      sigma_x = sigma, sigma_y = sigma / gamma, offset = phase, n_stds = truncate.
    - opencv: a = 1; the box reaches round(r). cv2.getGaborKernel with psi = phase (there 90 by
      default) and ksize (0, 0), or 2 radius + 1. It stores the kernel reversed and filter2D
      correlates: the response is that of the convolution here.
    - ibsi: a = 1; the box is a square that reaches ceil(truncate) of the longer half-axis. IBSI 2
      section 3.4 (Q88H), whose reference maps have kernels of radius 32.

    `pool` makes one response of N `orientations` over 180 degrees (opposite directions have equal
    magnitudes). In a volume it also pools over the planes (x, y), (x, z) and (y, z), in each of
    which the wave at 0 runs along the first axis: with mean, IBSI 2's rotation invariance.
    `rotation_invariant` pools one orientation over the right-angle rotations of its kernel, which
    lies in the plane (x, y).

    References
    ----------
    J. Daugman, "Uncertainty relation for resolution in space, spatial frequency, and
    orientation optimized by two-dimensional visual cortical filters", Journal of the Optical
    Society of America A 2, 1985; A. Depeursinge et al., "Standardised convolutional filtering
    for radiomics", arXiv:2006.05470, section 3.4.

    Examples
    --------
    >>> Gabor.spread({"wavelength": 4, "orientations": 4})
    {'wavelength': 4, 'orientation': [0.0, 45.0, 90.0, 135.0]}
    """

    topic: ClassVar[Topic] = "stripes and directions"
    examples: ClassVar[Examples] = ({"wavelength": 8, "orientations": 4, "output": "real"},)

    wavelength: Annotated[float, Field(gt=0, description="period of the wave; a length")]
    orientation: Orientation = 0.0
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
    convention: Annotated[
        Literal["skimage", "opencv", "ibsi"], Field(description="whose amplitude and box")
    ] = "skimage"
    phase: Annotated[float, Field(description="of the wave at the centre; degrees")] = 0.0
    radius: Annotated[
        int | None, Field(ge=1, description="half-width of a square box without truncation; pixels")
    ] = None
    orientations: Orientations = None
    pool: OrientationPool = "none"
    rotation_invariant: TurnedOrPooled = "none"

    spread = staticmethod(spread_orientations)

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError in a volume without a pool, or where pixels are not square."""
        wavelength, along = self._pixels(grid)
        kernels = [
            self._kernel(wavelength, along, angle)
            for angle in half_turn(self.orientation, self.orientations)
        ]
        planes = list(combinations(range(grid.ndim), 2))
        if self.rotation_invariant != "none":  # which turn the plane (x, y) into the others
            planes = planes[-1:]
        parts = [self._response(kernel, plane, grid) for plane in planes for kernel in kernels]
        found = {"": pooled(parts, self.pool)}
        return turned("gabor", found, self.rotation_invariant, grid)

    def _response(self, kernel: npt.NDArray[np.complex128], plane: Ints, grid: Grid) -> Node:
        """The chosen part of the response to a kernel in the plane of two axes."""
        flat = tuple(axis for axis in range(grid.ndim) if axis not in plane)
        real, imaginary = (
            Conv(Input(), convolving(np.expand_dims(part, flat)))
            for part in (kernel.real, kernel.imag)
        )
        if self.output == "magnitude":
            return Join((real, imaginary), "norm")
        return real if self.output == "real" else imaginary

    def _kernel(
        self, wavelength: float, along: float, orientation: float
    ) -> npt.NDArray[np.complex128]:
        across = along / self.gamma
        cosine, sine = cos(radians(orientation)), sin(radians(orientation))
        rows = self._reach(across * cosine, along * sine)
        columns = self._reach(along * cosine, across * sine)
        if self.convention == "ibsi":
            rows = columns = self._reach(along, across)
        bounded((2 * rows + 1, 2 * columns + 1))
        y, x = np.ogrid[-rows : rows + 1, -columns : columns + 1]
        u, v = x * cosine + y * sine, -x * sine + y * cosine
        amplitude = 1 / (2 * pi * along * across) if self.convention == "skimage" else 1.0
        envelope = amplitude * np.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
        wave = np.exp(1j * (2 * pi * u / wavelength + radians(self.phase)))
        return np.asarray(envelope * wave, dtype=np.complex128)

    def _pixels(self, grid: Grid) -> tuple[float, float]:
        """Wavelength and sigma in pixels."""
        square = np.allclose(grid.spacing, grid.spacing[-1], rtol=1e-3, atol=0)
        alone = self.pool == "none" and self.rotation_invariant == "none"
        if not square or grid.ndim not in ((2,) if alone else (2, 3)):
            message = (
                "gabor needs 2-D images with square pixels "
                f"(got {grid.ndim} axes with spacing {grid.spacing}); filter slice by slice "
                "(rank: 2), pool over the planes of a volume (orientations: 8, pool: mean, or "
                "rotation_invariant: mean), resample, or give its lengths in pixels"
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
        if self.radius is not None:
            return self.radius
        reach = min(self.truncate * max(abs(first), abs(second)), HUGE)
        return round(reach) if self.convention == "opencv" else ceil(max(reach, 1))

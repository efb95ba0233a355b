"""Log-Gabor filters: band-pass and one-sided, given in the frequency domain."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from math import log, radians
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Input, Join, Node, Responses, Spectral, Spectrum
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.orientations import (
    Orientation,
    OrientationPool,
    Orientations,
    TurnedOrPooled,
    direction,
    half_turn,
    pooled,
    spread_orientations,
)
from pipeline.filters.turned import turned
from pipeline.types import Grid, Ints

CUTOFF, ORDER = 0.45, 15
"""Kovesi's low-pass filter, in cycles per pixel: the corners of the spectrum are beyond it."""


@plain_dataclass(frozen=True, slots=True)
class LogGaborTransfer:
    """The transfer function of `log_gabor`: frequencies per length, angles in radians."""

    frequency: float
    sigma_on_f: float
    direction: tuple[float, ...]
    angular_sigma: float
    spacing: tuple[float, ...]

    def sample(self, shape: Ints) -> Array:
        """Real, from 0 to 1, and 0 at the frequency 0."""
        per_pixel = np.ix_(*(np.fft.fftfreq(n) for n in shape))
        f = [nu / step for nu, step in zip(per_pixel, self.spacing, strict=True)]
        radius = np.sqrt(sum(nu**2 for nu in f))
        radius.flat[0] = 1.0  # any number but 0: the value there is set below
        along = sum(d * nu for d, nu in zip(self.direction, f, strict=True)) / radius
        radial = np.exp(-(np.log(radius / self.frequency) ** 2) / (2 * log(self.sigma_on_f) ** 2))
        lowpass = 1 / (1 + (np.sqrt(sum(nu**2 for nu in per_pixel)) / CUTOFF) ** (2 * ORDER))
        angle = np.arccos(np.clip(along, -1, 1))
        values = radial * lowpass * np.exp(-(angle**2) / (2 * self.angular_sigma**2))
        values.flat[0] = 0.0
        return np.asarray(values, dtype=np.float64)


@FILTERS.register("log_gabor")
@dataclass(frozen=True, config=PARAMETERS)
class LogGabor:
    """A log-Gabor filter: one wavelength and one direction, and no response to a constant.

    H(f) = exp(-ln(|f| wavelength)^2 / 2 ln(sigma_on_f)^2) exp(-a^2 / 2 angular_sigma^2) L(f)

    a is the angle between the frequency f and the direction of the wave, H(0) = 0, and
    L = 1 / (1 + (|f| / 0.45)^30), with f in cycles per pixel, removes the corners of the spectrum.
    It multiplies the discrete Fourier transform of the image, extended by half its size on each
    side by the boundary rule. even and odd are the real and the imaginary part of the response,
    magnitude is their norm: at the wavelength and in the direction of the filter, a cosine gives
    half a cosine (even) and half a sine (odd).

    The formulae of P. Kovesi's gaborconvolve and phasecong (phasecong3 has a cosine in place of
    the angular Gaussian): sigmaOnf = sigma_on_f (0.75, 0.55 and 0.41 are about 1, 2 and 3 octaves)
    and pi / norient / dThetaOnSigma = angular_sigma. His angles turn counter-clockwise, here
    clockwise as those of `gabor`; for odd sizes his frequencies are those of a size smaller by
    one, here numpy.fft.fftfreq's; he does not extend the image (boundary: wrap).

    In a volume the direction turns by `orientation` in the plane (x, y) and by `elevation` out of
    it. Spacing may differ between axes. `pool` makes one response of N `orientations`.

    References
    ----------
    D. Field, "Relations between the statistics of natural images and the response properties of
    cortical cells", Journal of the Optical Society of America A 4, 1987; P. Kovesi, "Image
    features from phase congruency", Videre 1, 1999.

    Examples
    --------
    >>> node = LogGabor(wavelength=4, output="even").responses(Grid((1.0, 1.0)))[""]
    >>> node.transfer.sample((8, 8))[0].round(3)
    array([0.   , 0.511, 1.   , 0.791, 0.   , 0.   , 0.   , 0.   ])
    """

    topic: ClassVar[Topic] = "stripes and directions"
    examples: ClassVar[Examples] = ({"wavelength": 8, "orientations": 4, "output": "even"},)

    wavelength: Annotated[float, Field(gt=0, description="wavelength of the peak; a length")]
    orientation: Orientation = 0.0
    elevation: Annotated[
        float, Field(ge=-90, le=90, description="of the direction, towards +z; degrees")
    ] = 0.0
    sigma_on_f: Annotated[
        float,
        Field(
            ge=0.05, le=0.95, description="radial bandwidth: sigma over the peak frequency; ratio"
        ),
    ] = 0.55
    angular_sigma: Annotated[
        float, Field(gt=0, le=180, description="standard deviation over the angle; degrees")
    ] = 20.0
    output: Annotated[
        Literal["magnitude", "even", "odd"], Field(description="part of the response")
    ] = "magnitude"
    orientations: Orientations = None
    pool: OrientationPool = "none"
    rotation_invariant: TurnedOrPooled = "none"

    spread = staticmethod(spread_orientations)

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError in 1-D and where the wavelength is below two pixels."""
        if self.wavelength < 2 * max(grid.spacing):
            message = (
                f"log_gabor: wavelength={self.wavelength:g} is less than two pixels on spacing "
                f"{grid.spacing}: give a longer one, or resample the images"
            )
            raise PlanError(message)
        angles = half_turn(self.orientation, self.orientations)
        found = {"": pooled([self._response(angle, grid) for angle in angles], self.pool)}
        return turned("log_gabor", found, self.rotation_invariant, grid)

    def _response(self, angle: float, grid: Grid) -> Node:
        transfer = LogGaborTransfer(
            1 / self.wavelength,
            self.sigma_on_f,
            direction("log_gabor", angle, self.elevation, grid.ndim),
            radians(self.angular_sigma),
            grid.spacing,
        )
        spectrum = Spectrum(Input(), grid.ndim, 0.5)
        even, odd = Spectral(spectrum, transfer), Spectral(spectrum, transfer, "imaginary")
        if self.output == "magnitude":
            return Join((even, odd), "norm")
        return even if self.output == "even" else odd

"""Simoncelli's isotropic wavelet, and the frequencies on which such filters are sampled."""

from __future__ import annotations

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Input, Responses, Spectral, Spectrum
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid, Ints

Frequencies: TypeAlias = Annotated[
    Literal["ibsi", "dft"],
    Field(description="sampled as in the IBSI's reference maps, or at the transform's frequencies"),
]
Pad: TypeAlias = Annotated[
    float,
    Field(ge=0, le=2, description="extension by the boundary rule on each side; image sizes"),
]
Level: TypeAlias = Annotated[int, Field(ge=1, le=10, description="1 is the finest")]


def frequencies(shape: Ints, grid: Frequencies) -> tuple[Array, ...]:
    """Each axis's frequencies in numpy.fft's order, shaped to broadcast; Nyquist's is 1.

    dft: 2 numpy.fft.fftfreq(n). ibsi: (i - (n-1)/2) / ((n-1)/2) for i = 0..n-1, then ifftshift;
    for even n that is half a sample off, has no 0, and leaves a response with an imaginary part.

    >>> [f.ravel().round(2).tolist() for f in frequencies((3, 4), "ibsi")]
    [[0.0, 1.0, -1.0], [0.33, 1.0, -1.0, -0.33]]
    """
    axes = []
    for n in shape:
        half = (n - 1) / 2
        evenly = np.fft.ifftshift((np.arange(n) - half) / max(half, 0.5))
        axes.append(evenly if grid == "ibsi" else 2 * np.fft.fftfreq(n))
    return tuple(np.ix_(*axes))


@plain_dataclass(frozen=True, slots=True)
class SimoncelliBand:
    """The transfer function B_j of the wavelet `simoncelli`."""

    level: int
    grid: Frequencies

    def sample(self, shape: Ints) -> Array:
        """Real, from 0 to 1."""
        radius = np.sqrt(sum(nu**2 for nu in frequencies(shape, self.grid)))
        top = 2.0 ** (1 - self.level)
        inside = (radius >= top / 4) & (radius <= top)
        octaves = np.log2(2 * radius / top, out=np.zeros_like(radius), where=inside)
        return np.where(inside, np.cos(np.pi / 2 * octaves), 0.0)

    def misses(self, shape: Ints) -> bool:
        """Whether the band lies below every frequency of such an image, so that it answers 0."""
        axes = [np.unique(np.abs(nu)) for nu in frequencies(shape, self.grid)]
        lowest = float(np.linalg.norm([nu[0] for nu in axes]))
        if lowest == 0:
            lowest = min((float(nu[1]) for nu in axes if nu.size > 1), default=np.inf)
        return lowest >= 2.0 ** (1 - self.level)


@FILTERS.register("simoncelli")
@dataclass(frozen=True, config=PARAMETERS)
class Simoncelli:
    """A ring of two octaves in the frequency domain: an isotropic band-pass filter, any rank.

    IBSI 2's non-separable Simoncelli wavelet (LODD), level j:
    B_j(nu) = cos(pi/2 log2(2 nu / nu_j)) for nu_j / 4 <= nu <= nu_j, else 0; nu_j = 2^(1-j)

    with nu the Euclidean norm of the frequencies per pixel of each axis, 1 at Nyquist's. It
    multiplies the discrete Fourier transform of the whole image, and the response is the real part
    of what that transforms back to; no pixel counts by its spacing. Without `pad` the image is
    periodic, as the IBSI has it. `grid: ibsi` reproduces the IBSI's reference maps, whose
    frequencies are half a sample off where a size is even: the response to a flipped image is not
    quite the flipped response. `grid: dft` has the transform's own frequencies.

    References
    ----------
    J. Portilla, E. Simoncelli, "A parametric texture model based on joint statistics of complex
    wavelet coefficients", International Journal of Computer Vision 40, 2000; A. Depeursinge et
    al., "Standardised convolutional filtering for radiomics", arXiv:2006.05470.

    Examples
    --------
    >>> node = Simoncelli(level=2, grid="dft").responses(Grid((1.0,)))[""]
    >>> node.transfer.sample((16,))[:5].round(4)
    array([0.    , 0.    , 1.    , 0.6067, 0.    ])
    """

    topic: ClassVar[Topic] = "wavelets"
    examples: ClassVar[Examples] = ({"level": [1, 2]},)

    level: Level = 1
    grid: Frequencies = "ibsi"
    pad: Pad = 0.0

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        spectrum = Spectrum(Input(), grid.ndim, self.pad)
        return {"": Spectral(spectrum, SimoncelliBand(self.level, self.grid))}

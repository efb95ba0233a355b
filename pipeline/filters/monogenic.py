"""The monogenic signal: amplitude, phase and orientation without a choice of direction."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Input, Join, Node, Responses, Spectral, Spectrum
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.riesz import RieszTransfer
from pipeline.filters.simoncelli import Level, Pad, SimoncelliBand
from pipeline.types import Grid


@FILTERS.register("monogenic")
@dataclass(frozen=True, config=PARAMETERS)
class Monogenic:
    """Local amplitude, phase or orientation of one band of the image, any rank.

    f is the response to `simoncelli` of this level, r the vector of the first-order `riesz`
    transforms of f, both at the transform's own frequencies (`grid: dft`). Amplitude:
    sqrt(f^2 + |r|^2), the envelope. Phase: atan2(|r|, f) in radians, 0 on a bright line, pi / 2 on
    an edge, pi on a dark line. Orientation (2-D): atan2(r_y, r_x) in radians, the way the image
    darkens: 0 to the right, pi / 2 down the screen. The sign of r is that of the source.

    References
    ----------
    M. Felsberg, G. Sommer, "The monogenic signal", IEEE Transactions on Signal Processing 49,
    2001.

    Examples
    --------
    >>> Monogenic(level=2, output="phase").responses(Grid((1.0, 1.0)))[""].fn
    'atan2'
    """

    topic: ClassVar[Topic] = "wavelets"
    examples: ClassVar[Examples] = ({"level": 2},)

    level: Level = 1
    output: Annotated[
        Literal["amplitude", "phase", "orientation"], Field(description="part of the response")
    ] = "amplitude"
    pad: Pad = 0.5

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError for the orientation of images that are not 2-D."""
        spectrum = Spectrum(Input(), grid.ndim, self.pad)
        band = SimoncelliBand(self.level, "dft")
        even = Spectral(spectrum, band)
        units = np.eye(grid.ndim, dtype=int).tolist()
        odd = tuple(Spectral(spectrum, RieszTransfer(tuple(one), "dft", band)) for one in units)
        if self.output == "orientation":
            if grid.ndim != 2:
                message = (
                    f"output: orientation needs 2-D images, these have {grid.ndim} axes; "
                    "take the amplitude or phase, or filter slice by slice (rank: 2)"
                )
                raise PlanError(message)
            return {"": Join(odd, "atan2")}
        parts: dict[str, Node] = {
            "amplitude": Join((even, *odd), "norm"),
            "phase": Join((Join(odd, "norm"), even), "atan2"),
        }
        return {"": parts[self.output]}

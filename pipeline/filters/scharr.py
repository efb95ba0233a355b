"""The Scharr gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import Normalize, Output, Pair, Turned, gradient
from pipeline.types import Grid

PAIRS = {
    3: Pair((-1, 0, 1), (3, 10, 3)),
    5: Pair(
        tuple(n / 256 for n in (-21.27, -85.46, 0, 85.46, 21.27)),
        tuple(n / 256 for n in (5.91, 61.77, 120.64, 61.77, 5.91)),
    ),
}


@FILTERS.register("scharr")
@dataclass(frozen=True, config=PARAMETERS)
class Scharr:
    """The Scharr gradient: taps -1 0 1 along one axis, 3 10 3 across it, any rank.

    Its direction is truer than Sobel's, of waves of 4 pixels by 0.3 instead of 3.2 degrees. With 5
    taps, 5.91 61.77 120.64 61.77 5.91 across -21.27 -85.46 0 85.46 21.27, all divided by 256, it
    is off by 0.01 degrees, and gives 1 on f = x. The sign and scale of 3 taps are OpenCV's: 32 on
    f = x in 2-D. For 7 taps take `farid`: a table of Scharr's is not known to us.
    scikit-image gives twice the normalised components, and a magnitude that is divided by
    sqrt(d), d the rank. Magnitude, orientation and rotation_invariant as in `sobel`.

    References
    ----------
    H. Scharr, "Optimale Operatoren in der Digitalen Bildverarbeitung", thesis, Heidelberg, 2000,
    table B.11 (5 taps, which VIGRA 2 rounds to 4 digits).

    Examples
    --------
    >>> Scharr(output="x", normalize=True).responses(Grid((1.0,)))[""].kernel.array
    array([-0.5,  0. ,  0.5])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["y", "x"]},)

    size: Annotated[Literal[3, 5], Field(description="taps per axis; pixels")] = 3
    output: Output = "magnitude"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        pair = PAIRS[self.size]
        pair = pair.unit() if self.normalize else pair
        return {"": gradient(pair, self.output, self.rotation_invariant, grid)}

"""The Scharr gradient."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import Normalize, Output, Pair, Turned, gradient
from pipeline.types import Grid


@FILTERS.register("scharr")
@dataclass(frozen=True, config=PARAMETERS)
class Scharr:
    """The Scharr gradient: taps -1 0 1 along one axis, 3 10 3 across it, any rank.

    Its direction is truer than Sobel's. Sign and scale of OpenCV's Scharr: 32 on f = x in 2-D.
    scikit-image gives twice the normalised components, and a magnitude that is divided by
    sqrt(d), d the rank. Magnitude, orientation and rotation_invariant as in `sobel`.

    References
    ----------
    H. Scharr, "Optimale Operatoren in der Digitalen Bildverarbeitung", thesis, Heidelberg,
    2000.

    Examples
    --------
    >>> Scharr(output="x", normalize=True).responses(Grid((1.0,)))[""].kernel.array
    array([-0.5,  0. ,  0.5])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["y", "x"]},)

    output: Output = "magnitude"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        pair = Pair((-1, 0, 1), (3, 10, 3))
        pair = pair.unit() if self.normalize else pair
        return {"": gradient(pair, self.output, self.rotation_invariant, grid)}

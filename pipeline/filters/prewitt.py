"""The Prewitt gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import Normalize, Output, Pair, Turned, gradient
from pipeline.types import Grid


@FILTERS.register("prewitt")
@dataclass(frozen=True, config=PARAMETERS)
class Prewitt:
    """The Prewitt gradient: taps -1 0 1 along one axis, 1 1 1 across it, any rank.

    With 5 taps -2 -1 0 1 2, with 7 taps -3 to 3, and as many ones across: up to its scale the slope
    of the plane that fits the window best (least squares), as Prewitt derives it; `normalize`
    gives that slope. Sign and scale of scipy.ndimage.prewitt: 6 on f = x in 2-D with 3 taps.
    scikit-image gives twice the normalised components, and a magnitude that is divided by
    sqrt(d), d the rank. Magnitude, orientation and rotation_invariant as in `sobel`.

    References
    ----------
    J. Prewitt, "Object enhancement and extraction", in "Picture processing and
    psychopictorics", 1970.

    Examples
    --------
    >>> Prewitt(output="y").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["y", "x"]},)

    size: Annotated[Literal[3, 5, 7], Field(description="taps per axis; pixels")] = 3
    output: Output = "magnitude"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        radius = self.size // 2
        pair = Pair(range(-radius, radius + 1), [1.0] * self.size)
        pair = pair.unit() if self.normalize else pair
        return {"": gradient(pair, self.output, self.rotation_invariant, grid)}

"""The Sobel gradient."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import Normalize, Output, Pair, Turned, binomial_taps, gradient
from pipeline.types import Grid


@FILTERS.register("sobel")
@dataclass(frozen=True, config=PARAMETERS)
class Sobel:
    """The Sobel gradient: taps -1 0 1 along one axis, 1 2 1 across it, any rank.

    With 5 taps -1 -2 0 2 1 and 1 4 6 4 1, with 7 taps -1 -4 -5 0 5 4 1 and 1 6 15 20 15 6 1:
    OpenCV's getDerivKernels. Positive where the image grows with the index. Magnitude is the root
    of the sum of squares over all axes, orientation atan2(gy, gx) in radians: 0 to the right,
    pi / 2 down the screen. Differences are per pixel. On f = x in 2-D: 8, 128 and 2048 for 3, 5
    and 7 taps, as in scipy.ndimage.sobel and OpenCV; 1 when normalised, as in kornia. scikit-image
    gives twice the normalised components, and a magnitude that is divided by sqrt(d), d the rank.
    `rotation_invariant: max` of a component is max(|gx|, |gy|).

    References
    ----------
    I. Sobel, G. Feldman, "A 3x3 isotropic gradient operator for image processing", Stanford
    Artificial Intelligence Project, 1968.

    Examples
    --------
    >>> Sobel(output="x").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["y", "x"]},)

    size: Annotated[Literal[3, 5, 7], Field(description="taps per axis; pixels")] = 3
    output: Output = "magnitude"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        pair = Pair(tuple(binomial_taps(self.size, 1)), tuple(binomial_taps(self.size, 0)))
        pair = pair.unit() if self.normalize else pair
        return {"": gradient(pair, self.output, self.rotation_invariant, grid)}

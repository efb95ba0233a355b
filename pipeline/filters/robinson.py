"""The Robinson compass operator."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.compass import Output, Turned, compass
from pipeline.filters.gradient import Normalize
from pipeline.filters.turned import turned
from pipeline.types import Grid

RINGS = {3: (1, 1, 0, -1, -1, -1, 0, 1), 5: (2, 1, 0, -1, -2, -1, 0, 1)}
"""By the number of distinct weights: clockwise from the direction."""


@FILTERS.register("robinson")
@dataclass(frozen=True, config=PARAMETERS)
class Robinson:
    """The Robinson operator: the Sobel kernel turned by eighths around its centre, 2-D.

    With 5 levels (weights -2 to 2) the Sobel kernel, with 3 levels (-1 to 1) the Prewitt kernel. A
    direction names the side with the positive weights; opposite directions are negatives of each
    other, so `max` is the largest absolute response. (Tables that name a kernel after the line of
    its zeros call e north.) `argmax` is its direction in eighths of a turn: 0 for e, then
    clockwise on the screen (2 is s, 4 is w, 6 is n), the first of equal ones.
    f = x gives 8 (5 levels) or 6 (3 levels) in e, or 1 when normalised.

    References
    ----------
    G. Robinson, "Edge detection by compass gradient masks", Computer Graphics and Image
    Processing 6, 1977.

    Examples
    --------
    >>> Robinson(output="ne").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[ 0.,  1.,  2.],
           [-1.,  0.,  1.],
           [-2., -1.,  0.]])
    """

    topic: ClassVar[Topic] = "edges in eight directions"
    examples: ClassVar[Examples] = ({},)

    levels: Annotated[Literal[3, 5], Field(description="number of distinct weights")] = 5
    output: Output = "max"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D."""
        ring = RINGS[self.levels]
        node = compass("robinson", ring, 0, self.output, normalize=self.normalize, grid=grid)
        return turned("robinson", {"": node}, self.rotation_invariant, grid)

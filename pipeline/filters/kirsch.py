"""The Kirsch compass operator."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.compass import Output, Turned, compass
from pipeline.filters.gradient import Normalize
from pipeline.filters.turned import turned
from pipeline.types import Grid


@FILTERS.register("kirsch")
@dataclass(frozen=True, config=PARAMETERS)
class Kirsch:
    """The Kirsch operator: 5 on three neighbours in a row, -3 on the other five, 2-D.

    A direction names the side on which the weights are 5, so a response is positive where the
    image is brighter on that side. `max` is the largest of the eight signed responses, never
    negative; `argmax` its direction in eighths of a turn: 0 for e, then clockwise on the screen
    (2 is s, 4 is w, 6 is n), the first of equal ones. Others start elsewhere or turn the other
    way. f = x gives 24 in e, or 1 when normalised.

    References
    ----------
    R. Kirsch, "Computer determination of the constituent structure of biological images",
    Computers and Biomedical Research 4, 1971.

    Examples
    --------
    >>> Kirsch(output="n").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[ 5.,  5.,  5.],
           [-3.,  0., -3.],
           [-3., -3., -3.]])
    """

    topic: ClassVar[Topic] = "edges in eight directions"
    examples: ClassVar[Examples] = ({},)

    output: Output = "max"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D."""
        ring = (5, 5, -3, -3, -3, -3, -3, 5)
        node = compass("kirsch", ring, 0, self.output, normalize=self.normalize, grid=grid)
        return turned("kirsch", {"": node}, self.rotation_invariant, grid)

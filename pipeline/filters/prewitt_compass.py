"""The Prewitt compass operator."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.compass import Output, Turned, compass
from pipeline.filters.gradient import Normalize
from pipeline.filters.turned import turned
from pipeline.types import Grid


@FILTERS.register("prewitt_compass")
@dataclass(frozen=True, config=PARAMETERS)
class PrewittCompass:
    """Prewitt's compass: 1 on five neighbours in a row, -1 on the other three, -2 between, 2-D.

    A direction names the side of the middle one of the five; `max` and `argmax` as in `kirsch`.
    Unlike `robinson: {levels: 3}` it also answers to dark dots and lines. f = x gives 6 in e, or 1
    when normalised.

    References
    ----------
    J. Prewitt, "Object enhancement and extraction", in "Picture processing and
    psychopictorics", 1970; the kernels as R. Fisher et al., "Hypermedia image processing
    reference", and Earth Engine's ee.Kernel.compass print them.

    Examples
    --------
    >>> PrewittCompass(output="e").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1.,  1.,  1.],
           [-1., -2.,  1.],
           [-1.,  1.,  1.]])
    """

    topic: ClassVar[Topic] = "edges in eight directions"
    examples: ClassVar[Examples] = ({},)

    output: Output = "max"
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D."""
        ring = (1, 1, 1, -1, -1, -1, 1, 1)
        normalize = self.normalize
        node = compass("prewitt_compass", ring, -2, self.output, normalize=normalize, grid=grid)
        return turned("prewitt_compass", {"": node}, self.rotation_invariant, grid)

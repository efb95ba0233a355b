"""Embossing: an image lit from one side."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Kernel, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.compass import Direction, pointing
from pipeline.filters.gradient import flat
from pipeline.filters.robinson import RINGS
from pipeline.filters.turned import turned
from pipeline.types import Grid


@FILTERS.register("emboss")
@dataclass(frozen=True, config=PARAMETERS)
class Emboss:
    """The image plus its change in one direction (the Sobel kernel turned by eighths), 2-D.

    With strength 1 the kernels of ImageJ's Process > Shadows: what rises in the direction turns
    brighter, what falls darker, flat parts stay as they are (sum 1); nothing is clipped and no grey
    is added. e is +x and s is +y. The change alone is `robinson: {output: se}`.

    References
    ----------
    W. Rasband, "ImageJ", US National Institutes of Health, Process > Shadows.

    Examples
    --------
    >>> Emboss().responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-2., -1.,  0.],
           [-1.,  1.,  1.],
           [ 0.,  1.,  2.]])
    """

    topic: ClassVar[Topic] = "points, relief, sharpness"
    examples: ClassVar[Examples] = ({"direction": ["se", "n"]},)

    direction: Annotated[Direction, Field(description="where a rise turns brighter")] = "se"
    strength: Annotated[float, Field(gt=0, description="factor of the change")] = 1.0
    rotation_invariant: RotationInvariant = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D."""
        flat("emboss", "filter slice by slice (rank: 2)", grid)
        weights = self.strength * pointing(RINGS[5], 0, self.direction)
        weights += np.pad([[1.0]], 1)
        found = {"": Conv(Input(), Kernel.of(weights))}
        return turned("emboss", found, self.rotation_invariant, grid)

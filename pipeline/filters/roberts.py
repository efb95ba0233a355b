"""The Roberts cross."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Join, Kernel, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.gradient import flat
from pipeline.filters.turned import turned
from pipeline.types import Grid


@FILTERS.register("roberts")
@dataclass(frozen=True, config=PARAMETERS)
class Roberts:
    """The Roberts cross: differences along both diagonals of 2x2 pixels, 2-D.

    diagonal     f[y + 1, x + 1] - f[y, x]
    antidiagonal f[y + 1, x] - f[y, x + 1]

    The 2x2 pixels start at the pixel itself: the response belongs half a pixel further down and to
    the right. Signs are those of skimage.filters.roberts_pos_diag and roberts_neg_diag. Magnitude
    is the root of the sum of squares, sqrt(2) on f = x. Normalised, all are divided by sqrt(2),
    the length of a diagonal: the magnitude is 1 on f = x, as in skimage.filters.roberts. The
    rotations of `rotation_invariant` turn around the pixel: its four squares of 2x2 pixels.

    References
    ----------
    L. Roberts, "Machine perception of three-dimensional solids", thesis, MIT, 1963.

    Examples
    --------
    >>> Roberts(output="diagonal").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1.,  0.],
           [ 0.,  1.]])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["diagonal", "antidiagonal"]},)

    output: Annotated[
        Literal["diagonal", "antidiagonal", "magnitude"],
        Field(description="one difference, or the length of both"),
    ] = "magnitude"
    normalize: Annotated[
        bool, Field(description="divide by sqrt(2), so that the magnitude of f = x is 1")
    ] = False
    rotation_invariant: RotationInvariant = "none"

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D."""
        flat("roberts", "filter slice by slice (rank: 2)", grid)
        length = sqrt(2) if self.normalize else 1.0
        differences = np.array([[[-1, 0], [0, 1]], [[0, -1], [1, 0]]]) / length
        first, second = (Conv(Input(), Kernel.of(taps, (0, 0))) for taps in differences)
        parts: dict[str, Node] = {
            "diagonal": first,
            "antidiagonal": second,
            "magnitude": Join((first, second), "norm"),
        }
        found = {"": parts[self.output]}
        return turned("roberts", found, self.rotation_invariant, grid)

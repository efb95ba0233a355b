"""First differences with smoothing across: Sobel, Prewitt and Scharr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Node, Responses, separable
from pipeline.bank.kernels import axis_index
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid

Output: TypeAlias = Annotated[
    Literal["y", "x", "z", "magnitude", "orientation"],
    Field(description="one component, or the length or direction (2-D; radians) of all"),
]
Normalize: TypeAlias = Annotated[
    bool, Field(description="divide by the taps' gain, so that f = x gives 1")
]


def gradient(smooth: Sequence[float], output: Output, normalize: Normalize, grid: Grid) -> Node:
    """Differentiate along an axis with taps -1 0 1, smooth across it; or combine all axes.

    f = x gives 2 sum(smooth)^(d - 1), or 1 when normalised; per pixel, whatever the spacing.
    """
    if output == "magnitude":
        return Join(tuple(_component(smooth, i, normalize, grid) for i in range(grid.ndim)), "norm")
    if output != "orientation":
        return _component(smooth, axis_index(output, grid), normalize, grid)
    if grid.ndim != 2:
        message = (
            f"output: orientation needs 2-D images, these have {grid.ndim} axes; "
            "take the components, or filter slice by slice (rank: 2)"
        )
        raise PlanError(message)
    return Join(tuple(_component(smooth, i, normalize, grid) for i in range(2)), "atan2")


def _component(smooth: Sequence[float], axis: int, normalize: bool, grid: Grid) -> Node:
    gain = (2.0, float(sum(smooth))) if normalize else (1.0, 1.0)
    across = np.asarray(smooth) / gain[1]
    along = np.array([-1.0, 0.0, 1.0]) / gain[0]
    return separable([along if i == axis else across for i in range(grid.ndim)])


@FILTERS.register("sobel")
@dataclass(frozen=True, config=PARAMETERS)
class Sobel:
    """The Sobel gradient: taps -1 0 1 along one axis, 1 2 1 across it, any rank.

    Sign and scale of scipy.ndimage.sobel: positive where the image grows with the index, 8 on
    f = x in 2-D. Magnitude is the root of the sum of squares over all axes, orientation
    atan2(gy, gx) in radians: 0 to the right, pi / 2 down the screen. Differences are per pixel.
    Source: I. Sobel, G. Feldman, "A 3x3 isotropic gradient operator", 1968.

    Examples
    --------
    >>> Sobel(output="x").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1.,  0.,  1.],
           [-2.,  0.,  2.],
           [-1.,  0.,  1.]])
    """

    output: Output = "magnitude"
    normalize: Normalize = False

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        return {"": gradient((1, 2, 1), self.output, self.normalize, grid)}


@FILTERS.register("prewitt")
@dataclass(frozen=True, config=PARAMETERS)
class Prewitt:
    """The Prewitt gradient: taps -1 0 1 along one axis, 1 1 1 across it, any rank.

    Sign and scale of scipy.ndimage.prewitt: 6 on f = x in 2-D. Magnitude and orientation as in
    `sobel`. Source: J. Prewitt, "Object enhancement and extraction", 1970.

    Examples
    --------
    >>> Prewitt(output="y").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[-1., -1., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  1.,  1.]])
    """

    output: Output = "magnitude"
    normalize: Normalize = False

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        return {"": gradient((1, 1, 1), self.output, self.normalize, grid)}


@FILTERS.register("scharr")
@dataclass(frozen=True, config=PARAMETERS)
class Scharr:
    """The Scharr gradient: taps -1 0 1 along one axis, 3 10 3 across it, any rank.

    Its direction is truer than Sobel's. Sign and scale of OpenCV's Scharr: 32 on f = x in 2-D.
    Magnitude and orientation as in `sobel`. Source: H. Scharr, thesis, Heidelberg 2000.

    Examples
    --------
    >>> Scharr(output="x", normalize=True).responses(Grid((1.0,)))[""].kernel.array
    array([-0.5,  0. ,  0.5])
    """

    output: Output = "magnitude"
    normalize: Normalize = False

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or the angle."""
        return {"": gradient((3, 10, 3), self.output, self.normalize, grid)}

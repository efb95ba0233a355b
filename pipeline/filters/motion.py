"""The mean along a line segment."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isclose
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Kernel, Responses
from pipeline.bank.kernels import HUGE, bounded
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.orientations import (
    OrientationPool,
    Orientations,
    TurnedOrPooled,
    direction,
    half_turn,
    pooled,
    spread_orientations,
)
from pipeline.filters.turned import turned
from pipeline.types import Grid

TOUCH = 1e-9
"""How far a segment must enter a row of pixels to count, against rounding."""


@FILTERS.register("motion")
@dataclass(frozen=True, config=PARAMETERS)
class Motion:
    """The mean along a line of some length and direction: motion blur; lines, with `pool: max`.

    w(k) = max(0, 1 - distance of k from the segment), divided by its sum: the segment is
    length - 1 pixels long and centred, its direction 0 is +x and turns clockwise on the screen.
    In a volume it also rises out of (x, y) by `elevation`. `pool` makes one response of N
    `orientations`.

    The kernel that MATLAB documents of fspecial("motion", length, -orientation). Its code agrees
    at 0 and 90 degrees; in between it puts pixels beside the ends farther away than they are
    (length 3 at 45 degrees: 0.32 at the centre, here 0.30).

    References
    ----------
    MathWorks, "Image Processing Toolbox: fspecial".

    Examples
    --------
    >>> Motion(length=3).responses(Grid((1.0, 1.0)))[""].kernel.array.round(4)
    array([[0.3333, 0.3333, 0.3333]])
    """

    topic: ClassVar[Topic] = "smoothing"
    examples: ClassVar[Examples] = ({"length": 9, "orientation": [0, 30]},)

    length: Annotated[float, Field(gt=0, description="pixels in a row that are averaged; a length")]
    orientation: Annotated[
        float, Field(description="clockwise from +x; with pool, the first's; degrees")
    ] = 0.0
    elevation: Annotated[
        float, Field(ge=-90, le=90, description="of the line, towards +z; degrees")
    ] = 0.0
    orientations: Orientations = None
    pool: OrientationPool = "none"
    rotation_invariant: TurnedOrPooled = "none"

    spread = staticmethod(spread_orientations)

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError in 1-D, or where pixels are not square or cubic."""
        if not isclose(min(grid.spacing), max(grid.spacing), rel_tol=1e-3):
            message = (
                f"motion needs pixels of equal edges (got spacing {grid.spacing}); "
                "resample, filter slice by slice (rank: 2), or give its length in pixels"
            )
            raise PlanError(message)
        half = min(max(self.length / grid.spacing[-1] - 1, 0) / 2, HUGE)
        lines = (
            _line(half, direction("motion", angle, self.elevation, grid.ndim))
            for angle in half_turn(self.orientation, self.orientations)
        )
        # Symmetric: correlation and convolution are one.
        found = {"": pooled([Conv(Input(), Kernel.of(line)) for line in lines], self.pool)}
        return turned("motion", found, self.rotation_invariant, grid)


def _line(half: float, towards: Sequence[float]) -> Array:
    """Weights around a segment that reaches `half` pixels to either side of the centre."""
    reach = [max(ceil(abs(half * t) - TOUCH), 0) for t in towards]
    shape = bounded(tuple(2 * r + 1 for r in reach))
    pixels = np.moveaxis(np.indices(shape), 0, -1) - np.array(reach)
    along = np.clip(pixels @ np.array(towards), -half, half)
    distance = np.linalg.norm(pixels - along[..., None] * np.array(towards), axis=-1)
    weights = np.maximum(1 - distance, 0.0)
    return np.asarray(weights / weights.sum(), dtype=np.float64)

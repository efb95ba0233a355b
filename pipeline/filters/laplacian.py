"""The discrete Laplacian."""

from __future__ import annotations

from functools import reduce
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Kernel, Responses
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import binomial_taps
from pipeline.types import Grid

NEIGHBOURS = {1: (2,), 2: (4, 8), 3: (6, 18, 26)}
"""By rank: how many of the pixels around one share a face, also an edge, also a corner with it."""


@FILTERS.register("laplacian")
@dataclass(frozen=True, config=PARAMETERS)
class Laplacian:
    """The sum of differences to the neighbours: out[i] = sum_n (x[n] - x[i]).

    With the fewest neighbours it is the sum of second differences, equal to
    scipy.ndimage.laplace: 1 on f = x^2 / 2, negative at a bright point. More neighbours make it
    rounder and larger (3 on that f with 8, 5 with 18, 9 with 26). With a size it is the sum over
    the axes of second differences smoothed by binomials, OpenCV's Laplacian of that ksize: 4, 64
    and 1024 on that f in 2-D for 3, 5 and 7 taps. Nothing is scaled back unless normalised;
    kornia's is a sixteenth of 8 neighbours, scikit-image's has the opposite sign: `negate: true`.

    References
    ----------
    R. Gonzalez, R. Woods, "Digital image processing", "The Laplacian" (4 and 8 neighbours); G.
    Bradski, "The OpenCV library", Dr. Dobb's Journal, 2000 (sizes).

    Examples
    --------
    >>> Laplacian().responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """

    topic: ClassVar[Topic] = "points, relief, sharpness"
    examples: ClassVar[Examples] = ({"neighbours": [4, 8]},)

    neighbours: Annotated[
        Literal[2, 4, 6, 8, 18, 26] | None,
        Field(description="pixels compared with: 2 (1-D), 4 or 8 (2-D), 6, 18 or 26 (3-D)"),
    ] = None
    size: Annotated[
        Literal[3, 5, 7] | None,
        Field(description="taps per axis of smoothed second differences, instead of neighbours"),
    ] = None
    normalize: Annotated[
        bool, Field(description="divide by the taps' gain, so that f = x^2 / 2 gives 1")
    ] = False
    negate: Annotated[bool, Field(description="positive at a bright point")] = False

    @model_validator(mode="after")
    def _has_one_form(self) -> Self:
        if self.neighbours and self.size:
            message = "neighbours and size are two forms of the Laplacian; give one of them"
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid's rank has no such neighbours."""
        weights = self._smoothed(self.size, grid) if self.size else self._differences(grid)
        gain = -1.0 if self.negate else 1.0
        if self.normalize:
            offsets = np.arange(weights.shape[-1]) - weights.shape[-1] // 2
            gain *= float((weights @ offsets**2).sum() / 2)
        return {"": Conv(Input(), Kernel.of(weights / gain))}

    def _differences(self, grid: Grid) -> Array:
        choices = NEIGHBOURS[grid.ndim]
        count = self.neighbours or choices[0]
        if count not in choices:
            message = (
                f"laplacian: neighbours={count} does not exist in {grid.ndim}-D; "
                f"choose from: {', '.join(map(str, choices))}"
            )
            raise PlanError(message)
        # The distance in steps along axes: 1 across a face, 2 an edge, 3 a corner.
        steps = np.abs(np.indices((3,) * grid.ndim) - 1).sum(axis=0)
        weights = (steps <= choices.index(count) + 1).astype(np.float64)
        weights[(1,) * grid.ndim] = -count
        return np.asarray(weights)

    def _smoothed(self, size: int, grid: Grid) -> Array:
        second, mean = binomial_taps(size, 2), binomial_taps(size, 0)
        axes = range(grid.ndim)
        parts = ([second if i == axis else mean for i in axes] for axis in axes)
        return np.asarray(sum(reduce(np.multiply.outer, taps) for taps in parts))

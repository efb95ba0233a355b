"""The discrete Laplacian."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Kernel, Responses
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid

NEIGHBOURS = {1: (2,), 2: (4, 8), 3: (6, 18, 26)}
"""By rank: how many of the pixels around one share a face, also an edge, also a corner with it."""


@FILTERS.register("laplacian")
@dataclass(frozen=True, config=PARAMETERS)
class Laplacian:
    """The sum of differences to the neighbours: out[i] = sum_n (x[n] - x[i]).

    With the fewest neighbours it is the sum of second differences, equal to
    scipy.ndimage.laplace: 1 on f = x^2 / 2, negative at a bright point. More neighbours make it
    rounder and larger (3 on that f with 8, 5 with 18, 9 with 26); it is not scaled back.

    Examples
    --------
    >>> Laplacian().responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """

    neighbours: Annotated[
        Literal[2, 4, 6, 8, 18, 26] | None,
        Field(description="pixels compared with: 2 (1-D), 4 or 8 (2-D), 6, 18 or 26 (3-D)"),
    ] = None

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid's rank has no such neighbours."""
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
        return {"": Conv(Input(), Kernel.of(weights))}

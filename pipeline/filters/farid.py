"""The Farid-Simoncelli derivatives."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Node, Responses, separable
from pipeline.bank.kernels import axis_index
from pipeline.bank.rotations import pool_rotations
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.gradient import Normalize, Pair, Turned, gradient
from pipeline.types import Grid

FIRST = {
    3: ((0.540242, 0.229879), (0.425287,)),
    5: (
        (0.426374573253687, 0.249153396177344, 0.0376593171958126),
        (0.276690988455557, 0.109603762960254),
    ),
    7: ((0.361117, 0.245410, 0.069321, 0.004711), (0.193091, 0.125376, 0.018708)),
}
"""p from its centre outwards and d1 right of its centre, matched for the first derivative: table 1
of the paper, with the further decimals of scikit-image for 5 taps."""

SECOND = {
    5: ((0.439911, 0.249724, 0.030320), (0.292315, 0.104550), (0.002668, 0.232905)),
    7: (*FIRST[7], (-0.056554, 0.137778, 0.055336)),
}
"""p, d1 and d2 right of its centre, matched for both orders. The centre of d2 makes its sum 0; as
published, -0.471147 and -0.273118, it misses that in the last digit."""


@FILTERS.register("farid")
@dataclass(frozen=True, config=PARAMETERS)
class Farid:
    """The derivatives of Farid and Simoncelli: 3, 5 or 7 taps p and d1 that are matched, any rank.

    d1 runs along one axis, the prefilter p across it, so that d1 is nearly the derivative of what
    p interpolates: the direction is truer than Sobel's and Scharr's. `xx` and `xy` are second
    derivatives by the taps p, d1, d2 that are matched for both orders (5 or 7 taps). The taps
    stand as published, per pixel: on f = x 0.9918 with 5 taps, as in skimage.filters.farid (whose
    magnitude is divided by sqrt(d), d the rank); normalised 1, as are f = x^2 / 2 and f = xy.
    Magnitude, orientation and rotation_invariant as in `sobel`.

    References
    ----------
    H. Farid, E. Simoncelli, "Differentiation of discrete multidimensional signals", IEEE
    Transactions on Image Processing 13, 2004, table 1.

    Examples
    --------
    >>> Farid(size=3, output="x").responses(Grid((1.0,)))[""].kernel.array
    array([-0.425287,  0.      ,  0.425287])
    """

    topic: ClassVar[Topic] = "edges"
    examples: ClassVar[Examples] = ({"output": ["x", "xx", "xy"]},)

    size: Annotated[Literal[3, 5, 7], Field(description="taps per axis; pixels")] = 5
    output: Annotated[
        Literal[
            "y", "x", "z", "magnitude", "orientation", "yy", "xx", "zz", "xy", "xz", "yz"
        ],
        Field(
            description="one first or second derivative, or the length or direction (2-D; radians) "
            "of the first ones"
        ),
    ] = "magnitude"  # fmt: skip
    normalize: Normalize = False
    rotation_invariant: Turned = "none"

    @model_validator(mode="after")
    def _has_the_taps(self) -> Self:
        if len(self.output) == 2 and self.size not in SECOND:
            message = f"output: {self.output} needs 5 or 7 taps (got {self.size}); set size: 5"
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axes or the angle."""
        match self.output:
            case "xx" | "yy" | "zz" | "xy" | "xz" | "yz":
                second = self._second(grid)
                return {"": pool_rotations(second, grid.ndim, self.rotation_invariant)}
            case output:
                pair = self._pair(*FIRST[self.size])
                return {"": gradient(pair, output, self.rotation_invariant, grid)}

    def _second(self, grid: Grid) -> Node:
        p, d1, d2 = SECOND[self.size]
        first = self._pair(p, d1)
        taps = [first.across] * grid.ndim
        one, other = (axis_index(name, grid) for name in self.output)
        if one != other:
            taps[one] = taps[other] = first.along
        else:
            second = np.array(_even((-2 * sum(d2), *d2)))
            bend = second @ (np.arange(self.size) - self.size // 2) ** 2 / 2
            taps[one] = tuple(second / bend if self.normalize else second)
        return separable(taps)

    def _pair(self, p: tuple[float, ...], d1: tuple[float, ...]) -> Pair:
        pair = Pair((*(-tap for tap in reversed(d1)), 0.0, *d1), _even(p))
        return pair.unit() if self.normalize else pair


def _even(half: tuple[float, ...]) -> tuple[float, ...]:
    return (*half[:0:-1], *half)

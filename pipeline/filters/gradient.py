"""What the gradient families share: differences along one axis, smoothing across it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.bank.expr import Array, Join, Node, separable
from pipeline.bank.kernels import axis_index
from pipeline.bank.rotations import pool_rotations
from pipeline.errors import PlanError
from pipeline.types import Grid

Output: TypeAlias = Annotated[
    Literal["y", "x", "z", "magnitude", "orientation"],
    Field(description="one component, or the length or direction (2-D; radians) of all"),
]
Normalize: TypeAlias = Annotated[
    bool, Field(description="divide by the taps' gain, so that f = x gives 1")
]
Turned: TypeAlias = Annotated[
    Literal["none", "max"],
    Field(description="largest response over the right-angle rotations of a component"),
]


@dataclass(frozen=True, slots=True)
class Pair:
    """1-D taps as applied: a difference that runs along an axis, a mean that runs across it."""

    along: Sequence[float]
    across: Sequence[float]

    def unit(self) -> Pair:
        """The pair that gives 1 on f = x, whatever the rank."""
        along, across = np.asarray(self.along), np.asarray(self.across)
        slope = along @ (np.arange(along.size) - along.size // 2)
        return Pair(tuple(along / slope), tuple(across / across.sum()))


def gradient(pair: Pair, output: Output, rotation_invariant: Turned, grid: Grid) -> Node:
    """One component, the largest over its rotations, or the length or direction of them all.

    Per pixel, whatever the spacing. Rotations of a component are all others and their negatives.
    """
    if output in ("magnitude", "orientation") and rotation_invariant != "none":
        message = (
            f"output: {output} cannot be pooled over rotations; "
            "leave rotation_invariant out, or take a component (output: x)"
        )
        raise PlanError(message)
    if output == "orientation":
        flat("output: orientation", "take the components, or filter slice by slice (rank: 2)", grid)
        return Join(tuple(_component(pair, i, grid) for i in range(2)), "atan2")
    if output == "magnitude":
        return Join(tuple(_component(pair, i, grid) for i in range(grid.ndim)), "norm")
    component = _component(pair, axis_index(output, grid), grid)
    return pool_rotations(component, grid.ndim, rotation_invariant)


def _component(pair: Pair, axis: int, grid: Grid) -> Node:
    return separable([pair.along if i == axis else pair.across for i in range(grid.ndim)])


def binomial_taps(size: int, order: int) -> Array:
    """The difference of an order, smoothed by as many means of two as make `size` taps.

    >>> binomial_taps(5, 0), binomial_taps(5, 1)
    (array([1., 4., 6., 4., 1.]), array([-1., -2.,  0.,  2.,  1.]))
    """
    taps = np.ones(1)
    for step in [(1.0, 1.0)] * (size - 1 - order) + [(-1.0, 1.0)] * order:
        taps = np.convolve(taps, step)
    return taps


def flat(what: str, advice: str, grid: Grid) -> None:
    """Raise PlanError unless the grid has two axes."""
    if grid.ndim != 2:
        message = f"{what} needs 2-D images, these have {grid.ndim} axes; {advice}"
        raise PlanError(message)

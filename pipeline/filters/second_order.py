"""What the families of second derivatives share: symmetric tensors, and vessels made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import prod, sqrt
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field

from pipeline.bank.expr import Array, Join, Map, Node, separable
from pipeline.bank.kernels import (
    axis_index,
    bounded,
    gaussian_radius,
    gaussian_taps,
    sigma_in_pixels,
)
from pipeline.errors import PlanError
from pipeline.types import Grid

Truncate: TypeAlias = Annotated[
    float, Field(gt=0, description="radius of each Gaussian; its sigmas")
]
Sigmas: TypeAlias = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...],
    Field(min_length=1, description="scales, of which every pixel takes the best; lengths"),
]
Ridges: TypeAlias = Annotated[
    Literal["black", "white"], Field(description="darker or brighter than what is around them")
]

COMPONENTS = ("xx", "xy", "yy", "xz", "yz", "zz")
"""Of a matrix: what changes where the image turns."""


@dataclass(frozen=True, slots=True)
class SymmetricTensor:
    """A symmetric matrix in every pixel: its upper triangle, row by row, in numpy's axis order."""

    upper: tuple[Node, ...]
    grid: Grid

    def component(self, name: str) -> Node:
        """The component of two axes: `xy`."""
        first, second = sorted(axis_index(axis, self.grid) for axis in name)
        pairs = list(combinations_with_replacement(range(self.grid.ndim), 2))
        return self.upper[pairs.index((first, second))]

    @property
    def trace(self) -> Node:
        """The sum of the diagonal."""
        return Join(tuple(self.component(2 * axis) for axis in "xyz"[: self.grid.ndim]), "sum")

    @property
    def eigenvalues(self) -> tuple[Node, ...]:
        """One per axis, ascending."""
        if self.grid.ndim == 1:
            return self.upper
        return tuple(Join(self.upper, "eigenvalue", i) for i in range(self.grid.ndim))

    def eigenvalue(self, name: str, values: Sequence[Node]) -> Node:
        """The one that a name counts from 1: `eigenvalue_1`."""
        number = int(name.removeprefix("eigenvalue_"))
        if number > len(values):
            message = (
                f"output: {name} does not exist, these images have {len(values)} axes; "
                f"choose from: {', '.join(f'eigenvalue_{i + 1}' for i in range(len(values)))}"
            )
            raise PlanError(message)
        return values[number - 1]

    @property
    def difference(self) -> Node:
        """The larger eigenvalue minus the smaller one, 2-D."""
        small, large = self.eigenvalues
        return minus(large, small)

    @property
    def double_angle(self) -> Node:
        """Twice the angle, from +x to +y, of the larger eigenvalue's direction, 2-D."""
        xx, xy, yy = (self.component(name) for name in ("xx", "xy", "yy"))
        return Join((Map(xy, "multiply", 2.0), minus(xx, yy)), "atan2")


def minus(a: Node, b: Node) -> Node:
    """a - b."""
    return Join((a, Map(b, "negate")), "sum")


def flat(name: str, grid: Grid) -> None:
    """Refuse an output that only images of two axes have."""
    if grid.ndim != 2:
        message = (
            f"output: {name} needs 2-D images, these have {grid.ndim} axes; "
            "take the eigenvalues, or filter slice by slice (rank: 2)"
        )
        raise PlanError(message)


def hessian_of(
    sigma: float, truncate: float, grid: Grid, *, scale_normalized: bool
) -> SymmetricTensor:
    """Second derivatives of a Gaussian: two first-order passes of sigma / sqrt 2 in one kernel.

    So constants and ramps give 0 to rounding, which sampled second derivatives do not. Along
    axis a one differentiates by x_a / sigma_a; unless scale-normalised the result is divided by
    the squared geometric mean of the sigma_a, in pixels: with square pixels, per pixel^2.
    """
    sigmas = sigma_in_pixels(sigma, grid)
    radii = [gaussian_radius(s / sqrt(2), truncate) for s in sigmas]
    bounded(tuple(4 * r + 1 for r in radii))
    scale = 1.0 if scale_normalized else prod(sigmas) ** (-2 / grid.ndim)

    def taps(axis: int, order: int) -> Array:
        """Taps as applied; `order` derivatives shared out over two passes."""
        narrow, radius = sigmas[axis] / sqrt(2), radii[axis]
        first, second = (gaussian_taps(narrow, radius, n) for n in (order > 0, order > 1))
        return np.convolve(first, second)[::-1] * sigmas[axis] ** order

    def component(a: int, b: int) -> Node:
        profiles = [taps(i, (i == a) + (i == b)) for i in range(grid.ndim)]
        return separable([profiles[0] * scale, *profiles[1:]])

    pairs = combinations_with_replacement(range(grid.ndim), 2)
    return SymmetricTensor(tuple(component(a, b) for a, b in pairs), grid)


def vesselness(
    measure: Callable[[Sequence[Node]], Node],
    sigmas: Sequence[float],
    ridges: str,
    truncate: float,
    grid: Grid,
    *,
    scale_normalized: bool,
) -> Node:
    """The best measure of ridges over scales; it is given eigenvalues for black ones, ascending."""
    if grid.ndim not in (2, 3):
        message = f"ridges need 2-D or 3-D images (got {grid.ndim} axes); set the rank"
        raise PlanError(message)
    found: list[Node] = []
    for sigma in sigmas:
        hessian = hessian_of(sigma, truncate, grid, scale_normalized=scale_normalized)
        values = hessian.eigenvalues
        if ridges == "white":
            values = tuple(Map(value, "negate") for value in reversed(values))
        found.append(measure(values))
    return found[0] if len(found) == 1 else Join(tuple(found), "max")

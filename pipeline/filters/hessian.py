"""The Hessian of a smoothed image, and what is read off it."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Map, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.second_order import (
    COMPONENTS,
    SymmetricTensor,
    Truncate,
    flat,
    hessian_of,
    minus,
)
from pipeline.filters.turned import refuse_turning, turned
from pipeline.types import Grid

Output = Annotated[
    Literal[
        "xx", "xy", "yy", "xz", "yz", "zz", "eigenvalue_1", "eigenvalue_2", "eigenvalue_3",
        "determinant", "trace", "norm", "shape_index", "curvedness",
    ],
    Field(description="one component, one eigenvalue, or a number made of them"),
]  # fmt: skip


@FILTERS.register("hessian")
@dataclass(frozen=True, config=PARAMETERS)
class Hessian:
    """The symmetric matrix of second derivatives of a Gaussian-smoothed image, 2-D and 3-D.

    H_ab = sigma_a sigma_b d^2/(dx_a dx_b) (G * f) / s^2, with sigma_a in pixels of axis a and s
    the geometric mean of the sigma_a: with square pixels the derivatives are per pixel^2. With
    `scale_normalized` there is no division, that is a factor sigma^2, to compare scales.

    Eigenvalues count from 1, ascending: by value, or by magnitude (Frangi's order). A bright
    line has a very negative one across it, a bright blob only such. `norm` is the root of their
    sum of squares, `determinant` their product, `trace` their sum, a Laplacian of Gaussian.
    2-D only, with l1 <= l2:

        shape_index = 2 / pi atan2(-(l1 + l2), l2 - l1),  curvedness = sqrt((l1^2 + l2^2) / 2)

    The shape index runs from -1, a dark blob, over 0, a saddle, to 1, a bright blob; where
    l1 = l2 = 0 it is 0.

    Both passes of first order with sigma / sqrt 2 that skimage.feature.hessian_matrix
    (use_gaussian_derivatives=True) takes, in one kernel: equal to it with truncate: 8 and sigma
    > 1, away from the border. There skimage extends the image again between the passes, which
    breaks the slope of reflected images; with the boundary `wrap` both are equal everywhere.
    Sampling distorts it below a sigma of 1 pixel: x^2 / 2 gives 0.996 at 1 and 0.72 at 0.7.
    skimage counts eigenvalues the other way, descending, divides integers by their type's
    largest, smooths otherwise in `shape_index` and gives -1 for a round bright blob and NaN for
    a plane there.

    References
    ----------
    J. Koenderink, A. van Doorn, "Surface shape and curvature scales", Image and Vision
    Computing 10, 1992 (shape index and curvedness).

    Examples
    --------
    >>> node = Hessian(sigma=2, output="xy").responses(Grid((1.0, 1.0)))[""]
    >>> node.kernel.shape, abs(float(node.kernel.array.sum().round(12)))
    ((25, 25), 0.0)
    """

    topic: ClassVar[Topic] = "vessels, ridges, shape"
    examples: ClassVar[Examples] = (
        {"sigma": 2, "output": ["eigenvalue_1", "eigenvalue_2", "shape_index"]},
    )

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    output: Output
    order: Annotated[
        Literal["value", "magnitude"], Field(description="by what the eigenvalues ascend")
    ] = "value"
    scale_normalized: Annotated[
        bool, Field(description="multiply by sigma^2 (pixels), to compare scales")
    ] = False
    truncate: Truncate = 4.0
    rotation_invariant: RotationInvariant = "none"

    @model_validator(mode="after")
    def _turns_components_only(self) -> Self:
        if self.output not in COMPONENTS:
            reason = "it is the same in all directions"
            refuse_turning(f"output: {self.output}", reason, self.rotation_invariant)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or is not of the output's rank."""
        hessian = hessian_of(
            self.sigma, self.truncate, grid, scale_normalized=self.scale_normalized
        )
        return turned("hessian", {"": self._read(hessian, grid)}, self.rotation_invariant, grid)

    def _read(self, hessian: SymmetricTensor, grid: Grid) -> Node:
        values = hessian.eigenvalues
        if self.output.startswith("eigenvalue"):
            ordered = values if self.order == "value" else by_magnitude(values)
            return hessian.eigenvalue(self.output, ordered)
        if self.output == "determinant":
            return Join(values, "product")
        if self.output == "trace":
            return hessian.trace
        if self.output == "norm":
            return Join(values, "norm")
        if self.output == "curvedness":
            flat(self.output, grid)
            return Map(Join(values, "norm"), "multiply", 0.5**0.5)
        if self.output == "shape_index":
            flat(self.output, grid)
            angle = Join((Map(hessian.trace, "negate"), hessian.difference), "atan2")
            return Map(angle, "multiply", 2 / pi)
        return hessian.component(self.output)


def by_magnitude(values: Sequence[Node]) -> tuple[Node, ...]:
    """Sort responses that ascend by value so that their magnitudes ascend."""
    if len(values) == 1:
        return tuple(values)
    first, *middle, last = values
    far = Map(Join((first, last), "sum"), "at_least")  # 1 where the last one is the largest
    rest = [*middle, _either(far, first, last)]
    if len(rest) == 1:
        return (rest[0], _either(far, last, first))
    a, b = rest
    farther = Map(minus(Map(b, "abs"), Map(a, "abs")), "at_least")
    return (_either(farther, a, b), _either(farther, b, a), _either(far, last, first))


def _either(condition: Node, a: Node, b: Node) -> Node:
    """Take a where the condition is 1 and b where it is 0."""
    other = Map(Map(condition, "negate"), "add", 1.0)
    return Join((Join((condition, a), "product"), Join((other, b), "product")), "sum")

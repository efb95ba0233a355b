"""The structure tensor: how gradients scatter in a neighbourhood."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Edge, Join, Map, Node, Responses, separable
from pipeline.bank.kernels import bounded, gaussian_radius, gaussian_taps, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.second_order import COMPONENTS, SymmetricTensor, Truncate, flat
from pipeline.filters.turned import refuse_turning, turned
from pipeline.types import Grid

Output = Annotated[
    Literal[
        "xx", "xy", "yy", "xz", "yz", "zz", "eigenvalue_1", "eigenvalue_2", "eigenvalue_3",
        "determinant", "trace", "coherence", "orientation",
    ],
    Field(description="one component, one eigenvalue, or a number made of them"),
]  # fmt: skip


@FILTERS.register("structure_tensor")
@dataclass(frozen=True, config=PARAMETERS)
class StructureTensor:
    """The products of a Gaussian's gradients, smoothed by a second Gaussian, 2-D and 3-D.

    J_ab = G_rho * (g_a g_b), g_a = sigma_a d/dx_a (G_sigma * f) / s, with sigma_a in pixels of
    axis a and s the geometric mean of the sigma_a: with square pixels g is per pixel. Products
    are extended at the image's border by the boundary rule before rho smooths them.

    Eigenvalues count from 1, ascending; `trace` is their sum, the energy of the gradient, and
    `determinant` their product, large at corners. 2-D only, l1 <= l2, where trace is 0 both are 0:

        coherence = (l2 - l1) / (l2 + l1),  orientation = atan2(2 J_xy, J_xx - J_yy) / 2

    Orientation is the direction of the gradient, across lines, in radians from -pi/2 to pi/2: 0
    along x, growing clockwise on the screen. Coherence runs from 0 to 1; some authors square it.
    Where an image is flat both tell of rounding: look at the trace.

    Equal to products of scipy.ndimage.gaussian_filter (order 1), filtered again, everywhere.
    skimage.feature.structure_tensor takes Sobel differences, 8 per unit of slope, for G_sigma,
    calls rho sigma and counts eigenvalues descending. ilastik's rho is sigma / 2.

    References
    ----------
    J. Bigun, G. Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987.

    Examples
    --------
    >>> node = StructureTensor(sigma=1, rho=2, output="xy").responses(Grid((1.0, 1.0)))[""]
    >>> node.kernel.shape, node.of.of.fn, node.of.of.of[0].kernel.shape
    ((17, 17), 'product', (9, 9))
    """

    topic: ClassVar[Topic] = "local direction"
    examples: ClassVar[Examples] = ({"sigma": 1, "rho": 2, "output": ["coherence", "orientation"]},)

    sigma: Annotated[float, Field(gt=0, description="inner scale, of the gradient; a length")]
    rho: Annotated[float, Field(gt=0, description="outer scale, of the neighbourhood; a length")]
    output: Output
    truncate: Truncate = 4.0
    rotation_invariant: RotationInvariant = "none"

    @model_validator(mode="after")
    def _turns_components_only(self) -> Self:
        if self.output not in COMPONENTS:
            reason = "it is the same in all directions, or names one"
            refuse_turning(f"output: {self.output}", reason, self.rotation_invariant)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the grid lacks the axis or is not of the output's rank."""
        found = {"": self._read(self._tensor(grid), grid)}
        return turned("structure_tensor", found, self.rotation_invariant, grid)

    def _read(self, tensor: SymmetricTensor, grid: Grid) -> Node:
        if self.output.startswith("eigenvalue"):
            return tensor.eigenvalue(self.output, tensor.eigenvalues)
        if self.output == "determinant":
            return Join(tensor.eigenvalues, "product")
        if self.output == "trace":
            return tensor.trace
        if self.output == "coherence":
            flat(self.output, grid)
            return Join((tensor.difference, tensor.trace), "ratio")
        if self.output == "orientation":
            flat(self.output, grid)
            return Map(tensor.double_angle, "multiply", 0.5)
        return tensor.component(self.output)

    def _tensor(self, grid: Grid) -> SymmetricTensor:
        gradient = [self._smooth(self.sigma, grid, axis) for axis in range(grid.ndim)]
        pairs = combinations_with_replacement(gradient, 2)
        products = (Map(a, "square") if a is b else Join((a, b), "product") for a, b in pairs)
        smoothed = (self._smooth(self.rho, grid, of=Edge(product)) for product in products)
        return SymmetricTensor(tuple(smoothed), grid)

    def _smooth(
        self, sigma: float, grid: Grid, axis: int | None = None, of: Node | None = None
    ) -> Node:
        """A Gaussian, or its derivative along an axis."""
        sigmas = sigma_in_pixels(sigma, grid)
        radii = [gaussian_radius(s, self.truncate) for s in sigmas]
        bounded(tuple(2 * r + 1 for r in radii))
        taps = [
            gaussian_taps(s, r, int(i == axis))[::-1]
            for i, (s, r) in enumerate(zip(sigmas, radii, strict=True))
        ]
        if axis is not None:
            taps[axis] = taps[axis] * sigmas[axis] / prod(sigmas) ** (1 / grid.ndim)
        return separable(taps, of)

"""Freeman and Adelson's steerable quadrature pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import factorial, pi, prod, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Join, Map, Node, Responses
from pipeline.bank.kernels import bounded, convolving, gaussian_radius, sigma_in_pixels
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.orientations import (
    Orientation,
    OrientationPool,
    Orientations,
    TurnedOrPooled,
    direction,
    half_turn,
    pooled,
    spread_orientations,
)
from pipeline.filters.turned import turned
from pipeline.types import Grid, Ints

G = {2: (0.9213 * -1, 0, 0.9213 * 2), 4: (1.246 * 0.75, 0, 1.246 * -3, 0, 1.246)}
H = {
    2: (0, 0.9780 * -2.254, 0, 0.9780),
    4: (0, 0.3975 * 7.189, 0, 0.3975 * -7.501, 0, 0.3975),
}
"""Coefficients of u^0, u^1, ...; times exp(-r^2) they are the paper's G2, G4 and H2, H4."""


@FILTERS.register("steerable")
@dataclass(frozen=True, config=PARAMETERS)
class Steerable:
    """Second or fourth derivative of a Gaussian with its Hilbert transform, in any direction.

    G2 = 0.9213 (2 u^2 - 1) e^(-r^2)            H2 = 0.9780 (u^3 - 2.254 u) e^(-r^2)
    G4 = 1.246 (u^4 - 3 u^2 + 0.75) e^(-r^2)    H4 = 0.3975 (u^5 - 7.501 u^3 + 7.189 u) e^(-r^2)

    u is the distance along the direction, which at 0 is +x and turns clockwise on the screen, and r
    that from the centre, both in units of sqrt(2) sigma. Convolves. Freeman and Adelson's 9 taps of
    G2 and H2 are sampled every 0.67 units (sigma = 1.0554 pixels), their 13 taps of G4 and H4 every
    0.5 (sigma = sqrt(2)). The taps are not scaled by sigma: responses to the same structure grow
    with sigma^2.

    Each response is a sum of basis responses that all directions share: 3 and 4 of them for G2
    and H2, 5 and 6 for G4 and H4. The basis is the exact expansion of the polynomial, so that a
    response turns exactly; H4c and H4d are then not separable, and the paper's, which are, differ.
    In a volume, with 6, 10, 15 and 21 basis filters, the direction also rises out of (x, y) by
    `elevation`, and the taps are multiplied by (2 / pi)^(1/4): the integral of G^2 stays 1.

    energy is G^2 + H^2, whatever the phase of an edge or a line. `pool` makes one response of N
    `orientations`.

    References
    ----------
    W. Freeman, E. Adelson, "The design and use of steerable filters", IEEE Transactions on
    Pattern Analysis and Machine Intelligence 13, 1991.

    Examples
    --------
    >>> node = Steerable(sigma=1.0554, output="even", orientation=90).responses(Grid((1.0, 1.0)))
    >>> (node[""].kernel.array[:, 4]).round(4)
    array([ 0.0094,  0.1148,  0.3964, -0.0601, -0.9213, -0.0601,  0.3964,
            0.1148,  0.0094])
    """

    topic: ClassVar[Topic] = "stripes and directions"
    examples: ClassVar[Examples] = ({"sigma": 2, "orientation": [0, 60], "output": "even"},)

    sigma: Annotated[float, Field(gt=0, description="standard deviation; a length")]
    order: Annotated[Literal[2, 4], Field(description="2: G2 and H2; 4: G4 and H4")] = 2
    orientation: Orientation = 0.0
    elevation: Annotated[
        float, Field(ge=-90, le=90, description="of the direction, towards +z; degrees")
    ] = 0.0
    output: Annotated[
        Literal["energy", "even", "odd"], Field(description="energy, G (even) or H (odd)")
    ] = "energy"
    truncate: Annotated[float, Field(gt=0, description="radius of the kernel; sigmas")] = 4.0
    orientations: Orientations = None
    pool: OrientationPool = "none"
    rotation_invariant: TurnedOrPooled = "none"

    spread = staticmethod(spread_orientations)

    def responses(self, grid: Grid) -> Responses:
        """One response, in 2-D or 3-D; PlanError for other ranks."""
        sigmas = sigma_in_pixels(self.sigma, grid)
        radii = tuple(gaussian_radius(s, self.truncate) for s in sigmas)
        bounded(tuple(2 * r + 1 for r in radii))
        axes = [np.arange(-r, r + 1) / (sqrt(2) * s) for s, r in zip(sigmas, radii, strict=True)]
        even, odd = (_basis(table[self.order], axes) for table in (G, H))
        parts: list[Node] = []
        for angle in half_turn(self.orientation, self.orientations):
            towards = direction("steerable", angle, self.elevation, grid.ndim)
            both = _steer(even, towards), _steer(odd, towards)
            parts.append(
                Join(tuple(Map(part, "square") for part in both), "sum")
                if self.output == "energy"
                else both[self.output == "odd"]
            )
        found = {"": pooled(parts, self.pool)}
        return turned("steerable", found, self.rotation_invariant, grid)


def _basis(polynomial: tuple[float, ...], axes: list[Array]) -> dict[Ints, Array]:
    """Kernels by the powers of the direction's components that they are multiplied by.

    With u = d . x and |d| = 1, each a_k u^k is written as a_k (d . x)^k |d|^(n - k), a homogeneous
    polynomial of d of the degree n; all its monomials in d are the interpolation functions.
    """
    x = np.ix_(*axes)
    scale = (2 / pi) ** (0.25 * (len(axes) - 2))
    envelope = scale * np.exp(-sum(t**2 for t in x))
    degree = len(polynomial) - 1
    basis = {powers: np.zeros_like(envelope) for powers in _powers(degree, len(axes))}
    for k, coefficient in enumerate(polynomial):
        if not coefficient:
            continue
        for of_x in _powers(k, len(axes)):
            term = coefficient * _ways(of_x) * prod(t**p for t, p in zip(x, of_x, strict=True))
            for of_one in _powers((degree - k) // 2, len(axes)):
                powers = tuple(p + 2 * q for p, q in zip(of_x, of_one, strict=True))
                basis[powers] += _ways(of_one) * term * envelope
    return basis


def _powers(degree: int, count: int) -> Iterator[Ints]:
    """Every way to write a degree as a sum of `count` powers."""
    return (p for p in product(range(degree + 1), repeat=count) if sum(p) == degree)


def _ways(powers: Ints) -> int:
    """The multinomial coefficient."""
    return factorial(sum(powers)) // prod(factorial(p) for p in powers)


def _steer(basis: Mapping[Ints, Array], towards: tuple[float, ...]) -> Node:
    """Interpolate the basis responses; those with no share in this direction are left out."""
    parts: list[Node] = []
    for powers, kernel in basis.items():
        share = prod(d**p for d, p in zip(towards, powers, strict=True))
        if abs(share) > 1e-12:
            node = Conv(Input(), convolving(kernel))
            parts.append(node if share == 1 else Map(node, "multiply", share))
    return parts[0] if len(parts) == 1 else Join(tuple(parts), "sum")

"""Derivatives along the local structure: combinations of those along the axes, as expressions.

Everything here counts axes in the order x, y, z.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce
from math import factorial, prod, sqrt
from typing import TypeAlias

from pipeline.bank.expr import Edge, Join, Map, Node, separable
from pipeline.bank.kernels import bounded, gaussian_radius, gaussian_taps, sigma_in_pixels
from pipeline.errors import PlanError
from pipeline.types import Grid, Ints

Frame: TypeAlias = Sequence[Sequence[Node]]
"""Unit vectors of every pixel, one after another, by their entries."""

Terms: TypeAlias = dict[tuple[Ints, Ints], int]
"""A polynomial in derivatives and entries of vectors: the powers of both -> coefficient."""


def multinomial(orders: Ints) -> int:
    """L! / prod l!, with L the sum of the orders l."""
    return factorial(sum(orders)) // prod(factorial(order) for order in orders)


def structure_frame(first: Sequence[Node], sigma: float, grid: Grid) -> Frame:
    """The eigenvectors of the structure tensor, that of the largest eigenvalue first.

    first: the first derivative along each axis; sigma: of the Gaussian window, a length.
    """
    n = grid.ndim
    if n not in (2, 3):
        message = f"a structure tensor needs 2-D or 3-D images, these have {n} axes"
        raise PlanError(message)
    sigmas = sigma_in_pixels(sigma, grid)
    radii = [gaussian_radius(s, 4.0) for s in sigmas]
    bounded(tuple(2 * r + 1 for r in radii))
    window = [gaussian_taps(s, r) for s, r in zip(sigmas, radii, strict=True)]
    tensor = tuple(
        separable(window, Edge(_product(first[i], first[j]))) for i in range(n) for j in range(i, n)
    )
    return [
        [Join(tensor, "eigenvector", n * which + entry) for entry in range(n)]
        for which in reversed(range(n))
    ]


def steered(orders: Ints, frame: Frame, derivative: Callable[[Ints], Node]) -> Node:
    """The derivative of these orders along the vectors of a frame.

    derivative: the one of some orders along the axes; scaled, as the result is, by the root of
    their multinomial. Along u it is sum_a u_a d_a: the powers of these sums are multiplied out.
    """
    n = len(orders)
    zero = (0,) * n
    terms: Terms = {(zero, zero * n): 1}
    for which, order in enumerate(orders):
        for _ in range(order):
            terms = _times_sum(terms, which)
    entries = [entry for vector in frame for entry in vector]
    parts: list[Node] = []
    for (along, powers), count in terms.items():
        factors = [
            entry for entry, power in zip(entries, powers, strict=True) for _ in range(power)
        ]
        scale = count * sqrt(multinomial(orders) / multinomial(along))
        parts.append(Map(_product(*factors, derivative(along)), "multiply", scale))
    # Two at a time: few of them are in memory at once.
    return reduce(lambda total, part: Join((total, part), "sum"), parts)


def _times_sum(terms: Terms, which: int) -> Terms:
    """Multiply by sum_a u_a d_a, with u the frame's vector of this number."""
    found: Terms = Counter()
    for (along, powers), count in terms.items():
        n = len(along)
        for axis in range(n):
            found[_raised(along, axis), _raised(powers, n * which + axis)] += count
    return found


def _raised(powers: Ints, at: int) -> Ints:
    return (*powers[:at], powers[at] + 1, *powers[at + 1 :])


def _product(*parts: Node) -> Node:
    return Join(parts, "product")

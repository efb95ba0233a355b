"""Derivatives along the local structure: combinations of those along the axes, as expressions.

Everything here counts axes in the order x, y, z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import factorial, prod, sqrt
from typing import TypeAlias

from pipeline.bank.expr import Edge, Join, Map, Node, separable
from pipeline.bank.kernels import bounded, gaussian_radius, gaussian_taps, sigma_in_pixels
from pipeline.errors import PlanError
from pipeline.types import Grid, Ints

Frame: TypeAlias = Sequence[Sequence[Node]]
"""Unit vectors of every pixel, one after another, by their entries."""


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
    their multinomial. All of one total order are a symmetric tensor T, and the next vector u takes
    an index away: sum_a u_a T_a.
    """
    n, total = len(orders), sum(orders)
    tensor: dict[Ints, Node] = {
        along: Map(derivative(along), "multiply", 1 / sqrt(multinomial(along)))
        for along in _orders(n, total)
    }
    vectors = [vector for vector, order in zip(frame, orders, strict=True) for _ in range(order)]
    for left, vector in zip(reversed(range(total)), vectors, strict=True):
        tensor = {
            along: _sum_product(vector, [tensor[_raised(along, axis)] for axis in range(n)])
            for along in _orders(n, left)
        }
    (node,) = tensor.values()
    return Map(node, "multiply", sqrt(multinomial(orders)))


def _orders(n: int, total: int) -> list[Ints]:
    """The ways to share a total among n axes."""
    return [orders for orders in product(range(total + 1), repeat=n) if sum(orders) == total]


def _raised(orders: Ints, axis: int) -> Ints:
    return (*orders[:axis], orders[axis] + 1, *orders[axis + 1 :])


def _sum_product(first: Sequence[Node], second: Sequence[Node]) -> Node:
    return Join(tuple(_product(*pair) for pair in zip(first, second, strict=True)), "sum")


def _product(*parts: Node) -> Node:
    return Join(parts, "product")

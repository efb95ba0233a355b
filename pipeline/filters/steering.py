"""Derivatives along the local structure: combinations of those along the axes, as expressions.

Directions count in the order x, y, z: position 0 is the last axis of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import factorial, prod, sqrt
from typing import TypeAlias

from pipeline.bank.expr import Edge, Join, Map, Node, separable
from pipeline.bank.kernels import bounded, gaussian_radius, gaussian_taps, sigma_in_pixels
from pipeline.errors import PlanError
from pipeline.types import Grid, Ints

Tensor: TypeAlias = Mapping[tuple[int, int], Node]
Terms: TypeAlias = Mapping[tuple[Ints, tuple[str, ...]], float]
"""A polynomial in the derivatives and in maps: their orders and the maps' names -> coefficient."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Directions of every pixel; the `degree`-th power of a derivative along each as a polynomial.

    In 3-D a direction is known as the matrix u u^T, whose sign is the same for u and -u.
    """

    degree: int
    powers: tuple[Terms, ...]
    maps: Mapping[str, Node]


def multinomial(orders: Sequence[int]) -> int:
    """L! / prod l!, with L the sum of the orders l."""
    return factorial(sum(orders)) // prod(factorial(order) for order in orders)


def structure_frame(first: Sequence[Node], sigma: float, grid: Grid) -> Frame:
    """The eigenvectors of the structure tensor, that of the largest eigenvalue first.

    first: the first-order derivatives along x, y(, z); sigma: of the window, a length.
    """
    sigmas = sigma_in_pixels(sigma, grid)
    radii = [gaussian_radius(s, 4.0) for s in sigmas]
    bounded(tuple(2 * r + 1 for r in radii))
    window = [gaussian_taps(s, r) for s, r in zip(sigmas, radii, strict=True)]
    tensor = {
        (i, j): separable(window, Edge(_product(first[i], first[j])))
        for i in range(grid.ndim)
        for j in range(i, grid.ndim)
    }
    if grid.ndim in (2, 3):
        return _plane(tensor) if grid.ndim == 2 else _volume(tensor)
    message = f"a structure tensor needs 2-D or 3-D images, these have {grid.ndim} axes"
    raise PlanError(message)


def steered(orders: Ints, frame: Frame, derivative: Callable[[Ints], Node]) -> Node:
    """The derivative of these orders along a frame's directions.

    derivative: of orders along x, y(, z), and scaled by the root of their multinomial.
    """
    zero = (0,) * len(orders)
    total: Terms = {(zero, ()): 1.0}
    for order, power in zip(orders, frame.powers, strict=True):
        if order % frame.degree:
            message = (
                "in 3-D a steered order names each axis an even number of times, as in xx or yyzz: "
                "directions have no sign; double the axes, or leave tensor_sigma out"
            )
            raise PlanError(message)
        for _ in range(order // frame.degree):
            total = _times(total, power)
    parts = [
        _scaled(
            _product(*(frame.maps[name] for name in names), derivative(along)),
            factor * sqrt(multinomial(orders) / multinomial(along)),
        )
        for (along, names), factor in total.items()
        if factor
    ]
    return reduce(_sum, parts)  # two at a time: few of them are in memory at once


def _plane(tensor: Tensor) -> Frame:
    """By the angle of the first direction, half of that which doubles it."""
    xx, xy, yy = tensor[0, 0], tensor[0, 1], tensor[1, 1]
    double = Join((_scaled(xy, 2.0), _sum(xx, Map(yy, "negate"))), "atan2")
    angle = _scaled(double, 0.5)
    along: Terms = {((1, 0), ("cos",)): 1.0, ((0, 1), ("sin",)): 1.0}
    across: Terms = {((1, 0), ("sin",)): -1.0, ((0, 1), ("cos",)): 1.0}
    return Frame(1, (along, across), {"cos": Map(angle, "cos"), "sin": Map(angle, "sin")})


def _volume(tensor: Tensor) -> Frame:
    """By the adjugate of the matrix less an eigenvalue: plus or minus u u^T, up to its length."""
    trace = Join((tensor[0, 0], tensor[1, 1], tensor[2, 2]), "sum")
    unit = {at: _product(part, Map(trace, "reciprocal")) for at, part in tensor.items()}
    powers: list[Terms] = []
    maps: dict[str, Node] = {}
    for number, sign in enumerate((1.0, -1.0, 1.0)):
        adjugate = _adjugate(unit, Join(tuple(unit.values()), "eigenvalue", 2 - number))
        both = [part for (i, j), part in adjugate.items() for _ in range(1 + (i != j))]
        length = _scaled(Map(Join(tuple(both), "norm"), "reciprocal"), sign)
        power: dict[tuple[Ints, tuple[str, ...]], float] = {}
        for (i, j), part in adjugate.items():
            name = f"{number}{i}{j}"
            maps[name] = _product(part, length)
            orders = tuple((a == i) + (a == j) for a in range(3))
            power[orders, (name,)] = 1.0 + (i != j)
        powers.append(power)
    return Frame(2, tuple(powers), maps)


def _adjugate(matrix: Tensor, eigenvalue: Node) -> Tensor:
    """Of a symmetric 3x3 matrix less an eigenvalue on its diagonal."""
    less = Map(eigenvalue, "negate")
    x, y, z = (_sum(matrix[i, i], less) for i in range(3))
    xy, xz, yz = matrix[0, 1], matrix[0, 2], matrix[1, 2]

    def minor(a: Node, b: Node, c: Node, d: Node) -> Node:
        return _sum(_product(a, b), Map(_product(c, d), "negate"))

    return {
        (0, 0): minor(y, z, yz, yz),
        (0, 1): minor(xz, yz, xy, z),
        (0, 2): minor(xy, yz, xz, y),
        (1, 1): minor(x, z, xz, xz),
        (1, 2): minor(xy, xz, yz, x),
        (2, 2): minor(x, y, xy, xy),
    }


def _times(first: Terms, second: Terms) -> Terms:
    found: dict[tuple[Ints, tuple[str, ...]], float] = {}
    for (orders, names), factor in first.items():
        for (more, others), other in second.items():
            added = tuple(a + b for a, b in zip(orders, more, strict=True))
            key = (added, tuple(sorted(names + others)))
            found[key] = found.get(key, 0.0) + factor * other
    return found


def _product(*parts: Node) -> Node:
    return Join(parts, "product") if len(parts) > 1 else parts[0]


def _sum(first: Node, second: Node) -> Node:
    return Join((first, second), "sum")


def _scaled(node: Node, factor: float) -> Node:
    return node if factor == 1.0 else Map(node, "multiply", factor)

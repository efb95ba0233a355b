"""Eigenvalues and eigenvectors of the symmetric 2x2 or 3x3 matrix in every pixel, closed form.

A matrix is given by its upper triangle, row by row, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import TypeAlias

import torch
from torch import Tensor

Vector: TypeAlias = tuple[Tensor, Tensor, Tensor]


def eigenvalue(index: int, upper: Sequence[Tensor]) -> Tensor:
    """The index-th eigenvalue, ascending.

    3x3 by O. K. Smith, "Eigenvalues of a symmetric 3x3 matrix", 1961.
    """
    if len(upper) == 6:
        return _by_trisection(index, upper)[0]
    xx, xy, yy = upper
    radius = torch.hypot((xx - yy) / 2, xy)
    return (xx + yy) / 2 + (radius if index else -radius)


def eigenvector(index: int, upper: Sequence[Tensor]) -> Tensor:
    """Entry index % n of the unit eigenvector of eigenvalue index // n; n = 2 or 3.

    Its first entry that is not 0 is positive. Equal eigenvalues have some orthonormal vectors. 3x3
    as in D. Eberly, "A robust eigensolver for 3x3 symmetric matrices", 2014: first the vector of
    the eigenvalue that stands apart, then the others across it.
    """
    n = 2 if len(upper) == 3 else 3
    which, entry = divmod(index, n)
    if n == 2:
        cosine, sine = _turn(*upper)
        vector = [cosine, sine] if which else [-sine, cosine]
    else:
        vector = list(_vector(which, upper))
    sign = torch.zeros_like(vector[0])
    for part in vector:
        sign = torch.where(sign == 0.0, part.sign(), sign)
    return vector[entry] * sign + 0.0  # no -0.0


def _turn(xx: Tensor, xy: Tensor, yy: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the direction of the larger eigenvalue of a 2x2 matrix."""
    angle = torch.atan2(2 * xy + 0.0, xx - yy) / 2
    return angle.cos(), angle.sin()


def _by_trisection(index: int, upper: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """An eigenvalue, and from -1 to 1 how far the middle one lies from the largest."""
    xx, xy, xz, yy, yz, zz = upper
    centre = (xx + yy + zz) / 3
    xx, yy, zz = xx - centre, yy - centre, zz - centre
    spread = xx**2 + yy**2 + zz**2 + 2 * (xy**2 + xz**2 + yz**2)
    size = (spread / 6).sqrt()
    determinant = (xx * (yy * zz - yz**2) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)) / 2
    ratio = torch.where(size == 0.0, 0.0, determinant / size**3).clamp(-1.0, 1.0)
    angle = torch.acos(ratio) / 3
    turn = (2 * pi / 3, -2 * pi / 3, 0.0)[index]  # the middle one lies a third of a turn back
    return centre + 2 * size * torch.cos(angle + turn), ratio


def _vector(which: int, upper: Sequence[Tensor]) -> Vector:
    largest, ratio = _by_trisection(2, upper)
    smallest, _ = _by_trisection(0, upper)
    top = ratio >= 0.0  # then the largest eigenvalue stands apart, else the smallest
    apart = _null_vector(upper, torch.where(top, largest, smallest))
    first = _across(apart)
    second = _cross(apart, first)
    image = _times(upper, first)
    cosine, sine = _turn(
        _dot(first, image), _dot(second, image), _dot(second, _times(upper, second))
    )
    larger = tuple(cosine * a + sine * b for a, b in zip(first, second, strict=True))
    smaller = tuple(cosine * b - sine * a for a, b in zip(first, second, strict=True))
    if_top, if_bottom = ((smaller, apart), (larger, smaller), (apart, larger))[which]
    x, y, z = (torch.where(top, a, b) for a, b in zip(if_top, if_bottom, strict=True))
    return x, y, z


def _null_vector(upper: Sequence[Tensor], eigenvalue: Tensor) -> Vector:
    """Across the rows of the matrix less an eigenvalue: the longest of their cross products."""
    xx, xy, xz, yy, yz, zz = upper
    rows = (
        (xx - eigenvalue, xy, xz),
        (xy, yy - eigenvalue, yz),
        (xz, yz, zz - eigenvalue),
    )
    best = _cross(rows[0], rows[1])
    for other in (_cross(rows[0], rows[2]), _cross(rows[1], rows[2])):
        longer = _dot(other, other) > _dot(best, best)
        x, y, z = (torch.where(longer, a, b) for a, b in zip(other, best, strict=True))
        best = (x, y, z)
    length = _dot(best, best).sqrt()
    x, y, z = (torch.where(length == 0.0, float(i == 0), v / length) for i, v in enumerate(best))
    return x, y, z


def _across(v: Vector) -> Vector:
    """A unit vector across another one."""
    x, y, z = v
    flat, zero = x.abs() > y.abs(), torch.zeros_like(x)
    length = torch.hypot(torch.where(flat, x, y), z)
    return (
        torch.where(flat, -z, zero) / length,
        torch.where(flat, zero, z) / length,
        torch.where(flat, x, -y) / length,
    )


def _times(upper: Sequence[Tensor], v: Vector) -> Vector:
    xx, xy, xz, yy, yz, zz = upper
    return _dot((xx, xy, xz), v), _dot((xy, yy, yz), v), _dot((xz, yz, zz), v)


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )

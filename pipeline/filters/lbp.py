"""Local binary patterns: which neighbours on a circle are at least as bright as the centre."""

from __future__ import annotations

from functools import lru_cache, reduce
from itertools import product
from math import cos, floor, pi, sin
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Conv, Input, Join, Kernel, Lookup, Map, Node, Responses
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid

DIGITS = 5
"""Of an offset in pixels; scikit-image's. So a point beside the centre is that pixel."""

TABLED = 16
"""Points up to which a table of all codes is looked up: 65536 entries."""

FAR = 1024
"""Pixels. A larger radius is a slip of the unit."""


@FILTERS.register("local_binary_pattern")
@dataclass(frozen=True, config=PARAMETERS)
class LocalBinaryPattern:
    """A code of the neighbours that are at least as bright as the centre, 2-D.

    sum_k 2^k [f(x_k) >= f(centre)], x_k = radius (cos 2 pi k / points, -sin 2 pi k / points) in
    (x, y): point 0 lies to the right, the next ones counter-clockwise on the screen. Between
    pixels `bilinear` interpolates; `nearest` takes the next one, with 8 points and radius 1 the
    3 x 3 neighbours of the first paper. What a code counts, by `method`:

    - default: the sum as it stands, 0 to 2^points - 1
    - ror: the smallest of the code's rotations
    - uniform: the number of ones where the circle changes at most twice between 0 and 1, and
      points + 1 elsewhere
    - nri_uniform: uniform patterns numbered by ones and rotation, points (points - 1) + 2
      elsewhere; with 8 points the 59 codes of Ahonen et al. 2006

    Equal to skimage.feature.local_binary_pattern, with `boundary: {constant: 0}` at the border too.
    Where pixels are equal the difference is exactly 0 and counts as bright; scikit-image
    interpolates first, and rounding decides. Codes are names, not amounts: ask for maps, not for
    means.

    References
    ----------
    T. Ojala, M. Pietikainen, T. Maenpaa, "Multiresolution gray-scale and rotation invariant
    texture classification with local binary patterns", IEEE Transactions on Pattern Analysis
    and Machine Intelligence 24, 2002; T. Ahonen, A. Hadid, M. Pietikainen, "Face description
    with local binary patterns", the same 28, 2006 (nri_uniform).

    Examples
    --------
    >>> pattern = LocalBinaryPattern(interpolation="nearest")
    >>> first, second = (part.of.of for part in pattern.responses(Grid((1.0, 1.0)))[""].of[:2])
    >>> first.kernel.array, second.kernel.array
    (array([[-1.,  1.]]), array([[ 0.,  1.],
           [-1.,  0.]]))
    """

    topic: ClassVar[Topic] = "texture"
    examples: ClassVar[Examples] = ({"method": "uniform"},)

    points: Annotated[int, Field(ge=2, le=24, description="neighbours on the circle")] = 8
    radius: Annotated[float, Field(gt=0, description="of the circle; a length")] = 1.0
    method: Annotated[
        Literal["default", "ror", "uniform", "nri_uniform"], Field(description="what codes count")
    ] = "default"
    interpolation: Annotated[
        Literal["bilinear", "nearest"], Field(description="values between pixels")
    ] = "bilinear"

    @model_validator(mode="after")
    def _tables_are_small(self) -> Self:
        if self.method in ("ror", "nri_uniform") and self.points > TABLED:
            message = (
                f"method {self.method} looks codes up, of {TABLED} points at most "
                f"(got {self.points}); give fewer points, or method: uniform"
            )
            raise ValueError(message)
        return self

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError where the images are not 2-D or the circle holds no pixel."""
        if grid.ndim != 2:
            message = (
                f"local_binary_pattern needs 2-D images (got {grid.ndim} axes); "
                "filter slice by slice (rank: 2)"
            )
            raise PlanError(message)
        bits = [self._bit(k, grid) for k in range(self.points)]
        if self.method == "uniform":
            return {"": _uniform(bits)}
        code = Join(tuple(Map(b, "multiply", 2.0**k) for k, b in enumerate(bits)), "sum")
        if self.method == "default":
            return {"": code}
        table = _smallest_rotations if self.method == "ror" else _numbered
        return {"": Lookup(code, table(self.points))}

    def _bit(self, k: int, grid: Grid) -> Node:
        """1 where the k-th point is at least as bright as the centre."""
        angle = 2 * pi * k / self.points
        offset = tuple(
            round(self.radius * part / step, DIGITS)
            for part, step in zip((-sin(angle), cos(angle)), grid.spacing, strict=True)
        )
        if max(map(abs, offset)) > FAR:
            message = f"radius={self.radius:g} is over {FAR} pixels: give a smaller one"
            raise PlanError(message)
        parts = [
            Map(_difference(at), "multiply", weight) if weight != 1 else _difference(at)
            for at, weight in self._shares(offset)
            if any(at) and weight
        ]
        if not parts:
            message = (
                f"radius={self.radius:g} lies within a pixel of spacing {grid.spacing}: "
                "give a larger one"
            )
            raise PlanError(message)
        return Map(parts[0] if len(parts) == 1 else Join(tuple(parts), "sum"), "at_least")

    def _shares(self, offset: tuple[float, ...]) -> list[tuple[tuple[int, ...], float]]:
        """The pixels around a point and what each counts."""
        if self.interpolation == "nearest":
            return [(tuple(round(x) for x in offset), 1.0)]
        sides = [((floor(x), 1 - x + floor(x)), (floor(x) + 1, x - floor(x))) for x in offset]
        return [
            ((row, column), vertical * horizontal)
            for (row, vertical), (column, horizontal) in product(*sides)
        ]


def _difference(at: tuple[int, ...]) -> Node:
    """A pixel minus the centre: exactly 0 where they are equal."""
    origin = tuple(max(0, -step) for step in at)
    weights = np.zeros([abs(step) + 1 for step in at])
    weights[origin] = -1
    weights[tuple(o + step for o, step in zip(origin, at, strict=True))] = 1
    return Conv(Input(), Kernel.of(weights, origin))


def _uniform(bits: list[Node]) -> Node:
    """The number of ones, or points + 1 where there are more than two changes."""
    ones: Node = Join(tuple(bits), "sum")
    pairs = zip(bits, [*bits[1:], bits[0]], strict=True)
    changes = (Map(Join((a, Map(b, "negate")), "sum"), "abs") for a, b in pairs)
    other = Map(Join(tuple(changes), "sum"), "at_least", 3.0)
    rest = Map(Map(ones, "negate"), "add", len(bits) + 1.0)
    return Join((ones, Join((other, rest), "product")), "sum")


@lru_cache
def _smallest_rotations(points: int) -> tuple[float, ...]:
    codes, every = np.arange(2**points), 2**points - 1
    turned = (codes >> k | codes << (points - k) & every for k in range(points))
    return tuple(reduce(np.minimum, turned).astype(float).tolist())


@lru_cache
def _numbered(points: int) -> tuple[float, ...]:
    """1 + (ones - 1) points + rotation for uniform patterns, by where their ones begin."""
    codes = np.arange(2**points)[:, None]
    bits = codes >> np.arange(points) & 1
    ones = bits.sum(1)
    begins = (bits == 1) & (np.roll(bits, 1, axis=1) == 0)
    number = 1 + (ones - 1) * points + -begins.argmax(1) % points
    number[ones == 0] = 0
    number[ones == points] = points * (points - 1) + 1
    number[begins.sum(1) > 1] = points * (points - 1) + 2
    return tuple(number.astype(float).tolist())

"""What the compass families share: one ring of weights around a pixel, turned by eighths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, Field, ValidationInfo

from pipeline.bank.expr import Array, Conv, Input, Join, Kernel, Node
from pipeline.bank.rotations import Pooling
from pipeline.filters.base import RotationInvariant
from pipeline.filters.gradient import flat
from pipeline.filters.turned import refuse_turning
from pipeline.types import Grid

Direction: TypeAlias = Literal["e", "se", "s", "sw", "w", "nw", "n", "ne"]
Output: TypeAlias = Annotated[
    Literal["max", "argmax"] | Direction,
    Field(description="largest response, its direction (0 to 7, eighths from e), or one of them"),
]


def _of_one_direction(how: Pooling, info: ValidationInfo) -> Pooling:
    """Refuse to turn what is of all directions."""
    output = info.data.get("output")
    if output in ("max", "argmax"):
        refuse_turning(f"output: {output}", "it is of all directions already", how)
    return how


Turned: TypeAlias = Annotated[RotationInvariant, AfterValidator(_of_one_direction)]
"""The field after `output`, which it is compared with."""

RING: dict[Direction, tuple[int, int]] = {
    "e": (1, 2),
    "se": (2, 2),
    "s": (2, 1),
    "sw": (2, 0),
    "w": (1, 0),
    "nw": (0, 0),
    "n": (0, 1),
    "ne": (0, 2),
}
"""Row and column of each neighbour; e is +x and s is +y: clockwise on the screen."""


def pointing(ring: Sequence[float], centre: float, direction: Direction) -> Array:
    """Weights whose ring, given clockwise from where it points, starts in a direction."""
    weights = np.full((3, 3), float(centre))
    first = list(RING).index(direction)
    for i, place in enumerate(RING.values()):
        weights[place] = ring[(i - first) % 8]
    return weights


def compass(
    family: str,
    ring: Sequence[float],
    centre: float,
    output: Output,
    *,
    normalize: bool,
    grid: Grid,
) -> Node:
    """The largest response over eight directions, which one it is, or one of them."""
    flat(family, "filter slice by slice (rank: 2)", grid)
    gain = float((pointing(ring, centre, "e") @ [-1, 0, 1]).sum()) if normalize else 1.0

    def towards(direction: Direction) -> Node:
        return Conv(Input(), Kernel.of(pointing(ring, centre, direction) / gain))

    if output == "max" or output == "argmax":
        return Join(tuple(towards(direction) for direction in RING), output)
    return towards(output)

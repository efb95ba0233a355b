"""Laws' texture kernels."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Edge, Map, Node, Responses, separable
from pipeline.bank.kernels import bounded
from pipeline.bank.rotations import pool_rotations
from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.types import Grid

TAPS = {
    "L3": (1, 2, 1),
    "L5": (1, 4, 6, 4, 1),
    "E3": (-1, 0, 1),
    "E5": (-1, -2, 0, 2, 1),
    "S3": (-1, 2, -1),
    "S5": (-1, 0, 2, 0, -1),
    "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
    "L7": (1, 6, 15, 20, 15, 6, 1),
    "E7": (-1, -4, -5, 0, 5, 4, 1),
    "S7": (-1, -2, 1, 4, 1, -2, -1),
    "W7": (-1, 0, 3, 0, -3, 0, 1),
    "R7": (1, -2, -1, 4, -1, -2, 1),
    "O7": (-1, 6, -15, 20, -15, 6, -1),
}
"""Level, edge, spot, wave, ripple and oscillation: before the division by the L2 norm."""

Energy: TypeAlias = Annotated[
    int | None, Field(ge=1, description="radius of the box of the energy map; pixels")
]


def energy_map(response: Node, radius: int | None, ndim: int) -> Node:
    """Average |response| over the box of 2 radius + 1 pixels per axis; None: no energy map.

    The response is extended at the image's border by the boundary rule.
    """
    if radius is None:
        return response
    shape = bounded((2 * radius + 1,) * ndim)
    return separable([np.full(n, 1 / n) for n in shape], Edge(Map(response, "abs")))


@FILTERS.register("laws")
@dataclass(frozen=True, config=PARAMETERS)
class Laws:
    """Separable texture kernels, optionally pooled over rotations and turned into energy.

    IBSI 2 section 3.3 (JTXT): the outer product of 1-D kernels L3 L5 E3 E5 S3 S5 W5 R5, each
    divided by its L2 norm, one per axis and in the order x, y(, z): in E5L5 the edge kernel runs
    along the rows, that is along numpy's last axis. Convolves. Rotation invariance takes the
    largest (signed) or the mean response over the 4 (24 in 3-D) right-angle rotations of the
    kernel. Energy comes last: the mean of |response| over the box of 2 energy + 1 pixels per
    axis, where the response is extended at the image's border by the boundary rule.
    The 7-tap kernels L7 E7 S7 W7 R7 O7 are not the IBSI's: L3 convolved with each 5-tap one, and
    S3 with R5 for O7.

    References
    ----------
    K. Laws, "Textured image segmentation", thesis, University of Southern California, 1980; A.
    Depeursinge et al., "Standardised convolutional filtering for radiomics", arXiv:2006.05470,
    section 3.3.

    Examples
    --------
    >>> kernel = Laws(kernels="E3L3").responses(Grid((1.0, 1.0)))[""].kernel
    >>> (kernel.array * np.sqrt(12)).round(12)
    array([[ 1.,  0., -1.],
           [ 2.,  0., -2.],
           [ 1.,  0., -1.]])
    """

    topic: ClassVar[Topic] = "texture"
    examples: ClassVar[Examples] = (
        {"kernels": ["L5E5", "S5S5"], "energy": 7},
        {"kernels": "R5R5", "rotation_invariant": "max", "energy": 7},
    )

    kernels: Annotated[str, Field(description="one name per axis in the order x, y, z: L5E5")]
    rotation_invariant: RotationInvariant = "none"
    energy: Energy = None

    @field_validator("kernels")
    @classmethod
    def _are_known(cls, text: str) -> str:
        if not text or re.sub("|".join(TAPS), "", text):
            message = f"{text!r} is not made of Laws kernels; choose from: {', '.join(TAPS)}"
            raise ValueError(message)
        return text

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError unless there is one kernel name per axis of the grid."""
        response = pool_rotations(separable(self._taps(grid)), grid.ndim, self.rotation_invariant)
        return {"": energy_map(response, self.energy, grid.ndim)}

    def _taps(self, grid: Grid) -> list[Array]:
        """Taps as applied (flipped), in the order of the grid's axes."""
        names = re.findall("..", self.kernels)[::-1]
        if len(names) != grid.ndim:
            message = (
                f"laws: {self.kernels!r} has {len(names)} kernels, these images have {grid.ndim} "
                "axes; name one kernel per axis, or set the rank"
            )
            raise PlanError(message)
        return [np.array(TAPS[n][::-1]) / np.linalg.norm(TAPS[n]) for n in names]

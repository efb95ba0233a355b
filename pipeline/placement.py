"""Where the pixels of a medical image lie in space: in a scanner, a patient or a template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.types import Grid, ImageInfo

Vector: TypeAlias = tuple[float, float, float]

SCANNER = 1
"""NIfTI's code (NIFTI_XFORM_SCANNER_ANAT) of coordinates that a scanner measured."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The way from array indices to points in space; x to the right, y to the front, z up (RAS).

    origin: the centre of the first pixel; steps: from a pixel to the next one along z, y and x, in
    the unit of the image's grid. An image of two axes has a step along z too: off its plane.
    space: which coordinates these are, as NIfTI numbers them; frame: DICOM's UID of them, empty
    where there is none.
    """

    origin: Vector
    steps: tuple[Vector, Vector, Vector]
    space: int = SCANNER
    frame: str = field(default="", compare=False)

    @classmethod
    def of(cls, affine: npt.ArrayLike, space: int = SCANNER) -> Placement | None:
        """What a NIfTI affine (4, 4), from indices (x, y, z), says; None where that is no place."""
        matrix = np.asarray(affine, dtype=np.float64)
        if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
            return None
        z, y, x = (_vector(matrix[:3, axis]) for axis in (2, 1, 0))
        return cls(_vector(matrix[:3, 3]), (z, y, x), space)

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """The matrix (4, 4) as NIfTI has it: from indices (x, y, z, 1)."""
        matrix = np.eye(4)
        matrix[:3] = np.transpose([*self.steps[::-1], self.origin])
        return matrix

    def moved(self, first: Sequence[float], stride: Sequence[float] = (1, 1, 1)) -> Placement:
        """The placement of a grid that begins at an index (z, y, x) of this one.

        Its steps are so many steps of this one. Indices may be fractions, as where an image is
        resampled.

        >>> Placement((5, 7, 9), ((0, 0, 4), (0, 3, 0), (2, 0, 0))).moved((1, 0, 0.5)).origin
        (6.0, 7.0, 13.0)
        """
        steps = np.array(self.steps)
        z, y, x = map(_vector, steps * np.reshape(stride, (3, 1)))
        return replace(self, origin=_vector(self.origin + first @ steps), steps=(z, y, x))

    def placement(self, grid: Grid) -> Placement:  # noqa: ARG002
        """This one: it knows its steps."""
        return self


@runtime_checkable
class Placed(Protocol):
    """What `ImageInfo.geo` is where an image lies in space; None where its grid has no unit."""

    def placement(self, grid: Grid) -> Placement | None:
        """Where pixels of that grid lie."""


def placement_of(info: ImageInfo) -> Placement | None:
    """Where an image lies in space, None where its file does not say."""
    return info.geo.placement(info.grid) if isinstance(info.geo, Placed) else None


def _vector(values: npt.ArrayLike) -> Vector:
    x, y, z = (float(value) for value in np.asarray(values))
    return x, y, z

"""How the voxels of one image fall on those of another that lies in the same space."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.placement import Placement, placement_of
from pipeline.types import ImageInfo, Ints, Region
from pipeline.units import METRES

T = TypeVar("T", bound=np.generic)
Floats = npt.NDArray[np.float64]
OFF = 0.1  # of a voxel: how far voxels of two images may lie apart that count as the same


@dataclass(frozen=True, slots=True)
class Turn:
    """Voxels of one image as voxels of another: turned by right angles, flipped and moved.

    axes: of the one, for each axis of the other; flips: axes of the other along which the one runs
    backwards; start: the first voxel of the other that is covered.
    """

    axes: Ints = (0, 1, 2)
    flips: tuple[bool, ...] = (False, False, False)
    start: Ints = (0, 0, 0)

    def there(self, voxels: npt.NDArray[T]) -> npt.NDArray[T]:
        """Voxels (z, y, x) of the one in the order of the other; a view."""
        return voxels.transpose(self.axes)[self._flip]

    def back(self, voxels: npt.NDArray[T]) -> npt.NDArray[T]:
        """Voxels of the other in the order of the one; a view."""
        return voxels[self._flip].transpose(np.argsort(self.axes))

    @property
    def _flip(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)

    def box(self, shape: Ints, region: Region | None = None) -> Region:
        """What of the other the one covers, whose shape this is, or a region of it."""
        part = region or Region.whole(shape)
        low, high = [], []
        for first, axis, flip in zip(self.start, self.axes, self.flips, strict=True):
            start, stop = part.start[axis], part.stop[axis]
            if flip:
                start, stop = shape[axis] - stop, shape[axis] - start
            low.append(first + start)
            high.append(first + stop)
        return Region(tuple(low), tuple(high))


def millimetres(info: ImageInfo) -> Placement | None:
    """Where an image lies, in mm; a unit that its file does not name is taken for mm."""
    placement = placement_of(info)
    if placement is None:
        return None
    factor = METRES.get(info.grid.unit or "mm", METRES["mm"]) / METRES["mm"]
    if factor == 1:
        return placement
    return Placement.of(np.diag([factor, factor, factor, 1]) @ placement.affine, placement.space)


def refuse_other_frame(image: Placement, frame: object) -> None:
    """Refuse what DICOM says is in other coordinates than the image, as of another examination."""
    if frame and image.frame and str(frame) != image.frame:
        message = "is in another frame of reference than the image; take the mask of this image"
        raise ReadError("unsupported", message)


def indices(image: Placement, points: Floats) -> Floats:
    """Of points (N, 3) in space: indices (N, 3) along (z, y, x), with fractions."""
    found = np.linalg.solve(np.transpose(image.steps), (points - np.array(image.origin)).T).T
    return np.asarray(found)


def align(one: Placement, shape: Ints, other: Placement) -> Turn | None:
    """How voxels of `one`, of this shape (z, y, x), fall on those of `other`.

    None where a corner lies further than OFF from a voxel of the other, inside of it or beyond.
    """
    corners = np.array(list(product(*((0, size - 1) for size in shape))), np.float64)
    found = indices(other, np.array(one.origin) + corners @ np.array(one.steps))
    linear = np.linalg.solve(np.transpose(other.steps), np.transpose(one.steps))
    single = np.equal(shape, 1)  # there the length of a step means nothing
    linear = np.rint(np.where(single, linear / np.abs(linear).max(axis=0), linear))
    if not np.array_equal(linear @ linear.T, np.eye(3)):
        return None
    whole = np.rint(found)
    if np.abs(whole - found).max() > OFF or (whole - whole[0] != corners @ linear.T).any():
        return None
    axes = np.abs(linear).argmax(axis=1)
    flips = linear[np.arange(3), axes] < 0
    start = whole.min(axis=0)
    return Turn(tuple(axes.tolist()), tuple(flips.tolist()), tuple(start.astype(int).tolist()))

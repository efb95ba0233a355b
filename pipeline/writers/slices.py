"""A volume as one picture: its three middle slices side by side, as large as they are in space.

From left to right the slices across z, y and x; where z runs along the body, axial, coronal and
sagittal. The last slice of z is on top of the second and the third, so that heads are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.types import Ints
from pipeline.writers.boxes import Floats, Mask, resized

S = TypeVar("S", bound=np.generic)

AXES = ("z", "y", "x")
GAP = 4
ROUNDING = 1e-6  # so that as many voxels as there are do not come out as one pixel less


@dataclass(frozen=True, slots=True)
class Part:
    """A slice in a picture: across which axis, where, and the pixels it fills from the top."""

    axis: int
    index: int
    left: int
    height: int
    width: int

    def cut(self, volume: npt.NDArray[S]) -> npt.NDArray[S]:
        """The slice of a volume (D, H, W) as it is drawn."""
        plane: npt.NDArray[S] = np.moveaxis(volume, self.axis, 0)[self.index]
        return plane[::-1] if self.axis else plane

    @property
    def room(self) -> tuple[slice, slice]:
        """Its pixels in the picture."""
        return slice(self.height), slice(self.left, self.left + self.width)

    def described(self) -> dict[str, str | int]:
        """What the picture's text says of it; rows `-z` begin with the last z."""
        rows, columns = (name for axis, name in enumerate(AXES) if axis != self.axis)
        return {
            "slice": f"{AXES[self.axis]}={self.index}",
            "rows": f"-{rows}" if self.axis else rows,
            "columns": columns,
            "top": 0,
            "left": self.left,
            "height": self.height,
            "width": self.width,
        }


def parts_of(shape: Ints, spacing: Sequence[float] | None, size: int) -> tuple[Part, ...]:
    """Where the slices of a volume go; spacing: of its axes, None for cubes.

    A pixel is as large as a voxel where that is smallest, or larger, so that the picture's longer
    edge has at most `size` pixels. Each slice has at least one.
    """
    gap = min(GAP, size // 32)
    lengths = [n * step for n, step in zip(shape, spacing or (1.0,) * 3, strict=True)]
    depth, height, width = lengths
    across = (2 * width + height) / max(1, size - 2 * gap)
    pixel = max(min(spacing or (1.0,)), across, depth / size, height / size)
    z, y, x = (max(1, int(length / pixel + ROUNDING)) for length in lengths)
    middle = [n // 2 for n in shape]
    return (
        Part(0, middle[0], 0, y, x),
        Part(1, middle[1], x + gap, z, x),
        Part(2, middle[2], 2 * (x + gap), z, y),
    )


def assembled(volume: Floats, usable: Mask, parts: Sequence[Part]) -> tuple[Floats, Mask]:
    """Draw the slices of a volume (D, H, W), as values and which of them are usable, (h, w)."""
    shape = _shape(parts)
    picture, seen = np.zeros(shape, volume.dtype), np.zeros(shape, dtype=bool)
    for part in parts:
        room = (part.height, part.width)
        picture[part.room], seen[part.room] = resized(part.cut(volume), part.cut(usable), room)
    return picture, seen


def outside(parts: Sequence[Part]) -> Mask:
    """The pixels of the picture that are in no slice."""
    empty = np.ones(_shape(parts), dtype=bool)
    for part in parts:
        empty[part.room] = False
    return empty


def text_of(parts: Sequence[Part]) -> str:
    """Which pixels are which slice, as JSON."""
    return json.dumps([part.described() for part in parts])


def _shape(parts: Sequence[Part]) -> tuple[int, int]:
    return max(part.height for part in parts), parts[-1].left + parts[-1].width

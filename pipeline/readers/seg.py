"""Masks from DICOM segmentations (PS3.3 A.51 and C.8.20)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ReadError
from pipeline.placement import Placement
from pipeline.readers.alignment import Turn, align, indices, refuse_other_frame
from pipeline.readers.base import Mask
from pipeline.readers.dicom import decode
from pipeline.readers.dicom_header import find, grid_of, plane_of
from pipeline.readers.dicom_series import TO_RAS
from pipeline.types import Ints, Region

if TYPE_CHECKING:
    from pydicom import FileDataset

ELEMENTS = ("SegmentSequence", "SegmentationType", "MaximumFractionalValue")
FRAMES = "PerFrameFunctionalGroupsSequence"
LABELMAP = "LABELMAP"
ASIDE_MM = 0.1  # how far a frame may lie from an image of one slice that it is of


def segmented(
    dataset: FileDataset, image: Placement, shape: Ints, region: Region
) -> Mapping[str, Callable[[], Mask]]:
    """What draws the mask of each segment within a region (z, y, x) of an image, by number.

    shape: of the image, (z, y, x), or (y, x) for one slice of a volume that is not there: then
    frames that lie elsewhere are passed over.
    """
    kind = str(dataset.get("SegmentationType", ""))
    if kind not in ("BINARY", "FRACTIONAL", LABELMAP):
        message = "a segmentation that is neither binary nor fractional nor a label map"
        raise ReadError("unsupported", message)
    refuse_other_frame(image, dataset.get("FrameOfReferenceUID"))
    if len(dataset.get(FRAMES) or ()) != int(dataset.get("NumberOfFrames") or 1):
        message = "a segmentation whose frames do not each say where they lie; export it again"
        raise ReadError("unsupported", message)
    frames = _Frames(dataset, kind, image, shape)
    return {number: partial(frames.draw, int(number), region) for number in names(dataset)}


def names(dataset: FileDataset) -> dict[str, str]:
    """The labels of the segments by number."""
    items = dataset.get("SegmentSequence") or ()
    found = {str(item.SegmentNumber): str(item.get("SegmentLabel") or "") for item in items}
    if len(found) < len(items):
        message = "several segments have one number; export it again"
        raise ReadError("corrupt", message)
    return found


@dataclass(frozen=True, slots=True)
class _Frames:
    dataset: FileDataset
    kind: str
    image: Placement
    shape: Ints

    def draw(self, number: int, region: Region) -> Mask:
        """The mask of one segment. Segments may overlap."""
        mask = np.zeros(region.shape, np.bool_)
        for frame in self._of(number):
            turn = self._turn(frame)
            if turn is None:
                continue
            box = turn.box((1, int(self.dataset.Rows), int(self.dataset.Columns)))
            both = box.overlap(region)
            if both.size:
                found = turn.there(self._inside(frame, number)[None])
                mask[both.slices(region.start)] |= found[both.slices(box.start)]
        return mask

    def _of(self, number: int) -> Iterator[int]:
        """The frames that may hold a segment."""
        for frame in range(len(self.dataset.get(FRAMES))):
            group = "SegmentIdentificationSequence"
            (found,) = find(self.dataset, frame, group, "ReferencedSegmentNumber")
            if self.kind == LABELMAP or found == number:
                yield frame

    def _inside(self, frame: int, number: int) -> Mask:
        values = decode(self.dataset, frame)
        if self.kind == LABELMAP:
            return np.equal(values, number)
        if self.kind == "FRACTIONAL":
            return np.greater_equal(2.0 * values, float(self.dataset.MaximumFractionalValue))
        return np.not_equal(values, 0)

    def _turn(self, frame: int) -> Turn | None:
        """How a frame falls on the image; None where it belongs to another slice."""
        plane, grid = plane_of(self.dataset, frame), grid_of(self.dataset, frame)
        place = None if plane is None else plane.placement(grid)
        if plane is None or place is None:
            message = "a segmentation whose frames do not say where they lie; export it again"
            raise ReadError("unsupported", message)
        alone = len(self.shape) == 2
        if alone:
            height = indices(self.image, np.array([plane.position]) * TO_RAS)[0, 0]
            if abs(height) > ASIDE_MM:
                return None
        size = (int(self.dataset.Rows), int(self.dataset.Columns))
        turn = align(place, (1, *size), self.image)
        if turn is None:
            message = (
                f"frame {frame + 1} of the segmentation lies between the image's voxels; "
                "resample it to the image's grid"
            )
            raise ReadError("unsupported", message)
        box, whole = turn.box((1, *size)), (1, *self.shape)[-3:]
        if box.clip(whole) != box:
            message = (
                f"frame {frame + 1} of the segmentation lies outside of the image; "
                "are slices missing?"
            )
            raise ReadError("incomplete", message)
        return turn

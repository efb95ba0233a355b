"""Masks from contours: DICOM RT structure sets (PS3.3 C.8.8.5 and C.8.8.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.placement import Placement
from pipeline.polygons import inside
from pipeline.readers.alignment import Floats, indices, refuse_other_frame
from pipeline.readers.base import Mask
from pipeline.readers.dicom_series import TO_RAS
from pipeline.types import Region

if TYPE_CHECKING:
    from pydicom import Dataset, FileDataset

ELEMENTS = ("StructureSetROISequence", "ROIContourSequence")
AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")  # other contours are points and lines
ASIDE = 0.25  # of a step: how far a contour may lie from its slice
ASIDE_MM = 0.1  # likewise, where the image is one slice


def contoured(
    dataset: FileDataset, image: Placement, depth: int | None, region: Region
) -> Mapping[str, Callable[[], Mask]]:
    """What draws the mask of each ROI within a region (z, y, x) of an image, by number.

    depth: slices of the image, or None for one slice of a volume that is not there: then contours
    that lie elsewhere are passed over.
    """
    drawn = _numbered(dataset.get(ELEMENTS[1]), "ReferencedROINumber")
    for item in dataset.get(ELEMENTS[0]) or ():
        refuse_other_frame(image, item.get("ReferencedFrameOfReferenceUID"))
    return {
        number: partial(_draw, drawn.get(number), image, depth, region) for number in names(dataset)
    }


def names(dataset: FileDataset) -> dict[str, str]:
    """The names of the ROIs by number."""
    found = _numbered(dataset.get(ELEMENTS[0]), "ROINumber")
    return {number: str(item.get("ROIName") or "") for number, item in found.items()}


def _numbered(items: Iterable[Dataset] | None, keyword: str) -> dict[str, Dataset]:
    """Items of a sequence by the numbers of their ROIs."""
    found: dict[str, Dataset] = {}
    for item in items or ():
        number = str(item[keyword].value)
        if number in found:
            message = f"several ROIs have the number {number}; export it again"
            raise ReadError("corrupt", message)
        found[number] = item
    return found


def _draw(item: Dataset | None, image: Placement, depth: int | None, region: Region) -> Mask:
    """Inside is what an odd number of a slice's contours surround: a contour in another cuts it."""
    mask = np.zeros(region.shape, np.bool_)
    first, last = region.start[0], region.stop[0]
    plane = Region(region.start[1:], region.stop[1:])
    for points in _areas(item):
        places = indices(image, points * TO_RAS)
        at = _slice(places[:, 0], depth)
        if at is not None and first <= at < last:
            mask[at - first] ^= inside([places[:, 1:] + 0.5], plane)  # from corners, not centres
    return mask


def _areas(item: Dataset | None) -> Iterator[Floats]:
    """The corners (N, 3) of the contours that surround something, as DICOM has them."""
    for contour in (item.get("ContourSequence") if item is not None else None) or ():
        if contour.get("ContourGeometricType") in AREAS:
            points = np.array(list(map(float, contour.ContourData)))
            if points.size % 3 or not np.isfinite(points).all():
                message = "a contour whose points are not three numbers each; export it again"
                raise ReadError("corrupt", message)
            yield points.reshape(-1, 3)


def _slice(heights: npt.NDArray[np.float64], depth: int | None) -> int | None:
    """The slice that a contour lies in, by the heights of its points, counted in slices."""
    if not len(heights):
        return None
    at = int(np.rint(heights.mean()))
    off = float(np.abs(heights - at).max())
    if depth is None:
        return 0 if np.abs(heights).max() <= ASIDE_MM else None
    if off > ASIDE:
        message = (
            f"a contour lies {off:.2g} slices off the image's slices, or leans; draw contours on "
            "the image's own slices, or convert them to a label image"
        )
        raise ReadError("unsupported", message)
    if not 0 <= at < depth:
        message = f"a contour lies in slice {at + 1} of an image of {depth}; are slices missing?"
        raise ReadError("incomplete", message)
    return at

"""Masks from contours: DICOM RT structure sets (PS3.3 C.8.8.5 and C.8.8.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.placement import Placement
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
CROSSINGS = 1 << 20  # of lines and rows, looked at together


def contoured(
    dataset: FileDataset, image: Placement, depth: int | None, region: Region
) -> Mapping[str, Callable[[], Mask]]:
    """What draws the mask of each ROI within a region (z, y, x) of an image, by number.

    depth: slices of the image, or None for one slice of a volume that is not there: then contours
    that lie elsewhere are passed over.
    """
    drawn = {str(item.ReferencedROINumber): item for item in dataset.get(ELEMENTS[1]) or ()}
    for item in dataset.get(ELEMENTS[0]) or ():
        refuse_other_frame(image, item.get("ReferencedFrameOfReferenceUID"))
    return {
        str(item.ROINumber): partial(_draw, drawn.get(str(item.ROINumber)), image, depth, region)
        for item in dataset.get(ELEMENTS[0]) or ()
    }


def names(dataset: FileDataset) -> dict[str, str]:
    """The names of the ROIs by number."""
    items = dataset.get(ELEMENTS[0]) or ()
    return {str(item.ROINumber): str(item.get("ROIName") or "") for item in items}


def _draw(item: Dataset | None, image: Placement, depth: int | None, region: Region) -> Mask:
    """Inside is what an odd number of a slice's contours surround: a contour in another cuts it."""
    mask = np.zeros(region.shape, np.bool_)
    first, last = region.start[0], region.stop[0]
    for points in _areas(item):
        places = indices(image, points * TO_RAS)
        at = _slice(places[:, 0], depth)
        if at is not None and first <= at < last:
            mask[at - first] ^= surrounded(places[:, 1:] - region.start[1:], region.shape[1:])
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


def surrounded(corners: Floats, shape: tuple[int, ...]) -> Mask:
    """Pixels (rows, columns) whose centres a closed line surrounds an odd number of times.

    corners: (N, 2) of (row, column), where 0, 0 is the centre of the first pixel. A centre on the
    line belongs to the side of larger indices, so that areas that share a line share no pixel.

    >>> surrounded(np.array([[-0.5, 0.5], [-0.5, 2.5], [1.5, 2.5], [1.5, 0.5]]), (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 1, 1, 0]])
    """
    rows, columns = shape
    passed = np.zeros((rows, columns + 1), np.int32)  # lines left of a pixel, counted where passed
    ends = np.roll(corners, -1, axis=0)
    heights = np.concatenate([corners[:, 0], ends[:, 0]])
    if len(corners):
        first = int(np.clip(np.ceil(heights.min()), 0, rows))
        last = int(np.clip(np.ceil(heights.max()), 0, rows))
        many = max(1, CROSSINGS // len(corners))
        for low in range(first, last, many):
            row = np.arange(low, min(low + many, last))[:, None]
            crossed = (corners[:, 0] <= row) != (ends[:, 0] <= row)
            at, line = np.nonzero(crossed)
            (y, x), (dy, dx) = corners[line].T, (ends - corners)[line].T
            column = np.ceil(x + (at + low - y) * dx / dy)
            np.add.at(passed, (at + low, np.clip(column, 0, columns).astype(int)), 1)
    odd: Mask = np.cumsum(passed[:, :-1], axis=1) % 2 == 1
    return odd

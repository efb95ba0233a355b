"""Masks: label images, DICOM segmentations and structure sets, on the pixels of an image."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID
from running import failures, look, run_bank, write_config
from skimage.draw import polygon2mask
from slices import FLAT, dataset

from pipeline.errors import FailureKind, ReadError
from pipeline.polygons import inside
from pipeline.readers.base import READERS
from pipeline.readers.dicom_series import Plane, join
from pipeline.readers.masks import chosen, read_masks
from pipeline.types import Georeference, Grid, ImageInfo, Region

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(11)
SHAPE = (4, 9, 11)
SPACING = (2.5, 0.5, 0.25)
CORNER = np.array([10.0, -20.0, 30.0])
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)
SEG, LABELMAP = UID("1.2.840.10008.5.1.4.1.1.66.4"), UID("1.2.840.10008.5.1.4.1.1.66.7")
STRUCTURES = UID("1.2.840.10008.5.1.4.1.1.481.3")
NAMED = "DOE^JANE"
CELLS = (RNG.random(SHAPE) < 0.4, RNG.random(SHAPE) < 0.4)


def planes(orientation: Sequence[float] = FLAT) -> list[Plane]:
    normal = np.cross(*np.reshape(orientation, (2, 3)))
    places = (CORNER + z * SPACING[0] * normal for z in range(SHAPE[0]))
    return [Plane("1.2", tuple(orientation), tuple(place.tolist())) for place in places]


def volume(orientation: Sequence[float] = FLAT) -> ImageInfo:
    """A DICOM series as a volume."""
    grid = Grid(SPACING[1:], "mm")
    slices = [
        ImageInfo(SHAPE[1:], ("1",), "int16", grid, geo=plane) for plane in planes(orientation)
    ]
    return join(slices)[1]


def points(places: np.ndarray, orientation: Sequence[float] = FLAT) -> np.ndarray:
    """Indices (N, 3) along z, y, x -> DICOM's mm, from the standard's own equation C.7.6.2.1-1."""
    row, column = np.reshape(orientation, (2, 3))
    steps = np.stack([np.cross(row, column), column, row]) * np.array(SPACING)[:, None]
    return CORNER + places @ steps


def item(**elements: Any) -> Dataset:
    found = Dataset()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def everything(info: ImageInfo) -> Region:
    return Region.whole(info.shape)


def masked(path: Path, info: ImageInfo, label: str | None = None) -> np.ndarray:
    """One mask of the whole image; by default the only one."""
    masks = read_masks(str(path), info, everything(info))
    return masks[next(iter(masks)) if label is None else label]


def refusal(path: Path, info: ImageInfo, label: str | None = None) -> tuple[FailureKind, str]:
    """Why a mask is refused, without a word that the file alone knows."""
    with pytest.raises(ReadError) as caught:
        masked(path, info, label)
    text = str(caught.value)
    assert text.startswith(f"mask {path.name}: ")
    assert NAMED not in text
    assert str(path.parent) not in text
    return caught.value.kind, text


# ---------------------------------------------------------------- contours
def structures(
    path: Path, rois: dict[int, tuple[str, list[tuple[str, np.ndarray]]]], frame: str = "1.5"
) -> Path:
    """An RTSTRUCT of ROIs by number: a name, and contours of a type, (N, 3) in mm."""
    found = dataset(np.zeros((1, 1), np.uint8), SOPClassUID=STRUCTURES, PatientName=NAMED)
    for name in ("PixelData", "Rows", "Columns"):
        del found[name]
    found.StructureSetROISequence = [
        item(ROINumber=number, ROIName=name, ReferencedFrameOfReferenceUID=frame)
        for number, (name, _) in rois.items()
    ]
    found.ROIContourSequence = [
        item(
            ReferencedROINumber=number,
            ContourSequence=[
                item(
                    ContourGeometricType=kind,
                    NumberOfContourPoints=len(line),
                    ContourData=[f"{v:.8g}" for v in line.ravel()],
                )
                for kind, line in contours
            ],
        )
        for number, (_, contours) in rois.items()
        if contours
    ]
    found.save_as(path, enforce_file_format=True)
    return path


def loop(slice_: int, corners: Any, orientation: Sequence[float] = FLAT) -> tuple[str, np.ndarray]:
    """A closed contour through corners (N, 2) of (row, column)."""
    corners = np.asarray(corners, float)
    places = np.column_stack([np.full(len(corners), float(slice_)), corners])
    return "CLOSED_PLANAR", points(places, orientation)


@pytest.mark.parametrize("seed", range(8))
def test_inside_is_what_a_line_surrounds(seed: int) -> None:
    """Any polygon, also beyond the image and through itself, against scikit-image."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-6, 26, (rng.integers(3, 40), 2))
    found = inside([corners + 0.5], Region.whole((20, 17)))
    np.testing.assert_array_equal(found, polygon2mask((20, 17), corners))


def test_areas_that_share_a_line_share_no_pixel_and_leave_none_out() -> None:
    left, right = ([[1, a], [1, b], [7, b], [7, a]] for a, b in ((2, 5), (5, 9)))
    box = Region.whole((10, 12))
    both = [inside([np.array(part, float)], box) for part in (left, right)]
    whole = inside([np.array([[1, 2], [1, 9], [7, 9], [7, 2]], float)], box)
    assert whole.sum() == 6 * 7
    np.testing.assert_array_equal(both[0].astype(int) + both[1], whole)


@pytest.mark.parametrize("orientation", [FLAT, OBLIQUE], ids=["flat", "oblique"])
def test_contours_become_masks_slice_by_slice(tmp_path: Path, orientation: Any) -> None:
    corners = {z: RNG.uniform(-1, 10, (12, 2)) for z in (3, 0, 1)}
    contours = [loop(z, line, orientation) for z, line in corners.items()]
    path = structures(tmp_path / "rs.dcm", {7: ("tumour", contours)})
    info = volume(orientation)
    masks = read_masks(str(path), info, everything(info))
    assert list(masks) == ["tumour"]
    want = np.zeros(SHAPE, bool)
    for z, line in corners.items():
        want[z] = polygon2mask(SHAPE[1:], line)
    np.testing.assert_array_equal(masks["tumour"], want)
    part = Region((1, 2, 3), (4, 8, 9))
    np.testing.assert_array_equal(read_masks(str(path), info, part)["tumour"], want[part.slices()])


def test_a_contour_in_a_contour_is_a_hole_however_it_is_drawn(tmp_path: Path) -> None:
    outer = [[0.5, 0.5], [0.5, 9.5], [7.5, 9.5], [7.5, 0.5]]
    inner = [[2.5, 3.5], [5.5, 3.5], [5.5, 6.5], [2.5, 6.5]]
    keyhole = [*outer, outer[0], inner[0], *inner[1:], inner[0]]
    rois = {1: ("two", [loop(1, outer), loop(1, inner)]), 2: ("keyhole", [loop(1, keyhole)])}
    masks = read_masks(str(structures(tmp_path / "rs.dcm", rois)), volume(), Region.whole(SHAPE))
    want = np.zeros(SHAPE, bool)
    want[1, 1:8, 1:10] = True
    want[1, 3:6, 4:7] = False
    np.testing.assert_array_equal(masks["two"], want)
    np.testing.assert_array_equal(masks["keyhole"], want)


def test_masks_of_another_examination_are_refused(tmp_path: Path) -> None:
    """The same places in another frame of reference are other places."""
    there = replace(planes()[0], frame="1.5")
    info = replace(volume(), geo=there.placement(volume().grid))
    for frame, fits in (("1.5", True), ("1.7", False)):
        square = loop(0, [[1, 1], [1, 4], [4, 4], [4, 1]])
        path = structures(tmp_path / "rs.dcm", {1: ("a", [square])}, frame)
        other = segmentation(
            tmp_path / "seg.dcm", CELLS[0][:1], [(1, planes()[0])], FrameOfReferenceUID=frame
        )
        for mask in (path, other):
            if fits:
                assert masked(mask, info).any()
            else:
                assert "another frame of reference" in refusal(mask, info)[1]
            assert masked(mask, volume()).any()  # which has none


def test_what_surrounds_nothing_is_an_empty_mask_and_doubled_names_are_numbers(
    tmp_path: Path,
) -> None:
    square = loop(2, [[1, 1], [1, 4], [4, 4], [4, 1]])
    rois = {
        1: ("node", [square]),
        2: ("node", []),
        3: ("point", [("POINT", points(np.array([[2.0, 3, 3]])))]),
        4: ("", [("OPEN_PLANAR", square[1])]),
    }
    masks = read_masks(str(structures(tmp_path / "rs.dcm", rois)), volume(), Region.whole(SHAPE))
    assert {name: int(mask.sum()) for name, mask in masks.items()} == {
        "1": 9,
        "2": 0,
        "point": 0,
        "4": 0,
    }


def test_a_name_that_is_the_number_of_another_hides_none(tmp_path: Path) -> None:
    square = loop(2, [[1, 1], [1, 4], [4, 4], [4, 1]])
    rois = {1: ("2", [square]), 2: ("", []), 3: ("3", []), 4: ("5", [])}
    masks = read_masks(str(structures(tmp_path / "rs.dcm", rois)), volume(), Region.whole(SHAPE))
    assert {name: int(m.sum()) for name, m in masks.items()} == {"1": 9, "2": 0, "3": 0, "5": 0}
    path = segmentation(tmp_path / "seg.dcm", CELLS[0][:1], [(1, planes()[0])], ("2", ""))
    masks = read_masks(str(path), volume(), Region.whole(SHAPE))
    assert [int(masks[name].sum()) for name in ("1", "2")] == [int(CELLS[0][0].sum()), 0]


def test_rois_and_segments_of_one_number_are_refused(tmp_path: Path) -> None:
    square = loop(2, [[1, 1], [1, 4], [4, 4], [4, 1]])
    path = structures(tmp_path / "rs.dcm", {1: ("a", [square]), 2: ("b", [square])})
    for sequence, keyword in (
        ("StructureSetROISequence", "ROINumber"),
        ("ROIContourSequence", "ReferencedROINumber"),
    ):
        found = pydicom.dcmread(path)
        setattr(found[sequence].value[1], keyword, 1)
        found.save_as(tmp_path / "same.dcm")
        assert refusal(tmp_path / "same.dcm", volume())[0] == "corrupt"
    path = segmentation(tmp_path / "seg.dcm", CELLS[0][:1], [(1, planes()[0])])
    found = pydicom.dcmread(path)
    found.SegmentSequence[1].SegmentNumber = 1
    found.save_as(path)
    assert refusal(path, volume())[0] == "corrupt"


@pytest.mark.parametrize(
    ("places", "kind", "said"),
    [
        ([[1.4, 1, 1], [1.4, 5, 5], [1.4, 1, 5]], "unsupported", "off the image's slices"),
        ([[0, 1, 1], [1, 5, 5], [2, 1, 5]], "unsupported", "leans"),
        ([[4, 1, 1], [4, 5, 5], [4, 1, 5]], "incomplete", "slice 5 of an image of 4"),
        ([[-1, 1, 1], [-1, 5, 5], [-1, 1, 5]], "incomplete", "slice 0 of an image of 4"),
    ],
    ids=["between", "leaning", "after", "before"],
)
def test_contours_that_are_not_the_images_are_refused(
    tmp_path: Path, places: Any, kind: str, said: str
) -> None:
    line = ("CLOSED_PLANAR", points(np.array(places, float)))
    path = structures(tmp_path / "rs.dcm", {1: ("a", [line])})
    found, text = refusal(path, volume(), "a")
    assert found == kind
    assert said in text


def test_a_single_slice_takes_its_own_contours(tmp_path: Path) -> None:
    square = [[1, 1], [1, 4], [4, 4], [4, 1]]
    rois = {1: ("a", [loop(1, square)]), 2: ("b", [loop(2, square)])}
    path = structures(tmp_path / "rs.dcm", rois)
    info = ImageInfo(SHAPE[1:], ("1",), "int16", Grid(SPACING[1:], "mm"), geo=planes()[1])
    masks = read_masks(str(path), info, everything(info))
    assert [(m.shape, int(m.sum())) for m in masks.values()] == [((9, 11), 9), ((9, 11), 0)]


def test_an_image_that_lies_nowhere_takes_no_contours(tmp_path: Path) -> None:
    path = structures(tmp_path / "rs.dcm", {1: ("a", [])})
    kind, text = refusal(path, replace(volume(), geo=None))
    assert kind == "unsupported"
    assert "does not say where it lies" in text


# ---------------------------------------------------------------- segmentations
def segmentation(
    path: Path,
    frames: np.ndarray,
    where: Sequence[tuple[int, Plane]],
    labels: Sequence[str] = ("liver", "tumour"),
    **elements: Any,
) -> Path:
    """Frames (N, rows, columns), each of a segment and in a plane."""
    packed = np.packbits(frames.astype(bool).ravel(), bitorder="little")
    bits = elements.get("SegmentationType", "BINARY") == "BINARY"
    found = dataset(frames.astype(np.uint8), PatientName=NAMED)
    found.SOPClassUID, found.SegmentationType = SEG, "BINARY"
    if bits:
        found.BitsAllocated, found.BitsStored, found.HighBit = 1, 1, 0
        found.PixelData = packed.tobytes() + bytes(len(packed) % 2)
    found.SegmentSequence = [
        item(SegmentNumber=i, SegmentLabel=label) for i, label in enumerate(labels, 1)
    ]
    measures = item(PixelSpacing=list(SPACING[1:]), SliceThickness=SPACING[0])
    found.SharedFunctionalGroupsSequence = [item(PixelMeasuresSequence=[measures])]
    found.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=list(plane.position))],
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(plane.orientation))],
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=segment)],
        )
        for segment, plane in where
    ]
    for name, value in elements.items():
        setattr(found, name, value)
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID
    found.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("orientation", [FLAT, OBLIQUE], ids=["flat", "oblique"])
def test_frames_are_put_where_they_lie(tmp_path: Path, orientation: Any) -> None:
    """In any order, segments over one another, slices left out."""
    at = planes(orientation)
    order = [(1, 3), (2, 0), (1, 0), (2, 2), (2, 3)]
    frames = np.stack([CELLS[segment - 1][z] for segment, z in order])
    where = [(segment, at[z]) for segment, z in order]
    path = segmentation(tmp_path / "seg.dcm", frames, where)
    info = volume(orientation)
    masks = read_masks(str(path), info, everything(info))
    want = {"liver": np.zeros(SHAPE, bool), "tumour": np.zeros(SHAPE, bool)}
    for segment, z in order:
        want[("liver", "tumour")[segment - 1]][z] = CELLS[segment - 1][z]
    assert list(masks) == ["liver", "tumour"]
    part = Region((0, 3, 1), (3, 9, 7))
    for name, mask in want.items():
        np.testing.assert_array_equal(masks[name], mask)
        some = read_masks(str(path), info, part)[name]
        np.testing.assert_array_equal(some, mask[part.slices()])


def test_a_fraction_of_half_is_inside(tmp_path: Path) -> None:
    frames = np.array([[[0, 49, 50, 51, 100, 0, 0, 0, 0, 0, 0]] * 9], np.uint8)
    path = segmentation(
        tmp_path / "seg.dcm",
        frames,
        [(1, planes()[2])],
        SegmentationType="FRACTIONAL",
        MaximumFractionalValue=100,
    )
    mask = read_masks(str(path), volume(), Region.whole(SHAPE))["liver"]
    assert np.argwhere(mask[2, 0]).ravel().tolist() == [2, 3, 4]
    assert mask.sum() == 27


def test_a_label_map_holds_segments_by_number(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, SHAPE, dtype=np.uint8)
    path = segmentation(
        tmp_path / "seg.dcm",
        labels,
        [(1, plane) for plane in planes()],
        SegmentationType="LABELMAP",
        SOPClassUID=LABELMAP,
    )
    masks = read_masks(str(path), volume(), Region.whole(SHAPE))
    for number, name in ((1, "liver"), (2, "tumour")):
        np.testing.assert_array_equal(masks[name], labels == number)


def test_frames_across_the_slices_are_turned(tmp_path: Path) -> None:
    """Planes of one image column: rows run along y, columns along z."""
    spacing = [SPACING[1], SPACING[0]]
    measures = [item(PixelMeasuresSequence=[item(PixelSpacing=spacing)])]
    corners = points(np.array([[0.0, 0, x] for x in range(SHAPE[2])]))
    where = [(1, Plane("", (0, 0, 1, 0, 1, 0), tuple(corner.tolist()))) for corner in corners]
    frames = np.moveaxis(CELLS[0], 0, 2).swapaxes(0, 1)  # (x, y, z)
    path = segmentation(tmp_path / "s.dcm", frames, where, SharedFunctionalGroupsSequence=measures)
    mask = read_masks(str(path), volume(), Region.whole(SHAPE))["liver"]
    np.testing.assert_array_equal(mask, CELLS[0])


def test_a_single_slice_takes_its_own_frames(tmp_path: Path) -> None:
    where = [(1, plane) for plane in planes()]
    path = segmentation(tmp_path / "seg.dcm", CELLS[0], where)
    for z, plane in enumerate(planes()):
        info = ImageInfo(SHAPE[1:], ("1",), "int16", Grid(SPACING[1:], "mm"), geo=plane)
        part = Region((2, 1), (9, 10))
        mask = read_masks(str(path), info, part)["liver"]
        np.testing.assert_array_equal(mask, CELLS[0][z][part.slices()])


def shifted(by: Sequence[float]) -> list[tuple[int, Plane]]:
    place = points(np.array([by], float))[0]
    return [(1, Plane("", FLAT, tuple(place.tolist())))]


@pytest.mark.parametrize(
    ("by", "kind", "said"),
    [
        ((1.3, 0, 0), "unsupported", "between the image's voxels"),
        ((1, 0.5, 0), "unsupported", "between the image's voxels"),
        ((4, 0, 0), "incomplete", "outside of the image"),
        ((1, 0, 1), "incomplete", "outside of the image"),
    ],
)
def test_frames_that_are_not_the_images_are_refused(
    tmp_path: Path, by: Any, kind: str, said: str
) -> None:
    path = segmentation(tmp_path / "seg.dcm", CELLS[0][:1], shifted(by))
    found, text = refusal(path, volume(), "liver")
    assert found == kind
    assert said in text
    assert "tumour" in read_masks(str(path), volume(), Region.whole(SHAPE))


def test_a_tenth_of_a_voxel_is_no_other_place(tmp_path: Path) -> None:
    path = segmentation(tmp_path / "seg.dcm", CELLS[0][:1], shifted((1.05, 0.05, -0.05)))
    mask = read_masks(str(path), volume(), Region.whole(SHAPE))["liver"]
    np.testing.assert_array_equal(mask[1], CELLS[0][0])


def test_no_byte_that_flips_is_more_than_a_refusal(tmp_path: Path) -> None:
    square = loop(2, [[1, 1], [1, 4], [4, 4], [4, 1]])
    files = (
        structures(tmp_path / "rs.dcm", {1: ("a", [square])}),
        segmentation(tmp_path / "seg.dcm", CELLS[0][:1], [(1, planes()[0])]),
    )
    rng, info = np.random.default_rng(3), volume()
    for path in files:
        data = path.read_bytes()
        for _ in range(30):
            broken = bytearray(data)
            broken[rng.integers(132, len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(broken)
            try:
                for mask in read_masks(str(path), info, everything(info)).values():
                    assert mask.shape == SHAPE
            except ReadError as error:
                assert NAMED not in str(error)  # noqa: PT017


# ---------------------------------------------------------------- label images
LABELS = RNG.integers(0, 4, SHAPE).astype(np.int16)


def nifti(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    """Labels (z, y, x)."""
    image = nibabel.Nifti1Image(labels.T, affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    return path


def affine_of(orientation: Sequence[float] = FLAT) -> np.ndarray:
    """Of a volume, from (x, y, z) to RAS, by the standard's own equation."""
    corners = points(np.array([[0.0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]), orientation)
    ras = corners * [-1, -1, 1]
    affine = np.eye(4)
    affine[:3, 3] = ras[0]
    affine[:3, :3] = (ras[1:] - ras[0]).T
    return affine


TURNED = np.array(
    [[-1, 0, 0, SHAPE[2] - 1], [0, 1, 0, 0], [0, 0, -1, SHAPE[0] - 1], [0, 0, 0, 1.0]]
)


def test_numbers_are_labels_and_zero_is_none(tmp_path: Path) -> None:
    path = nifti(tmp_path / "m.nii.gz", LABELS, affine_of())
    masks = read_masks(str(path), volume(), Region.whole(SHAPE))
    assert list(masks) == ["1", "2", "3"]
    for label, mask in masks.items():
        np.testing.assert_array_equal(mask, int(label) == LABELS)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)], ids=str)
@pytest.mark.parametrize("flip", [(), (0,), (1, 2)], ids=str)
@pytest.mark.parametrize("orientation", [FLAT, OBLIQUE], ids=["flat", "oblique"])
def test_the_same_voxels_in_another_order_are_turned(
    tmp_path: Path, axes: tuple[int, ...], flip: tuple[int, ...], orientation: Any
) -> None:
    """As dcm2niix and others store them; nibabel says where each voxel lies."""
    image = nibabel.Nifti1Image(LABELS.T, affine_of(orientation))
    turns = [[axes.index(i), -1 if i in flip else 1] for i in range(3)]
    image.as_reoriented(np.array(turns)).to_filename(tmp_path / "m.nii")
    info = volume(orientation)
    part = Region((1, 2, 3), (4, 8, 9))
    for region in (everything(info), part):
        found = read_masks(str(tmp_path / "m.nii"), info, region)
        np.testing.assert_array_equal(found["2"], LABELS[region.slices()] == 2)


def test_a_single_slice_takes_its_own_slice_of_a_mask(tmp_path: Path) -> None:
    path = nifti(tmp_path / "m.nii", LABELS[::-1, :, ::-1], affine_of() @ TURNED)
    for z, plane in enumerate(planes()):
        info = ImageInfo(SHAPE[1:], ("1",), "int16", Grid(SPACING[1:], "mm"), geo=plane)
        part = Region((2, 1), (9, 10))
        mask = read_masks(str(path), info, part)["3"]
        np.testing.assert_array_equal(mask, LABELS[z][part.slices()] == 3)
    beyond = replace(info, geo=plane.moved(SPACING[0]))
    assert refusal(path, beyond)[0] == "unsupported"


def test_slices_of_one_file_are_sources_that_lie_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nifti(tmp_path / "in/v.nii", np.zeros_like(LABELS), affine_of())
    mask = nifti(tmp_path / "m.nii", LABELS, affine_of())
    config = write_config(
        tmp_path / "c.yaml", input={"path": str(tmp_path / "in"), "pages": "sources"}
    )
    sources = look(config, tmp_path / "out").sources
    assert [source.page for source in sources] == [0, 1, 2, 3]
    for source in sources:
        found = read_masks(str(mask), source.header, everything(source.header))
        np.testing.assert_array_equal(found["2"], LABELS[source.page] == 2)


def moved(by: float) -> np.ndarray:
    affine = affine_of()
    affine[0, 3] += by * SPACING[2]
    return affine


@pytest.mark.parametrize(
    ("labels", "affine"),
    [
        (LABELS, moved(1)),
        (LABELS, moved(0.4)),
        (LABELS, affine_of() @ np.diag([1, 1, 1.1, 1])),
        (LABELS, affine_of(OBLIQUE)),
        (LABELS[:3], affine_of()),
        (LABELS[:, :, :-1], affine_of()),
    ],
    ids=["next voxel", "between", "spacing", "turned", "slices", "columns"],
)
def test_a_mask_of_another_grid_is_refused_and_both_are_named(
    tmp_path: Path, labels: np.ndarray, affine: np.ndarray
) -> None:
    kind, text = refusal(nifti(tmp_path / "m.nii", labels, affine), volume())
    assert kind == "unsupported"
    assert "4x9x11 of 2.5x0.5x0.25 mm at " in text
    assert f"({'x'.join(map(str, labels.shape))} of " in text


FLOOR = ImageInfo((9, 11), ("1",), "uint8", Grid((1.0, 1.0)))


def test_a_picture_of_0_and_255_has_the_label_255(tmp_path: Path) -> None:
    inside = CELLS[0][0]
    Image.fromarray((inside * 255).astype(np.uint8)).save(tmp_path / "m.png")
    Image.fromarray((inside * 255).astype(np.uint8)).convert("RGB").save(tmp_path / "rgb.png")
    for name in ("m.png", "rgb.png"):
        masks = read_masks(str(tmp_path / name), FLOOR, everything(FLOOR))
        assert list(masks) == ["255"]
        np.testing.assert_array_equal(masks["255"], inside)
    part = Region((2, 3), (7, 8))
    masks = read_masks(str(tmp_path / "m.png"), FLOOR, part)
    np.testing.assert_array_equal(masks["255"], inside[part.slices()])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / "m.tif", LABELS[0].astype(dtype))
    masks = read_masks(str(tmp_path / "m.tif"), FLOOR, everything(FLOOR))
    np.testing.assert_array_equal(masks["3"], LABELS[0] == 3)


def test_pages_are_slices_of_a_mask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", LABELS.astype(np.uint8), photometric="minisblack")
    info = ImageInfo(SHAPE, ("1",), "uint8", Grid((1.0,) * 3))
    part = Region((1, 0, 2), (3, 9, 11))
    masks = read_masks(str(tmp_path / "m.tif"), info, part)
    np.testing.assert_array_equal(masks["1"], LABELS[part.slices()] == 1)
    assert refusal(tmp_path / "m.tif", FLOOR)[1].endswith("one for each slice")


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((9, 11), 0.5, np.float32), "holds fractions"),
        (RNG.integers(0, 255, (9, 11, 3), dtype=np.uint8), "3 bands that differ"),
        (np.zeros((9, 12), np.uint8), "another grid (9x12) than the image (9x11)"),
        (np.arange(1, 20_001, dtype=np.uint32).reshape(2, 10_000), "more than 10000 labels"),
    ],
    ids=["fractions", "colours", "size", "many"],
)
def test_what_is_no_mask_is_refused(tmp_path: Path, pixels: np.ndarray, said: str) -> None:
    tifffile.imwrite(tmp_path / "m.tif", pixels)
    info = replace(FLOOR, shape=pixels.shape) if pixels.size == 20_000 else FLOOR
    assert said in refusal(tmp_path / "m.tif", info)[1]


def test_a_flat_mask_is_none_of_a_volume(tmp_path: Path) -> None:
    path = nifti(tmp_path / "m.nii", LABELS[0], np.diag([0.25, 0.5, 2.5, 1]))
    for place in (volume().geo, None):
        kind, text = refusal(path, replace(volume(), geo=place))
        assert kind == "unsupported"
        assert "(9x11 of 0.5x0.25 mm" in text


def test_a_large_mask_is_not_decoded_for_every_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.readers.labels.OFTEN", 98)
    Image.fromarray(np.zeros((9, 11), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ReadError, match="9x11 in one piece") as caught:
        read_masks(str(tmp_path / "m.png"), FLOOR, Region((0, 0), (9, 10)))
    assert caught.value.kind == "limit"
    assert list(read_masks(str(tmp_path / "m.png"), FLOOR, everything(FLOOR))) == []


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("1 0 1")
    assert "no known image format" in refusal(tmp_path / "m.txt", FLOOR)[1]
    assert refusal(tmp_path / "gone.tif", FLOOR)[0] == "io"


def scene(path: Path, labels: np.ndarray, west: float, crs: str, **profile: Any) -> Path:
    rasterio = pytest.importorskip("rasterio")
    shape = dict(zip(("height", "width"), labels.shape, strict=True))
    transform = rasterio.Affine(10, 0, west, 0, -10, 5_000_000)
    plain = {"driver": "GTiff", "count": 1, "dtype": labels.dtype.name, "crs": crs}
    with rasterio.open(path, "w", **plain, **shape, transform=transform, **profile) as file:
        file.write(labels, 1)
    return path


def test_a_raster_mask_lies_where_the_scene_does(tmp_path: Path) -> None:
    labels, crs = LABELS[0].astype(np.uint8), "EPSG:32631"
    place = Georeference(crs, (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0))
    info = ImageInfo((9, 11), ("1",), "uint16", Grid((10.0, 10.0), "m"), geo=place)
    path = scene(tmp_path / "m.tif", labels, 500_000, crs, nodata=2)
    masks = read_masks(str(path), info, everything(info))
    assert list(masks) == ["1", "3"]  # nodata is no label
    np.testing.assert_array_equal(masks["3"], labels == 3)
    assert refusal(scene(tmp_path / "a.tif", labels, 500_002, crs), info)[0] == "unsupported"
    text = refusal(scene(tmp_path / "b.tif", labels, 500_000, "EPSG:32632"), info)[1]
    assert "9x11 of 10x10 m at 500000, 5000000 in EPSG:32632" in text


def test_labels_get_their_names_and_what_is_absent_stays_known() -> None:
    found = {"1": np.array([1, 0, 0], bool), "2": np.array([0, 1, 0], bool)}
    assert chosen("all", found) is found
    named = chosen((("2", "GTV"), ("9", "node")), found)
    assert list(named) == ["GTV", "node"]
    assert named["GTV"] is found["2"]
    assert named["node"] is None


# ---------------------------------------------------------------- real files
def series(folder: Path) -> ImageInfo:
    reader = READERS["dicom"]()
    return join([reader.probe(str(path))[0] for path in sorted(folder.glob("*.dcm"))])[1]


def test_a_real_structure_set_is_the_real_mask(shared: Path) -> None:
    """IBSI's own contours, and IBSI's own mask of them."""
    data = shared / "data"
    info = series(data / "ct_dicom_series/ibsi_STS_002_CT")
    contours = str(data / "dicom_variants/ibsi_STS_002_CT_RS.dcm")
    (drawn,) = read_masks(contours, info, everything(info)).values()
    labels = data / "mri_nifti/ibsi_STS_002_CT_mask.nii.gz"
    masks = read_masks(str(labels), info, everything(info))
    assert list(masks) == ["1"]
    want = np.asarray(nibabel.load(labels).dataobj).T == 1
    assert want.sum() == 17090
    np.testing.assert_array_equal(masks["1"], want)
    np.testing.assert_array_equal(drawn, want)
    other = data / "mri_nifti/ibsi_STS_002_PET_mask.nii.gz"
    assert refusal(other, info)[0] == "unsupported"


def test_a_real_segmentation_is_pydicoms(shared: Path) -> None:
    path = shared / "data/dicom_variants/liver.dcm"
    found = pydicom.dcmread(path)
    groups = found.PerFrameFunctionalGroupsSequence
    corners = [group.PlanePositionSequence[0].ImagePositionPatient for group in groups]
    grid = Grid((0.810547, 0.810547), "mm")
    slices = [
        ImageInfo((512, 512), ("1",), "int16", grid, geo=Plane("", FLAT, tuple(map(float, corner))))
        for corner in corners
    ]
    order, info = join(slices)
    masks = read_masks(str(path), info, everything(info))
    assert list(masks) == ["Liver"]
    np.testing.assert_array_equal(masks["Liver"], found.pixel_array[list(order)] == 1)


def test_a_series_with_contours_and_a_nifti_with_labels_measure_the_same(
    shared: Path, tmp_path: Path
) -> None:
    data, files = shared / "data", tmp_path / "in"
    nifti_name = "ibsi_STS_002_CT_{}.nii.gz"
    shutil.copytree(data / "ct_dicom_series/ibsi_STS_002_CT", files / "ct")
    (files / "roi").mkdir()
    shutil.copy(data / "dicom_variants/ibsi_STS_002_CT_RS.dcm", files / "roi/a.dcm")
    shutil.copy(data / "mri_nifti" / nifti_name.format("image"), files / "ct.nii.gz")
    shutil.copy(data / "mri_nifti" / nifti_name.format("mask"), files / "roi/a.nii.gz")
    found = []
    for images, mask, label in (("ct/*.dcm", "dcm", "GTV_Mass_CT"), ("*.nii.gz", "nii.gz", "1")):
        labels = {label: "GTV", "none": "gone"}
        config = write_config(
            tmp_path / f"{mask}.yaml",
            input={
                "path": str(files),
                "include": [images],
                "mask": {"path": f"roi/a.{mask}", "labels": labels},
            },
            statistics=["mean", "std", "p50"],
        )
        output = run_bank(config, tmp_path / mask)
        assert failures(output) == {}
        rows = output.statistics.drop_columns(["image"]).to_pylist()
        found.append({row.pop("region"): row for row in rows})
    assert found[0] == found[1]
    assert found[0]["roi=GTV"]["n_valid"] == 17090
    assert found[0]["roi=gone"]["n_valid"] == 0
    assert found[0]["roi=gone"]["mean"] is None
    voxels, inside = (
        np.asarray(nibabel.load(data / "mri_nifti" / nifti_name.format(what)).dataobj)
        for what in ("image", "mask")
    )
    want = voxels[inside == 1].mean(dtype=np.float64)
    assert found[0]["roi=GTV"]["mean"] == pytest.approx(want, rel=1e-12)

"""Where medical images lie, against nibabel, DICOM's own formula and two forms of one scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import look, write_config
from slices import FLAT, dataset, place, write

from pipeline.placement import Placement, placement_of
from pipeline.readers.base import READERS
from pipeline.types import ImageInfo, Source

nibabel = pytest.importorskip("nibabel")
ROUNDING = 1e-9
MICROMETRE = 1e-3  # of a millimetre: a NIfTI header holds float32
VOXELS = np.zeros((6, 7, 8), np.int16)  # z, y, x
TURN = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 1]])
AFFINE = np.eye(4)
AFFINE[:3, :3], AFFINE[:3, 3] = TURN @ np.diag([2, -3, 4]), (5, 7, -9)


def nifti(path: Path, voxels: Any = VOXELS, **forms: Any) -> ImageInfo:
    image = nibabel.Nifti1Image(voxels.T, None)
    image.header.set_xyzt_units("mm")
    image.header.set_zooms((2, 3, 4)[: voxels.ndim])
    for name, (affine, code) in forms.items():
        getattr(image, f"set_{name}")(affine, code)
    image.to_filename(path)
    return READERS["nifti"]().probe(str(path))[0]


def known(info: ImageInfo) -> Placement:
    found = placement_of(info)
    assert found is not None
    return found


def sources(path: Path, folder: Path, **keys: Any) -> dict[str, Source]:
    config = write_config(folder / "c.yaml", input={"path": str(path), **keys})
    return {source.key: source for source in look(config, folder / "out").sources}


# ---------------------------------------------------------------- NIfTI
def test_the_sform_says_where_a_volume_lies_and_the_qform_where_there_is_none(
    tmp_path: Path,
) -> None:
    other = AFFINE + np.eye(4)
    both = known(nifti(tmp_path / "a.nii", sform=(AFFINE, 4), qform=(other, 1)))
    np.testing.assert_allclose(both.affine, AFFINE, atol=1e-6)
    assert both.space == 4
    one = known(nifti(tmp_path / "b.nii", qform=(AFFINE, 2), sform=(other, 0)))
    np.testing.assert_allclose(one.affine, AFFINE, atol=1e-5)
    assert one.space == 2


def test_a_volume_without_a_place_gets_none(tmp_path: Path) -> None:
    assert placement_of(nifti(tmp_path / "a.nii")) is None
    flat = np.diag([2.0, 3, 0, 1])
    assert placement_of(nifti(tmp_path / "b.nii", sform=(flat, 1))) is None


@pytest.mark.parametrize("name", ["dcmqa_ax_asc_36sl_9.nii", "ibsi_STS_002_CT_image.nii.gz"])
def test_real_volumes_lie_where_nibabel_says(shared: Path, name: str) -> None:
    path = shared / "data" / "mri_nifti" / name
    affine = nibabel.load(path).affine
    np.testing.assert_array_equal(known(READERS["nifti"]().probe(str(path))[0]).affine, affine)


# ---------------------------------------------------------------- DICOM
def test_a_series_lies_where_the_standard_says(tmp_path: Path) -> None:
    """PS3.3 C.7.6.2.1.1, in its own coordinates: x to the left, y to the back."""
    row, column = np.array([0.6, 0.8, 0.0]), np.array([0.0, 0.0, -1.0])
    normal, corner = np.cross(row, column), np.array([10.0, -20.0, 30.0])
    for i in range(4):
        given = place(0, (*row, *column)) | {"PixelSpacing": [0.5, 0.7]}
        given["ImagePositionPatient"] = (corner + 2.5 * i * normal).tolist()
        write(tmp_path / f"in/{i}.dcm", VOXELS[0], **given)
    (source,) = sources(tmp_path / "in", tmp_path).values()
    k, j, i = 3, 5, 2  # slice, row, column
    lps = corner + 2.5 * k * normal + 0.5 * j * column + 0.7 * i * row
    found = known(source.header).affine @ (i, j, k, 1)
    np.testing.assert_allclose(found[:3], lps * (-1, -1, 1), atol=ROUNDING)


def test_slices_that_lie_a_little_askew_are_followed(tmp_path: Path) -> None:
    for i in range(3):
        given = place(i) | {"ImagePositionPatient": [0.1 * i, 0, i]}
        write(tmp_path / f"in/{i}.dcm", VOXELS[0], **given)
    (source,) = sources(tmp_path / "in", tmp_path).values()
    last = known(source.header).affine @ (0, 0, 2, 1)
    np.testing.assert_allclose(last[:3], (-0.2, 0, 2), atol=ROUNDING)


def test_frames_of_one_file_and_a_lone_slice_have_a_place(tmp_path: Path) -> None:
    lone = write(tmp_path / "a.dcm", VOXELS[0], **place(7, FLAT, 0.5))
    affine = known(READERS["dicom"]().probe(str(lone))[0]).affine
    np.testing.assert_allclose(affine @ (2, 4, 0, 1), (-1, -2, 7, 1), atol=ROUNDING)
    dose = {"Modality": "RTDOSE", "DoseGridScaling": 2, "GridFrameOffsetVector": [4, 2, 0]}
    many = tmp_path / "b.dcm"
    dataset(VOXELS[:3], **place(5), **dose).save_as(many, enforce_file_format=True)
    (info,) = READERS["dicom"]().probe(str(many))
    np.testing.assert_allclose(known(info).affine @ (0, 0, 2, 1), (0, 0, 5, 1), atol=ROUNDING)


def test_pixels_without_a_size_have_no_place(tmp_path: Path) -> None:
    for i in range(2):
        write(tmp_path / f"in/{i}.dcm", VOXELS[0], **place(i) | {"PixelSpacing": None})
    (source,) = sources(tmp_path / "in", tmp_path).values()
    assert (source.header.shape, placement_of(source.header)) == ((2, 7, 8), None)


def test_a_scan_lies_at_one_place_as_dicom_and_as_nifti(shared: Path, tmp_path: Path) -> None:
    """Its NIfTI file was made from the series by ITK, which turned nothing."""
    data = shared / "data"
    series = sources(data / "ct_dicom_series" / "ibsi_STS_002_CT", tmp_path)
    dicom = next(iter(series.values())).header
    path = data / "mri_nifti" / "ibsi_STS_002_CT_image.nii.gz"
    (nifti_info,) = READERS["nifti"]().probe(str(path))
    assert dicom.shape == nifti_info.shape
    z, y, x = (n - 1 for n in dicom.shape)
    for corner in [(0, 0, 0, 1), (x, 0, 0, 1), (0, y, 0, 1), (0, 0, z, 1), (x, y, z, 1)]:
        here, there = known(dicom).affine @ corner, known(nifti_info).affine @ corner
        np.testing.assert_allclose(here, there, atol=MICROMETRE)


# ---------------------------------------------------------------- both
def test_a_moved_grid_has_its_pixels_where_the_old_one_has_them() -> None:
    place = Placement.of(AFFINE)
    assert place is not None
    half = place.moved((1, 0.5, 2), stride=(1, 2, 0.5))
    np.testing.assert_allclose(
        half.affine @ (4, 3, 2, 1), AFFINE @ (2 + 4 * 0.5, 0.5 + 3 * 2, 1 + 2, 1), atol=ROUNDING
    )

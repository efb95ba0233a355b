"""NIfTI maps read back by nibabel: voxels, place, units; the same bytes in any order."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import look, write_config

from pipeline.placement import Placement, placement_of
from pipeline.readers.base import READERS
from pipeline.types import Grid, Ints, Region, Source
from pipeline.writers import nifti

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(3)
TAGS = {"filter": "log(sigma=2)", "image": "a/µ.nii", "band": "1"}
MILLIMETRES = Grid((4.0, 3.0, 2.0), "mm")
PLACE = Placement((5, 7, -9), ((0, 0, 4), (0, -3, 0), (2, 0, 0)), 4)
MICROMETRE = 1e-3  # of a millimetre: float32


def written(
    path: Path, values: np.ndarray, cut: Ints | None = None, order: int = 1, **given: Any
) -> Any:
    """Put values in boxes of a size, from the first or the last one, and open the file."""
    shape = values.shape
    grid = given.pop("grid", Grid((1.0,) * len(shape)))
    file = nifti.Nifti(path, shape, grid, given.pop("place", None), TAGS)
    for region in boxes(shape, cut or shape)[::order]:
        file.put(region, values[region.slices()])
    file.close()
    assert list(path.parent.glob(f"{path.name}?*")) == []
    return nibabel.load(path)


def boxes(shape: Ints, cut: Ints) -> list[Region]:
    counts = (-(-length // part) for length, part in zip(shape, cut, strict=True))
    starts = [tuple((np.array(index) * cut).tolist()) for index in np.ndindex(*counts)]
    margin = tuple((0, part) for part in cut)
    return [Region(start, start).grow(margin).clip(shape) for start in starts]


@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ((5, 6, 7), (5, 6, 7)),
        ((5, 6, 7), (2, 6, 7)),
        ((5, 6, 7), (2, 4, 7)),
        ((5, 6, 7), (2, 4, 3)),
        ((9, 8), (4, 8)),
        ((9, 8), (4, 3)),
    ],
)
def test_regions_in_any_order_are_one_file(tmp_path: Path, shape: Ints, cut: Ints) -> None:
    values = RNG.normal(size=shape).astype(np.float32)
    values.flat[3] = np.nan
    found = written(tmp_path / "a.nii.gz", values, cut)
    assert found.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, values)
    written(tmp_path / "b.nii.gz", values, cut, order=-1)
    written(tmp_path / "c.nii.gz", values)
    one, *others = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert others == [one, one]


def test_what_nobody_put_is_nan_and_what_is_discarded_is_gone(tmp_path: Path) -> None:
    file = nifti.Nifti(tmp_path / "a.nii.gz", (1, 3, 4), MILLIMETRES, None, TAGS)
    file.put(Region((0, 1, 1), (1, 2, 3)), np.ones((1, 1, 2)))
    file.close()
    found = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).T
    assert np.flatnonzero(~np.isnan(found)).tolist() == [5, 6]
    with pytest.raises(ValueError, match="for a region"):
        file.put(Region.whole((1, 3, 4)), np.ones((3, 4)))
    file.discard()
    other = nifti.Nifti(tmp_path / "b.nii.gz", (3, 4), Grid((1.0, 1.0)), None, TAGS)
    other.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_header_says_place_spacing_unit_and_what_was_computed(tmp_path: Path) -> None:
    values = np.zeros((5, 6, 7), np.float32)
    found = written(tmp_path / "a.nii.gz", values, grid=MILLIMETRES, place=PLACE)
    np.testing.assert_allclose(found.affine, PLACE.affine)
    np.testing.assert_allclose(found.get_qform(), PLACE.affine, atol=1e-6)
    assert found.header["qform_code"] == found.header["sform_code"] == 4
    assert found.header.get_zooms() == (2, 3, 4)
    assert found.header.get_xyzt_units()[0] == "mm"
    assert found.header["descrip"] == b"log(sigma=2)"
    (comment,) = found.header.extensions
    assert json.loads(comment.get_content()) == TAGS
    with gzip.open(tmp_path / "a.nii.gz") as file:
        file.read(1)
        assert file.mtime == 0


@pytest.mark.parametrize(
    ("unit", "word"), [("m", "meter"), ("um", "micron"), ("degree", "unknown"), (None, "unknown")]
)
def test_an_image_without_a_place_has_a_spacing_only(
    tmp_path: Path, unit: str | None, word: str
) -> None:
    found = written(tmp_path / "a.nii.gz", np.zeros((6, 7)), grid=Grid((0.5, 0.25), unit))
    assert found.header["qform_code"] == found.header["sform_code"] == 0
    assert found.header.get_zooms() == (0.25, 0.5)
    assert found.header.get_xyzt_units()[0] == word


def test_our_own_reader_reads_it(tmp_path: Path) -> None:
    values = RNG.normal(size=(5, 6, 7)).astype(np.float32)
    path = tmp_path / "a.nii.gz"
    written(path, values, grid=MILLIMETRES, place=PLACE)
    reader = READERS["nifti"]()
    (info,) = reader.probe(str(path))
    assert (info.shape, info.dtype, info.grid) == ((5, 6, 7), "float32", MILLIMETRES)
    assert placement_of(info) == PLACE
    with reader.open(str(path), 0) as window:
        np.testing.assert_array_equal(window.read(Region.whole(info.shape))[0], values)


def test_an_image_too_long_for_nifti_1_is_nifti_2(tmp_path: Path) -> None:
    values = np.arange(40_000, dtype=np.float32).reshape(1, -1)
    found = written(tmp_path / "a.nii.gz", values, grid=Grid((1.0, 1.0)))
    assert found.header["sizeof_hdr"] == 540
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, values)


def test_names_and_sizes(tmp_path: Path) -> None:
    assert nifti.name_of("a/b.nii", "1", "log_sigma_2") == "nifti/a/b.nii/1/log_sigma_2.nii.gz"
    noise = RNG.integers(0, 2**32, (64, 64), dtype=np.uint32).view(np.float32)
    written(tmp_path / "a.nii.gz", noise)
    size = (tmp_path / "a.nii.gz").stat().st_size
    assert noise.nbytes < size <= nifti.bytes_kept(noise.shape)


# ---------------------------------------------------------------- where the image lies
def sources(path: Path, folder: Path, **keys: Any) -> list[Source]:
    config = write_config(folder / "c.yaml", input={"path": str(path), **keys})
    return list(look(config, folder / "out").sources)


@pytest.mark.parametrize(
    "name",
    ["dcmqa_ax_asc_36sl_9.nii", "dcmqa_cor_asc_35sl_16.nii", "ibsi_STS_002_CT_image.nii.gz"],
)
def test_maps_of_nifti_files_lie_where_these_do(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / "data" / "mri_nifti" / name
    (source, *_) = sources(path, tmp_path)
    info = source.header
    voxels = np.zeros(info.shape, np.float32)
    place = placement_of(info)
    found = written(tmp_path / "a.nii.gz", voxels, grid=info.grid, place=place)
    given = nibabel.load(path)
    np.testing.assert_array_equal(found.affine, given.affine)
    np.testing.assert_allclose(found.header.get_zooms(), given.header.get_zooms()[:3], rtol=1e-6)


def test_maps_of_a_dicom_series_lie_where_its_nifti_file_does(shared: Path, tmp_path: Path) -> None:
    (source,) = sources(shared / "data/ct_dicom_series/ibsi_STS_002_CT", tmp_path)
    info = source.header
    voxels = np.zeros(info.shape, np.float32)
    place = placement_of(info)
    found = written(tmp_path / "a.nii.gz", voxels, grid=info.grid, place=place)
    given = nibabel.load(shared / "data/mri_nifti/ibsi_STS_002_CT_image.nii.gz")
    assert found.shape == given.shape
    for corner in np.ndindex(2, 2, 2):
        voxel = np.append(np.multiply(corner, np.subtract(given.shape, 1)), 1)
        np.testing.assert_allclose(found.affine @ voxel, given.affine @ voxel, atol=MICROMETRE)
    np.testing.assert_allclose(found.get_qform(), found.affine, atol=MICROMETRE)


def test_a_slice_lies_where_the_volume_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    image = nibabel.Nifti1Image(np.zeros((7, 6, 5), np.int16), PLACE.affine)
    image.to_filename(folder / "a.nii")
    second = sources(folder, tmp_path, pages="sources")[1]
    assert second.header.shape == (6, 7)
    place = placement_of(second.header)
    found = written(tmp_path / "a.nii.gz", np.zeros((6, 7), np.float32), place=place)
    np.testing.assert_allclose(found.affine @ (3, 2, 0, 1), PLACE.affine @ (3, 2, 1, 1))

"""Images of several files: one band in each, classes over them, values as a table says."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import slices
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from pipeline.config.inputs import Masks, Quality
from pipeline.config.schema import Input, Limits
from pipeline.config.table import read_table
from pipeline.discover import list_members
from pipeline.errors import ReadError
from pipeline.headers import open_all
from pipeline.readers.joined import read_joined
from pipeline.readers.masks import read_masks
from pipeline.readers.quality import nesting, qa_valid
from pipeline.readers.scaling import scaled
from pipeline.types import Georeference, Grid, ImageInfo, Member, Region, Scaling, Source

UTM = "EPSG:32631"
PLACE = Affine(10, 0, 5e5, 0, -10, 5e6)
DEEP = np.random.default_rng(4).integers(1, 4000, (3, 40, 50)).astype(np.uint16)
SPLIT = "{day}_{band}.tif"


def write(path: Path, plane: np.ndarray, **options: Any) -> Path:
    """A GeoTIFF of one band, 10 m pixels, in blocks of 16."""
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = plane if plane.ndim == 3 else plane[None]
    bands, height, width = planes.shape
    layout = {"count": bands, "height": height, "width": width, "dtype": planes.dtype}
    place = {"crs": UTM, "transform": PLACE, "tiled": True, "blockxsize": 16, "blockysize": 16}
    with rasterio.open(path, "w", **{"driver": "GTiff", **layout, **place, **options}) as file:
        file.write(planes)
    return path


def bands(folder: Path, **options: Any) -> Path:
    for name, plane in zip(("B2", "B10", "B1"), DEEP, strict=True):
        write(folder / f"1_{name}.tif", plane, **options)
    return folder


def opened(folder: Path, limits: Limits | None = None, **keys: Any) -> list[Source]:
    config = Input(**{"path": (str(folder),), "include": (SPLIT,), "join": "band", **keys})
    listing = list_members(config, now=time.time())
    units = open_all(listing.sources, config, limits or Limits())
    return [source for unit in units for source in unit]


def failure(source: Source) -> str:
    assert source.failure is not None
    return f"{source.failure.kind}: {source.failure.error}"


# ---------------------------------------------------------------- bands
@pytest.mark.parametrize(
    ("chosen", "order", "planes"),
    [("all", ("B1", "B2", "B10"), [2, 0, 1]), (("B10", "B1"), ("B10", "B1"), [1, 2])],
)
def test_files_with_a_band_each_are_the_image_that_one_file_of_them_is(
    tmp_path: Path, chosen: Any, order: tuple[str, ...], planes: list[int]
) -> None:
    (source,) = opened(bands(tmp_path), bands=chosen)
    (whole,) = opened(write(tmp_path / "one/1_a.tif", DEEP[planes]).parent, join=None)
    assert source.key == "1_{band}.tif"
    assert source.header == replace(whole.header, bands=order)
    assert (source.reader, source.layout, source.failure) == ("raster", "joined", None)
    for region in (Region((0, 0), (40, 50)), Region((3, 17), (20, 33))):
        pixels, valid = read_joined(source, region)
        np.testing.assert_array_equal(pixels, DEEP[planes][:, *region.slices()])
        assert valid is None


def test_a_window_decodes_the_blocks_it_touches(tmp_path: Path) -> None:
    """The last block of each file is damaged."""
    (source,) = opened(bands(tmp_path, compress="deflate"))
    for member in source.members:
        with Path(member.path).open("r+b") as file:
            file.seek(-40, 2)
            file.write(bytes(30))
    pixels, _ = read_joined(source, Region((0, 0), (16, 32)))
    np.testing.assert_array_equal(pixels, DEEP[[2, 0, 1], :16, :32])
    with pytest.raises(ReadError, match=r"1_B1\.tif: "):
        read_joined(source, Region((0, 0), (40, 50)))


def test_each_band_has_the_nodata_of_its_file(tmp_path: Path) -> None:
    value = int(DEEP[0, 5, 5])
    folder = bands(tmp_path)
    write(folder / "1_B2.tif", DEEP[0], nodata=value)
    (source,) = opened(folder)
    assert source.header.nodata is None
    _, valid = read_joined(source, Region((2, 2), (30, 30)))
    expected = np.ones((3, 28, 28), np.bool_)
    expected[1] = DEEP[0, 2:30, 2:30] != value
    np.testing.assert_array_equal(valid, expected)


def test_a_sentinel_2_product_is_one_image_with_its_classes(tmp_path: Path) -> None:
    inside = tmp_path / "S2A_T31.SAFE/GRANULE/L2A_T31_A1/IMG_DATA"
    lossless = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": 100, "tiled": False}
    lossless |= {"blockxsize": 64, "blockysize": 64}
    for band, plane in zip(("B02", "B04", "B08"), DEEP, strict=True):
        write(inside / f"R10m/T31_20261122_{band}_10m.jp2", plane, **lossless)
    write(inside / "R10m/T31_20261122_TCI_10m.jp2", DEEP.astype(np.uint8), **lossless)
    classes = np.arange(500, dtype=np.uint8).reshape(20, 25) % 12
    coarse = {**lossless, "transform": PLACE @ Affine.scale(2)}
    write(inside / "R20m/T31_20261122_SCL_20m.jp2", classes, **coarse)
    (source,) = opened(
        tmp_path,
        include=("{product}.SAFE/GRANULE/*/IMG_DATA/R10m/*_{day}_{band}_10m.jp2",),
        bands=("B04", "B08"),
        qa=Quality(path="{product}.SAFE/GRANULE/*/IMG_DATA/R20m/*_{day}_SCL_20m.jp2", invalid=(3,)),
    )
    assert (source.failure, source.header.bands) == (None, ("B04", "B08"))
    assert source.fields == (("product", "S2A_T31"), ("day", "20261122"))
    assert source.header.georeferenced
    region = Region((7, 9), (31, 40))
    np.testing.assert_array_equal(read_joined(source, region)[0], DEEP[1:, 7:31, 9:40])
    assert source.qa is not None
    clear = np.kron(classes, np.ones((2, 2), np.uint8))[7:31, 9:40] != 3
    np.testing.assert_array_equal(qa_valid(source.qa, source.header, region, (3,)), clear)


@pytest.mark.parametrize(
    ("plane", "options", "says"),
    [
        (DEEP[0, :, :-1], {}, r"1_B2\.tif does not fit 1_B1\.tif: another shape"),
        (DEEP[0].astype(np.int32), {}, r"another type \(int32 for uint16\)"),
        (DEEP[0], {"crs": "EPSG:32632"}, r"another place"),
        (DEEP[0], {"transform": PLACE @ Affine.translation(1, 0)}, r"another place"),
        (DEEP[0], {"transform": PLACE @ Affine.scale(2)}, r"another pixel size"),
        (DEEP[:2], {}, r"1_B2\.tif has 2 bands"),
        (DEEP[0], {"driver": "PNG"}, r"files of several formats \(png, raster\)"),
    ],
    ids=["shape", "type", "crs", "place", "size", "bands", "format"],
)
@pytest.mark.filterwarnings("ignore")
def test_files_that_do_not_fit_are_unsupported(
    tmp_path: Path, plane: np.ndarray, options: dict[str, Any], says: str
) -> None:
    folder = bands(tmp_path)
    if "driver" in options:
        options = {**options, "crs": None, "transform": None, "tiled": False}
    write(folder / "1_B2.tif", plane, **options)
    (source,) = opened(folder)
    assert re.search(f"^unsupported: .*{says}", failure(source))


def test_what_is_wrong_with_a_file_names_it(tmp_path: Path) -> None:
    folder = bands(tmp_path)
    (folder / "1_B2.tif").write_bytes(b"II*\0")
    (folder / "2_all.tif").write_bytes((folder / "1_B1.tif").read_bytes())
    first, second = opened(folder)
    assert failure(first).startswith("corrupt: 1_B2.tif: ")
    assert "a band called 'all'" in failure(second)
    (small,) = opened(bands(tmp_path / "b"), Limits(scene=40 * 50 * 3 - 1))
    assert failure(small).startswith("limit: 40 x 50 x 3 bands is over limits.scene")


# ---------------------------------------------------------------- classes
def layer(path: Path, classes: np.ndarray, factor: int, **options: Any) -> Member:
    place = {"transform": PLACE @ Affine.scale(factor), "tiled": False, **options}
    return Member(str(write(path, classes, **place)), path.name, 1, 1)


SCENE = ImageInfo(
    (40, 50), ("1",), "uint16", Grid((10, 10), "m"), geo=Georeference(UTM, tuple(PLACE[:6]))
)


@given(
    start=st.tuples(st.integers(0, 38), st.integers(0, 48)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 50)),
)
@pytest.mark.parametrize("factor", [1, 2, 5, 10])
def test_a_class_counts_for_all_pixels_below_it(
    tmp_path_factory: pytest.TempPathFactory,
    factor: int,
    start: tuple[int, int],
    size: tuple[int, int],
) -> None:
    shape = (40 // factor, 50 // factor)
    classes = np.random.default_rng(factor).integers(0, 12, shape).astype(np.uint8)
    path = tmp_path_factory.getbasetemp() / f"scl{factor}.tif"
    member = Member(str(path), path.name, 1, 1) if path.exists() else layer(path, classes, factor)
    region = Region(start, tuple(a + b for a, b in zip(start, size, strict=True))).clip((40, 50))
    below = np.kron(classes, np.ones((factor, factor), np.uint8))[region.slices()]
    found = qa_valid(member, SCENE, region, (0, 3, 8, 9))
    np.testing.assert_array_equal(found, ~np.isin(below, (0, 3, 8, 9)))


@pytest.mark.parametrize(
    ("shape", "options", "says"),
    [
        ((20, 20), {}, r"20 x 20 pixels do not nest in the image's 40 x 50"),
        ((16, 20), {}, r"16 x 20 pixels do not nest"),
        ((2, 20, 25), {}, r"has 2 bands; classes are one band"),
        ((20, 25), {"crs": "EPSG:32632"}, r"lies in EPSG:32632, the image in EPSG:32631"),
        ((20, 25), {"transform": PLACE}, r"lies elsewhere than the image"),
        ((20, 25), {"transform": PLACE @ Affine.translation(1, 0)}, r"lies elsewhere"),
    ],
)
def test_a_layer_that_does_not_lie_over_its_image_is_refused(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], says: str
) -> None:
    member = layer(tmp_path / "q_SCL.tif", np.ones(shape, np.uint8), 2, **options)
    with pytest.raises(ReadError, match=rf"qa layer q_SCL\.tif: .*{says}") as error:
        qa_valid(member, SCENE, Region((0, 0), (4, 4)), (0,))
    assert error.value.kind == "unsupported"


def test_a_layer_without_a_place_nests_by_its_shape() -> None:
    plain = ImageInfo((20, 10), ("1",), "uint8", Grid((1.0, 1.0)))
    assert nesting(SCENE, plain) == (2, 5)


def test_a_layer_is_checked_before_any_pixel_is_read(tmp_path: Path) -> None:
    folder = bands(tmp_path)
    layer(folder / "qa_scl.img.tif", np.ones((16, 20), np.uint8), 2)
    keys = {"include": ("{day}_B{band}.tif",), "qa": Quality(path="qa_*.tif", invalid=(0,))}
    (source,) = opened(folder, **keys)
    assert failure(source).startswith("unsupported: qa layer qa_scl.img.tif: 16 x 20 pixels do")


# ---------------------------------------------------------------- tables
def test_a_table_says_scale_and_spacing_of_its_image(tmp_path: Path) -> None:
    folder = bands(tmp_path, nodata=7)
    table = tmp_path / "t.csv"
    table.write_text("day,scale,offset,spacing,unit,note\n1,0.5,-1,0.2 0.1,um,x\n")
    (source,) = opened(folder, table=read_table(str(table)))
    assert source.header.grid == Grid((0.2, 0.1), "um")
    assert (source.header.dtype, source.header.nodata) == ("float64", None)
    assert source.scaling == Scaling(0.5, -1.0, 7)
    assert source.fields == (("day", "1"), ("note", "x"))
    assert source.given == (
        ("day", "1"), ("note", "x"), ("offset", "-1"), ("scale", "0.5"), ("spacing", "0.2 0.1"),
        ("unit", "um"), ("image", f"\0{source.key}"),
        *(("band", f"B{i}\0001_B{i}.tif") for i in (1, 2, 10)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "stored", "fits"),
    [
        ("3 0.5 0.5,", "mm", True),
        ("3 0.5 0.5,um", "unknown", True),
        (",um", "unknown", True),
        ("3 0.5 0.25,", "mm", False),
        (",um", "mm", False),
    ],
)
def test_a_table_says_no_other_grid_of_voxels_that_lie_somewhere(
    tmp_path: Path, cells: str, stored: str, fits: bool
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "a_roi"):
        image = nibabel.Nifti1Image(DEEP.T.astype(np.int16), np.diag([0.5, 0.5, 3, 1]))
        image.header.set_xyzt_units(stored)
        image.to_filename(tmp_path / f"in/{name}.nii")
    (tmp_path / "t.csv").write_text(f"who,spacing,unit\na,{cells}\n")
    keys: dict[str, Any] = {"include": ("{who}.nii",), "join": None}
    table, mask = read_table(str(tmp_path / "t.csv")), Masks(path="{who}_roi.nii")
    (source,) = opened(tmp_path / "in", **keys, table=table, mask=mask)
    if fits:
        assert source.header.grid.unit == ("mm" if stored == "mm" else "um")
        ((_, file),) = source.masks
        assert read_masks(file.path, source.header, Region((0, 0, 0), DEEP.shape))
    else:
        assert failure(source).startswith("unsupported: input.table says another spacing or unit")


def test_values_are_scaled_in_float64_and_nodata_is_as_stored() -> None:
    stored = np.array([[3, 7, 65535]], np.uint16)
    valid = np.array([[False, True, True]])
    values, mask = scaled(stored, valid, Scaling(1e-4, -0.1, nodata=7))
    assert values.dtype == np.float64
    assert values.tolist() == [[3 * 1e-4 - 0.1, 7 * 1e-4 - 0.1, 65535 * 1e-4 - 0.1]]
    assert mask is not None
    assert mask.tolist() == [[False, False, True]]
    assert scaled(stored, None, Scaling(2.0, 0.0))[1] is None


# ---------------------------------------------------------------- series and real folders
def test_a_series_has_one_mask_and_fails_as_one_without(tmp_path: Path) -> None:
    for who, z in product(("p1", "p2"), range(3)):
        slices.write(tmp_path / f"in/{who}/{z}.dcm", DEEP[z], **slices.place(float(z)))
    (tmp_path / "in/p1_roi.nii").touch()
    keys: dict[str, Any] = {"include": ("{who}/*.dcm",), "join": None}
    first, second = opened(tmp_path / "in", **keys, mask=Masks(path="./{who}_roi.nii"))
    assert (first.layout, first.fields, first.failure) == ("files", (("who", "p1"),), None)
    assert [m.name for m in first.files] == [*(f"p1/{z}.dcm" for z in range(3)), "p1_roi.nii"]
    assert (second.key.split("#")[0], len(second.members)) == ("p2", 3)
    assert failure(second) == (
        "incomplete: no mask: no file matches './{who}_roi.nii' with who='p2'"
    )


def test_real_bands_of_a_scene_are_what_rasterio_reads(shared: Path) -> None:
    colours = ("red", "green", "blue")
    (source,) = opened(shared / "data/satellite", include=("riotiler_{band}.tif",), bands=colours)
    assert (source.failure, source.header.bands) == (None, colours)
    region = Region((100, 17), (180, 200))
    pixels, valid = read_joined(source, region)
    for plane, member in zip(pixels, source.members, strict=True):
        with rasterio.open(member.path) as file:
            np.testing.assert_array_equal(plane, file.read(1)[region.slices()])
    assert valid is not None
    np.testing.assert_array_equal(valid, pixels != 0)


def test_real_volumes_have_their_masks(shared: Path) -> None:
    found = opened(
        shared / "data/mri_nifti",
        include=("ibsi_{case}_image.nii.gz",),
        join=None,
        mask=Masks(path="ibsi_{case}_mask.nii.gz"),
    )
    assert [source.failure for source in found] == [None] * 4
    pairs = {dict(source.fields)["case"]: source.masks[0][1].name for source in found}
    assert pairs == {case: f"ibsi_{case}_mask.nii.gz" for case in pairs}

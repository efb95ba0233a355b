"""Georeferenced rasters against rasterio and numpy by hand, and what they may not do."""

from __future__ import annotations

import builtins
import json
import os
import runpy
import socket
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rasterio.shutil
import tifffile
from rasterio import Affine
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds
from running import failures, look, run_bank, write_config

from pipeline.errors import ReadError
from pipeline.footprint import footprint
from pipeline.gdal import CACHE, DRIVERS, GdalError, session
from pipeline.readers import identify, why_no_image
from pipeline.readers.base import READERS
from pipeline.stages.boxes import read_box
from pipeline.types import Georeference, Grid, ImageInfo, Region

Array = npt.NDArray[Any]
RNG = np.random.default_rng(4)
UTM = "EPSG:32631"
PLACE = Affine(10, 0, 5e5, 0, -10, 5e6)
DEEP = RNG.integers(1, 2**16, (3, 40, 50), dtype=np.uint16)
ROUNDING = 1e-12
VRT = (
    '<VRTDataset rasterXSize="{0}" rasterYSize="{0}"><VRTRasterBand dataType="Byte" band="1">'
    "<SimpleSource><SourceFilename>{1}</SourceFilename></SimpleSource>"
    "</VRTRasterBand></VRTDataset>"
)
RECTANGLES = (
    '<SrcRect xOff="0" yOff="0" xSize="8" ySize="8"/>'
    '<DstRect xOff="0" yOff="0" xSize="{}" ySize="{}"/>'
)


def write(path: Path, pixels: Array, mask: Array | None = None, **options: Any) -> Path:
    """A raster of bands (C, H, W), and its mask, (H, W), inside it or beside it."""
    count, height, width = pixels.shape
    colours = options.pop("colours", None)
    names = options.pop("names", ())
    scaling = options.pop("scaling", None)
    inside = options.pop("inside", False)
    layout = {"driver": "GTiff", "count": count, "height": height, "width": width}
    place = {"crs": UTM, "transform": PLACE, "dtype": pixels.dtype}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside),
        rasterio.open(path, "w", **{**layout, **place, **options}) as file,
    ):
        if colours:
            file.colorinterp = colours
        file.write(pixels)
        for index, name in enumerate(names, 1):
            file.set_band_description(index, name)
        if scaling:
            file.scales, file.offsets = scaling
        if mask is not None:
            file.write_mask(mask)
    return path


def probe(path: Path) -> ImageInfo:
    (info,) = READERS["raster"]().probe(str(path))
    return info


def read(path: Path, region: Region | None = None) -> tuple[ImageInfo, Array, Array | None]:
    with READERS["raster"]().open(str(path), 0) as window:
        region = region or Region.whole(window.info.shape)
        assert window.info == probe(path)
        return window.info, window.read(region), window.valid(region)


# ---------------------------------------------------------------- which files
def test_the_header_decides_who_reads_a_tiff(tmp_path: Path) -> None:
    plain, tiled, nodata = (tmp_path / f"{name}.tif" for name in ("plain", "tiled", "nodata"))
    tifffile.imwrite(plain, DEEP[0])
    tifffile.imwrite(tiled, DEEP[0], tile=(16, 16), bigtiff=True)
    tifffile.imwrite(nodata, DEEP[0], extratags=[(42113, "s", 0, "7", True)])
    assert [identify(str(p)) for p in (plain, tiled, nodata)] == ["tiff"] * 3
    assert identify(str(write(tmp_path / "a.tif", DEEP))) == "raster"
    assert identify(str(write(tmp_path / "b.tif", DEEP, BIGTIFF="YES"))) == "raster"
    scaled = {"crs": None, "transform": None, "scaling": ((2,) * 3, (1,) * 3)}
    assert identify(str(write(tmp_path / "c.tif", DEEP, **scaled))) == "raster"
    write(Path(f"{plain}.msk"), DEEP[:1])
    assert identify(str(plain)) == "raster"


def test_what_lies_beside_a_raster_is_no_image_and_vrt_and_jp2_have_to_be_named(
    tmp_path: Path,
) -> None:
    scene = write(tmp_path / "a.tif", DEEP)
    for name in ("a.tif.msk", "a.tif.ovr", "b.jp2", "c.VRT"):
        (tmp_path / name).write_bytes(scene.read_bytes())
        assert why_no_image(str(tmp_path / name))
    assert why_no_image(str(scene)) is None
    write(tmp_path / "d.msk", DEEP)
    assert why_no_image(str(tmp_path / "d.msk")) is None  # beside nothing


def test_pages_of_a_scene_are_images(tmp_path: Path) -> None:
    place = [(33550, "d", 3, (10, 10, 0)), (33922, "d", 6, (0, 0, 0, 5e5, 5e6, 0))]
    tifffile.imwrite(tmp_path / "a.tif", DEEP, photometric="minisblack", extratags=place)
    sources = look(write_config(tmp_path / "c.yaml"), tmp_path / "out", tmp_path / "a.tif").sources
    assert [s.key for s in sources] == [f"a.tif#page={page}" for page in (1, 2, 3)]
    for page, source in enumerate(sources):
        pixels, _ = read_box(source, Region((3, 4), (20, 30)))
        np.testing.assert_array_equal(pixels[0], DEEP[page, 3:20, 4:30])


def test_overviews_and_masks_are_no_pages(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", DEEP, DEEP[0] > 99, inside=True)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    info, values, _ = read(path)
    assert info.shape == (40, 50)
    np.testing.assert_array_equal(values, DEEP)
    np.testing.assert_array_equal(read(path, Region((8, 8), (16, 24)))[1], DEEP[:, 8:16, 8:24])


@pytest.mark.parametrize(("name", "driver"), [("a.tif", "GTiff"), ("a.jp2", "JP2OpenJPEG")])
def test_nothing_else_beside_a_file_is_read(tmp_path: Path, name: str, driver: str) -> None:
    """rasterio by itself believes them all."""
    path = write(tmp_path / name, DEEP, driver=driver, crs=None, transform=None)
    before, values, _ = read(path)
    assert (before.geo, before.grid) == (None, Grid((1.0, 1.0)))
    for world in ("a.wld", "a.tfw", "a.j2w"):
        (tmp_path / world).write_text("7\n0\n0\n-7\n1\n1\n")
    (tmp_path / f"{name}.ovr").write_bytes(b"II*\0")
    aux = '<PAMDataset><SRS>EPSG:32632</SRS><PAMRasterBand band="1"><NoDataValue>9</NoDataValue>'
    (tmp_path / f"{name}.aux.xml").write_text(f"{aux}</PAMRasterBand></PAMDataset>")
    with rasterio.open(path) as file:
        assert (file.crs, file.nodata, file.transform.a) == ("EPSG:32632", 9, 7)
    info, again, mask = read(path)
    assert (info, mask) == (before, None)
    np.testing.assert_array_equal(again, values)


# ---------------------------------------------------------------- header
def test_spacing_is_in_metres_or_degrees(tmp_path: Path) -> None:
    turned = Affine.translation(5e5, 5e6) @ Affine.rotation(30) @ Affine.scale(3, -2)
    feet = Affine(10, 0, 2e6, 0, -20, 7e5)
    degrees = Affine(0.25, 0, 2, 0, -0.5, 48)
    found = {
        name: probe(write(tmp_path / f"{name}.tif", DEEP, crs=crs, transform=transform)).grid
        for name, crs, transform in (
            ("metres", UTM, PLACE),
            ("turned", UTM, turned),
            ("feet", "EPSG:2263", feet),  # New York, US survey feet of 1200/3937 m
            ("degrees", "EPSG:4326", degrees),
            ("nowhere", None, PLACE),
        )
    }
    foot = 1200 / 3937
    assert found["metres"] == Grid((10.0, 10.0), "m")
    assert found["turned"] == Grid((2.0, 3.0), "m")
    assert found["feet"].spacing == pytest.approx((20 * foot, 10 * foot), rel=1e-9)
    assert found["feet"].unit == "m"
    assert found["degrees"] == Grid((0.5, 0.25), "degree")
    assert found["nowhere"] == Grid((10.0, 10.0), "unknown")


def test_the_place_stays_in_the_header(tmp_path: Path) -> None:
    assert probe(write(tmp_path / "a.tif", DEEP)).geo == Georeference(UTM, tuple(PLACE[:6]))
    local = 'LOCAL_CS["mine",UNIT["metre",1]]'
    geo = probe(write(tmp_path / "b.tif", DEEP, crs=local)).geo
    assert isinstance(geo, Georeference)
    assert geo.crs is not None
    assert rasterio.crs.CRS.from_wkt(geo.crs) == rasterio.crs.CRS.from_wkt(local)


def test_bands_have_the_names_of_the_file(tmp_path: Path) -> None:
    grays = [ColorInterp.gray] * 3

    def labels(*names: str, colours: Any = grays) -> tuple[str, ...]:
        return probe(write(tmp_path / "x.tif", DEEP, names=names, colours=colours)).bands

    assert labels() == ("1", "2", "3")
    assert labels("B02", "B03", "B08") == ("B02", "B03", "B08")
    assert labels(colours=[ColorInterp.red, ColorInterp.green, ColorInterp.nir]) == (
        *("red", "green"),
        "nir",
    )
    assert labels("nir", colours=[ColorInterp.red, *grays[:2]]) == ("nir", "2", "3")
    assert labels("a", "a", "b") == ("1", "2", "b")
    assert labels("2", "all", "tab\tbed") == ("1", "2", "3")


def test_the_fourth_byte_is_alpha_unless_it_has_another_name(tmp_path: Path) -> None:
    bytes_ = RNG.integers(0, 2, (4, 20, 30), dtype=np.uint8)
    info, values, mask = read(write(tmp_path / "a.tif", bytes_))
    assert info.bands == ("red", "green", "blue")
    np.testing.assert_array_equal(values, bytes_[:3])
    assert mask is not None
    np.testing.assert_array_equal(mask[1], bytes_[3] != 0)
    info, values, mask = read(write(tmp_path / "b.tif", bytes_, names=["", "", "", "nir"]))
    assert (info.bands, mask) == (("red", "green", "blue", "nir"), None)
    np.testing.assert_array_equal(values, bytes_)


def test_scale_and_offset_make_values_and_nodata_is_as_stored(tmp_path: Path) -> None:
    pixels = DEEP.copy()
    pixels[1, :5] = 9
    scaling = ((2.0, 0.5, 1.0), (0.0, -4.0, 9.0))
    info, values, mask = read(write(tmp_path / "a.tif", pixels, scaling=scaling, nodata=9))
    slope, intercept = np.array(scaling)[:, :, None, None]
    assert (info.dtype, info.nodata) == ("float64", None)
    np.testing.assert_array_equal(values, pixels * slope + intercept)
    np.testing.assert_array_equal(mask, pixels != 9)


def test_a_scale_of_nothing_and_complex_numbers_are_unsupported(tmp_path: Path) -> None:
    scaled = write(tmp_path / "a.tif", DEEP, scaling=((1, 0, 1), (0, 0, 0)))
    waves = write(tmp_path / "b.tif", DEEP.astype(np.complex64))
    short = write(tmp_path / "c.tif", DEEP.astype(np.complex64), dtype="complex_int16")
    for path, words in ((scaled, "scale 0"), (waves, "complex64"), (short, "complex_int16")):
        with pytest.raises(ReadError, match=words) as caught:
            probe(path)
        assert caught.value.kind == "unsupported"


# ---------------------------------------------------------------- validity
def test_nodata_is_told_band_by_band(tmp_path: Path) -> None:
    pixels = DEEP.copy()
    pixels[0, 3], pixels[2, :, 7] = 0, 0
    info, _, mask = read(write(tmp_path / "a.tif", pixels, nodata=0))
    assert info.nodata == 0
    np.testing.assert_array_equal(mask, pixels != 0)
    part = Region((2, 5), (6, 9))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", part)[2], (pixels != 0)[:, 2:6, 5:9])


def test_a_nodata_value_that_no_sample_can_have_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    place = [(33550, "d", 3, (10, 10, 0)), (33922, "d", 6, (0, 0, 0, 5e5, 5e6, 0))]
    tifffile.imwrite(path, DEEP[0], extratags=[*place, (42113, "s", 0, "-9999", True)])
    info, _, mask = read(path)
    assert (identify(str(path)), info.nodata, mask) == ("raster", None, None)


@pytest.fixture(scope="module")
def five_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One scene that says in five files what is valid; what lies below is of no account."""
    folder = tmp_path_factory.mktemp("ways")
    pixels = RNG.normal(1000, 50, (1, 60, 70)).astype(np.float32)
    inside = RNG.random((60, 70)) > 0.1
    inside[20:35, 30:50] = False

    def with_holes(value: float) -> Array:
        return np.where(inside, pixels, np.float32(value))

    seen = np.concatenate([with_holes(5e4), inside[None].astype(np.float32)])
    gray = [ColorInterp.gray, ColorInterp.alpha]
    write(folder / "value.tif", with_holes(-9999), nodata=-9999)
    write(folder / "nan.tif", with_holes(np.nan))
    write(folder / "alpha.tif", seen, colours=gray)
    write(folder / "beside.tif", with_holes(77), inside)
    write(folder / "within.tif", with_holes(-3e30), inside, inside=True)
    assert (folder / "beside.tif.msk").exists()
    np.save(folder / "inside.npy", inside)
    return folder


def test_the_ways_to_say_nodata_agree(five_ways: Path, tmp_path: Path) -> None:
    filters = ["identity", {"log": {"sigma": 1}}, {"mean": {"size": 5}}]
    config = write_config(
        tmp_path / "c.yaml",
        filters=filters,
        statistics=["mean", "std", "min", "max"],
        input={"path": str(five_ways), "include": ["*.tif"]},
    )
    output = run_bank(config, tmp_path / "out")
    assert failures(output) == {}
    rows = output.statistics.to_pylist()
    inside = np.load(five_ways / "inside.npy")
    for name in ("identity", "log(sigma=1)", "mean(size=5)"):
        alike = [row for row in rows if row["filter"] == name]
        assert [row.pop("image") for row in alike] == [
            f"{way}.tif" for way in ("alpha", "beside", "nan", "value", "within")
        ]
        assert all(row == alike[0] for row in alike)
        assert (alike[0]["n_valid"] == inside.sum()) == (name == "identity")


def test_a_changed_mask_or_source_changes_the_image(tmp_path: Path) -> None:
    scene = write(tmp_path / "a.tif", DEEP, DEEP[0] > 99)
    (tmp_path / "x.vrt").write_text(VRT.format(8, write(tmp_path / "b.tif", DEEP)))
    config = write_config(tmp_path / "c.yaml", statistics=["mean"])
    files = [scene, tmp_path / "x.vrt"]
    counted = run_bank(config, tmp_path / "out", files).statistics.column("n_valid").to_pylist()
    assert look(config, tmp_path / "out", files).shards == ()
    write(tmp_path / "a.tif.msk", np.zeros((1, 40, 50), np.uint8))
    (again,) = look(config, tmp_path / "out", files).sources
    assert again.key == "a.tif"
    after = run_bank(config, tmp_path / "out", files).statistics.column("n_valid").to_pylist()
    assert sum(after) < sum(counted)
    write(tmp_path / "b.tif", DEEP[:, ::-1])
    assert [source.key for source in look(config, tmp_path / "out", files).sources] == ["x.vrt"]


def test_a_mask_or_source_of_equal_size_and_an_older_time_changes_the_image(tmp_path: Path) -> None:
    """As `cp -p` and `rsync -a` leave it."""
    scene, mask = write(tmp_path / "a.tif", DEEP), tmp_path / "a.tif.msk"
    write(mask, np.full((1, 40, 50), 255, np.uint8))
    (tmp_path / "x.vrt").write_text(VRT.format(8, write(tmp_path / "b.tif", DEEP)))
    config = write_config(tmp_path / "c.yaml", statistics=["mean"])
    files = [scene, tmp_path / "x.vrt"]
    output = run_bank(config, tmp_path / "out", files)
    before = output.statistics.column("n_valid").to_pylist()
    assert all(number < 0 for number in output.images.column("mtime_ns").to_pylist())
    size = mask.stat().st_size
    write(mask, np.zeros((1, 40, 50), np.uint8))
    assert mask.stat().st_size == size
    os.utime(mask, ns=(7, 7))
    assert [source.key for source in look(config, tmp_path / "out", files).sources] == ["a.tif"]
    after = run_bank(config, tmp_path / "out", files)
    assert sum(after.statistics.column("n_valid").to_pylist()) < sum(before)
    assert look(config, tmp_path / "out", files).nothing_to_do
    write(tmp_path / "b.tif", DEEP[:, ::-1])
    os.utime(tmp_path / "b.tif", ns=(7, 7))
    assert [source.key for source in look(config, tmp_path / "out", files).sources] == ["x.vrt"]


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", DEEP)
    write(Path(f"{path}.msk"), DEEP[:1, :9])
    with pytest.raises(ReadError, match="mask of 1 x 9 x 50") as caught:
        read(path)
    assert caught.value.kind == "unsupported"


def test_blocks_that_a_sparse_file_leaves_out_are_invalid(tmp_path: Path) -> None:
    pixels = np.zeros((2, 64, 48), np.uint8)
    pixels[1, 16:32, :16] = 5
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "SPARSE_OK": "TRUE"}
    path = write(tmp_path / "a.tif", pixels, interleave="band", **tiles)
    np.testing.assert_array_equal(read(path)[2], pixels != 0)
    part = Region((10, 3), (30, 40))
    np.testing.assert_array_equal(read(path, part)[2], (pixels != 0)[:, 10:30, 3:40])


def test_a_constant_scene_with_holes_has_no_edges(tmp_path: Path) -> None:
    """No response to a constant, within 1e-6 of it, up to the border and to every hole."""
    pixels = np.full((1, 64, 80), 30_000, np.uint16)
    pixels[0][RNG.random((64, 80)) < 0.05] = 0
    pixels[0, 20:30, 40:60] = 0
    write(tmp_path / "a.tif", pixels, nodata=0)
    names = ["sobel", "laplacian", {"log": {"sigma": 2, "zero_sum": True}}, {"dog": {"sigma": 2}}]
    names += [{"laws": {"kernels": ["L5E5"]}}, {"gabor": {"wavelength": 6, "orientations": 2}}]
    config = write_config(
        tmp_path / "c.yaml", filters=names, output={"path": "o", "maps": "float32"}
    )
    output = run_bank(config, tmp_path / "out", tmp_path / "a.tif")
    responses = output.filters.column("filter").to_pylist()
    assert len(responses) >= len(names)
    for name in responses:
        found = output.maps("a.tif", name)
        assert np.isfinite(found).any()
        if name.startswith("gabor"):  # its taps have a sum, which is no edge
            found = found - np.nanmedian(found)
        assert np.nanmax(np.abs(found)) <= 1e-6 * 30_000, name


# ---------------------------------------------------------------- through a run
def test_beyond_a_scene_is_nothing_unless_the_config_says_so(tmp_path: Path) -> None:
    """A picture of the same pixels in the same folder goes on mirrored."""
    pixels = DEEP[:1]
    write(tmp_path / "in.tif", pixels)
    tifffile.imwrite(tmp_path / "on.tif", pixels[0])
    both = [tmp_path / "in.tif", tmp_path / "on.tif"]

    def counts(boundary: str) -> list[int]:
        config = write_config(tmp_path / "c.yaml", filters=["sobel"], boundary=boundary)
        output = run_bank(config, tmp_path / f"out_{boundary}", both)
        return list(output.statistics.sort_by("image").column("n_valid").to_pylist())

    whole = pixels.size
    assert counts("reflect") == [whole, whole]
    nowhere, _ = counts("nodata")
    assert nowhere < whole
    assert counts("auto") == [nowhere, whole]
    rows = run_bank(tmp_path / "c.yaml", tmp_path / "out_auto", both).filters
    assert rows.column("boundary").to_pylist() == ["auto"]


def test_the_tables_say_where_a_scene_lies(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", DEEP)
    tifffile.imwrite(tmp_path / "b.tif", DEEP[0])
    output = run_bank(
        write_config(tmp_path / "c.yaml", statistics=["mean"]),
        tmp_path / "out",
        [tmp_path / "a.tif", tmp_path / "b.tif"],
    )
    scene, picture = output.images.sort_by("image").to_pylist()
    assert (scene["crs"], tuple(scene["transform"])) == (UTM, tuple(PLACE[:6]))
    assert (scene["reader"], scene["spacing"]) == ("raster", [10.0, 10.0])
    assert (picture["reader"], picture["crs"], picture["transform"]) == ("tiff", None, None)
    first, second = output.table("regions").sort_by("image").to_pylist()
    assert first["geometry"] == footprint(probe(tmp_path / "a.tif").geo, Region.whole((40, 50)))
    assert (first["size"], second["geometry"]) == (40 * 50 * 100.0, None)


def ring(data: bytes) -> Array:
    order, kind, rings, count = struct.unpack_from("<BIII", data)
    assert (order, kind, rings) == (1, 3, 1)
    return np.frombuffer(data, "<f8", offset=13).reshape(count, 2)


def test_a_footprint_is_a_polygon_of_longitudes_and_latitudes() -> None:
    place, region = Georeference(UTM, tuple(PLACE[:6])), Region((0, 0), (3000, 4000))
    data = footprint(place, region)
    assert data is not None
    points = ring(data)
    bounds = (5e5, 5e6 - 30_000, 5e5 + 40_000, 5e6)
    expected = transform_bounds(UTM, "OGC:CRS84", *bounds, densify_pts=7)
    assert (*points.min(0), *points.max(0)) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(points[0], points[-1])
    x, y = points.T
    assert (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0
    wraps = Georeference("EPSG:4326", (1.0, 0, 175.0, 0, -1.0, 10.0))
    assert footprint(wraps, Region((0, 0), (5, 4))) is not None
    pacific = Georeference("EPSG:32660", (10_000.0, 0, 7e5, 0, -10_000.0, 5e6))
    assert footprint(pacific, Region((0, 0), (50, 50))) is None
    assert footprint(Georeference(None, tuple(PLACE[:6])), region) is None
    pole = Georeference("EPSG:3413", (25_000.0, 0, -3_850_000.0, 0, -25_000.0, 4_500_000.0))
    assert footprint(pole, Region((0, 0), (334, 308))) is None  # wraps on its closing side


@pytest.mark.parametrize("mode", ["mixed", "mirror"])
def test_statistics_of_a_scene_are_those_of_its_maker(
    shared: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """gen_large_scene.py counts in whole numbers what it writes."""
    maker = runpy.run_path(str(shared / "data/gen_large_scene.py"))
    chip = shared / "data/large_scene/riotiler_mosaic_cog1.tif"
    options = ["--size", "700x500", "--bands", "4", "--cell", "256", "--block", "128"]
    scene = tmp_path / "scene.tif"
    with warnings.catch_warnings(action="ignore"):
        maker["main"]([str(scene), *options, "--mode", mode, "--chip", str(chip), "--overviews"])
    capsys.readouterr()
    config = write_config(tmp_path / "c.yaml", statistics=["min", "max", "mean", "std"])
    rows = run_bank(config, tmp_path / "out", scene).statistics.sort_by("band").to_pylist()
    told = json.loads(Path(f"{scene}.json").read_text())
    expected = sorted(zip(told["band_names"], told["stats"], strict=True), key=lambda pair: pair[0])
    assert [row["band"] for row in rows] == [name for name, _ in expected]
    for row, (_, known) in zip(rows, expected, strict=True):
        assert (row["n_valid"], row["min"], row["max"]) == (
            *(known["count"], known["min"]),
            known["max"],
        )
        assert row["mean"] == pytest.approx(known["mean"], rel=ROUNDING)
        assert row["std"] == pytest.approx(known["std"], rel=ROUNDING)


# ---------------------------------------------------------------- what GDAL may not do
@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.png"
    with warnings.catch_warnings(action="ignore"):
        profile = {"driver": "PNG", "count": 1, "height": 8, "width": 8, "dtype": "uint8"}
        with rasterio.open(path, "w", **profile) as file:
            file.write(np.full((1, 8, 8), 77, np.uint8))
    return path


def test_a_vrt_behind_another_name_is_damage(tmp_path: Path, secret: Path) -> None:
    for name in ("a.tif", "b.jp2", "c.geotiff"):
        (tmp_path / name).write_text(VRT.format(8, secret))
        reader = identify(str(tmp_path / name))
        assert reader is not None
        with pytest.raises(ReadError) as caught:
            READERS[reader]().probe(str(tmp_path / name))
        assert caught.value.kind in ("corrupt", "unsupported")
        assert str(tmp_path) not in str(caught.value)


def test_a_mask_beside_a_file_has_to_be_a_tiff(tmp_path: Path, secret: Path) -> None:
    path = write(tmp_path / "a.tif", DEEP)
    Path(f"{path}.msk").write_text(VRT.format(8, secret))
    with pytest.raises(ReadError):
        read(path)


def test_a_named_vrt_reads_tiff_and_nothing_else(tmp_path: Path, secret: Path) -> None:
    write(tmp_path / "a.tif", np.full((1, 8, 8), 5, np.uint8))
    vrt = tmp_path / "x.vrt"
    vrt.write_text(VRT.format(8, tmp_path / "a.tif"))
    assert (read(vrt)[1] == 5).all()
    vrt.write_text(VRT.format(8, secret))
    with pytest.raises(ReadError):
        read(vrt)
    nested = tmp_path / "nested.tif"
    nested.write_text(VRT.format(8, tmp_path / "a.tif"))
    disguised = tmp_path / "nested.j2k"
    disguised.write_bytes(b"\xff\x4f\xff\x51" + nested.read_bytes())
    plain = VRT.format(8, tmp_path / "a.tif")
    for text in (
        VRT.format(8, nested),
        VRT.format(8, disguised),
        VRT.format(8, plain.replace("<", "&lt;")),
        plain.replace('band="1"', 'band="1" subClass="VRTRawRasterBand"'),
        plain.replace('band="1"', 'band="1" subClass="VRTDerivedRasterBand"'),
        plain.replace("<VRTDataset", '<VRTDataset subClass="VRTWarpedDataset"'),
    ):
        assert text != plain
        vrt.write_text(text)
        with pytest.raises(ReadError) as caught:
            probe(vrt)
        assert caught.value.kind in ("unsupported", "incomplete")
        assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('band="1"', 'band="1" SUBCLASS="VRTRawRasterBand"'),
        ('band="1"', 'band="1" SUBCLASS="VRTDerivedRasterBand"'),
        ('band="1">', 'band="1"><subClass>VRTRawRasterBand</subClass>'),
        ("<SimpleSource>", '<SimpleSource SourceFilename="/etc/passwd">'),
        ("<SourceFilename>", '<SourceFilename RELATIVETOVRT="0">'),
        ("<SourceFilename>", "<sourcefilename>/etc/passwd</sourcefilename><SourceFilename>"),
        ("<SimpleSource>", "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename>"),
        ("<SimpleSource>", '<SimpleSource resampling="cubic">'),
        ("<SimpleSource>", "<SimpleSource><OpenOptions/>"),
        ("<SimpleSource>", "<SimpleSource><LUT>0:0,255:9</LUT>"),
        ("<SimpleSource>", "<SimpleSource><SourceBand>x</SourceBand>"),
        ("<SimpleSource>", "<SimpleSource>" + RECTANGLES.split("<Dst")[0]),
        ("</SourceFilename>", "</SourceFilename>" + RECTANGLES.format(8, 4)),
        ("</SourceFilename>", "</SourceFilename>" + RECTANGLES.format(8, 8.5)),
        ("<VRTDataset", '<VRTDataset xmlns="x"'),
        ("SimpleSource>", "KernelFilteredSource>"),
    ],
)
def test_what_is_not_known_of_a_vrt_is_refused(tmp_path: Path, old: str, new: str) -> None:
    """GDAL takes names in any case, and attributes for elements."""
    write(tmp_path / "a.tif", np.full((1, 8, 8), 5, np.uint8))
    plain = VRT.format(8, tmp_path / "a.tif")
    (tmp_path / "x.vrt").write_text(plain.replace(old, new))
    assert plain not in (tmp_path / "x.vrt").read_text()
    with pytest.raises(ReadError) as caught:
        probe(tmp_path / "x.vrt")
    assert caught.value.kind in ("unsupported", "incomplete")


@pytest.mark.parametrize("code", ["foo", "gbk", "utf-32", "idna"])
def test_a_vrt_that_cannot_be_parsed_fails_alone(tmp_path: Path, code: str) -> None:
    (tmp_path / "x.vrt").write_text(f'<?xml version="1.0" encoding="{code}"?><VRTDataset/>')
    done = run_bank(write_config(tmp_path / "c.yaml"), tmp_path / "out", [tmp_path / "x.vrt"])
    (why,) = failures(done).values()
    assert why.startswith(("corrupt: ", "unsupported: "))


def test_a_vrt_as_gdal_writes_it_is_read_with_its_mask(tmp_path: Path) -> None:
    """Beside it and elsewhere: the names of its files are relative."""
    named = {"names": ("B04", "B03", "B02"), "scaling": ((2.0,) * 3, (1.0,) * 3), "nodata": 7}
    write(tmp_path / "a.tif", DEEP, DEEP[0] > 9000, inside=True, **named)
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "x.vrt", driver="VRT")
    assert "<MaskBand>" in (tmp_path / "x.vrt").read_text()
    for region in (Region((0, 0), (40, 50)), Region((3, 5), (17, 40))):
        of_tiff, of_vrt = (read(tmp_path / name, region) for name in ("a.tif", "x.vrt"))
        assert of_tiff[0] == of_vrt[0]
        np.testing.assert_array_equal(of_tiff[1], of_vrt[1])
        np.testing.assert_array_equal(of_tiff[2], of_vrt[2])
    write(tmp_path / "a.tif.msk", np.ones((1, 40, 50), np.uint8))
    with pytest.raises(ReadError, match="masks beside"):
        probe(tmp_path / "x.vrt")


def test_a_vrt_places_its_files_pixel_to_pixel(tmp_path: Path) -> None:
    write(tmp_path / " b c.tif ", DEEP[:1, :8, :8].astype(np.uint8))
    moved = RECTANGLES.format(8, 8).replace('<DstRect xOff="0"', '<DstRect xOff="1.99999"')
    text = VRT.format(10, " b c.tif ").replace("</SourceFilename>", "</SourceFilename>" + moved)
    (tmp_path / "x.vrt").write_text(text.replace("Filename>", 'Filename relativeToVRT="1">', 1))
    values = read(tmp_path / "x.vrt")[1]
    np.testing.assert_array_equal(values[0, :8, 2:], DEEP[0, :8, :8].astype(np.uint8))
    assert not values[0, :, :2].any()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.mark.parametrize("how", ["/vsicurl/http://{}/a.tif", "http://{}/a.tif", "WMS:http://{}/"])
def test_a_vrt_reaches_no_network(tmp_path: Path, listener: socket.socket, how: str) -> None:
    vrt = tmp_path / "x.vrt"
    vrt.write_text(VRT.format(8, how.format(f"127.0.0.1:{listener.getsockname()[1]}")))
    with pytest.raises(ReadError):
        read(vrt)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_session_reaches_no_network(listener: socket.socket) -> None:
    remote = f"/vsicurl/http://127.0.0.1:{listener.getsockname()[1]}/a.tif"
    with pytest.raises(GdalError), session(), rasterio.Env(GDAL_HTTP_TIMEOUT=1):
        rasterio.open(remote, driver="GTiff")
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_no_name_means_more_than_a_file(tmp_path: Path) -> None:
    with pytest.raises(ReadError):
        READERS["raster"]().probe("/vsimem/a.tif")
    for name in (
        "a#b.tif",
        "a?b=1.tif",
        "a!b.tif",
        "GTIFF_DIR:1:x.tif",
        "zip+file:a.tif",
        "\n.tif",
    ):
        np.testing.assert_array_equal(
            read(write(tmp_path / "x", DEEP).rename(tmp_path / name))[1], DEEP
        )
    path = os.fsencode(tmp_path) + b"/\xff.tif"
    write(tmp_path / "x", DEEP).rename(os.fsdecode(path))
    with pytest.raises(ReadError, match="not UTF-8"):
        probe(Path(os.fsdecode(path)))


def test_drivers_and_cache_are_bounded_inside_and_given_back() -> None:
    with rasterio.Env() as env:
        before = env.drivers()
    with session(), rasterio.Env() as env:
        assert env.drivers().keys() == DRIVERS
        assert rasterio._env.get_gdal_config("GDAL_CACHEMAX") == CACHE
        with session():
            pass
        assert env.drivers().keys() == DRIVERS
    with rasterio.Env() as env:
        assert env.drivers() == before


def test_damage_is_a_failed_row_and_gdal_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A window beside the damage is read: only the blocks it touches are decoded."""
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    path = write(tmp_path / "a.tif", DEEP, **tiles)
    with tifffile.TiffFile(path) as tiff:
        last = tiff.pages.first.dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[last : last + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(read(path, Region((0, 0), (16, 16)))[1], DEEP[:, :16, :16])
    with pytest.raises(ReadError, match="damaged raster file") as caught:
        read(path)
    assert caught.value.kind == "corrupt"
    assert str(tmp_path) not in str(caught.value)
    write(tmp_path / "good.tif", DEEP)
    output = run_bank(write_config(tmp_path / "c.yaml"), tmp_path / "out", tmp_path)
    assert list(failures(output)) == ["a.tif"]
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_tile_that_ends_early_is_damage(tmp_path: Path) -> None:
    """libjpeg warns, and makes up the rest in gray."""
    smooth = np.linspace(0, 255, 3 * 64 * 64).reshape(3, 64, 64).astype(np.uint8)
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "jpeg"}
    path = write(tmp_path / "a.tif", smooth, **tiles, photometric="ycbcr")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        middle = page.dataoffsets[-1] + page.databytecounts[-1] * 3 // 4
    data = bytearray(path.read_bytes())
    data[middle : middle + 2] = b"\xff\xd9"
    path.write_bytes(bytes(data))
    assert read(path, Region((0, 0), (32, 32)))[1].shape == (3, 32, 32)
    with pytest.raises(ReadError, match="JPEG") as caught:
        read(path)
    assert caught.value.kind == "corrupt"


def test_without_rasterio_a_line_says_so_and_plain_tiff_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "scene.tif", DEEP)
    tifffile.imwrite(tmp_path / "plain.tif", DEEP[0])
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "rasterio":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", missing)
    config = write_config(tmp_path / "c.yaml")
    output = run_bank(config, tmp_path / "out", tmp_path)
    (text,) = failures(output).values()
    assert text.startswith("dependency: ")
    assert "filterbank[geo]" in text
    assert "\n" not in text

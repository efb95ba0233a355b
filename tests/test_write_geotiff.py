"""GeoTIFF maps read back by rasterio and tifffile: values, place, layout; the same bytes always."""

from __future__ import annotations

import builtins
import resource
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from rasterio.enums import ColorInterp

from pipeline.errors import MissingDependency
from pipeline.gdal import CACHE, DRIVERS, WRITERS, session, writing
from pipeline.readers.base import READERS
from pipeline.types import Georeference, Region
from pipeline.writers import geotiff

RNG = np.random.default_rng(2)
UTM = Georeference("EPSG:32631", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
TURNED = Georeference("EPSG:32631", (8.0, 6.0, 5e5, 6.0, -8.0, 5e6))
LABELS = ("red", "B8", "grün")
TAGS = {"filter": 'log(sigma=2) <&"=:', "digest": "1f8e20c4", "image": "a/b%23.tif"}
ROUNDING = 1e-6  # relative: GDAL adds up float32
TOO_LATE = 100  # bytes of a file's end that are written when GDAL closes it
SHAPE = (1100, 1300)
SCENE = RNG.normal(size=(3, *SHAPE)).astype(np.float32) * 100
SCENE[:, :1024, 1024:] = np.nan
SCENE[:, 200:301, 31:700] = np.nan
SCENE[1, 1050:, 900:] = np.nan


def parts(size: int = 1024, bands: int = 3) -> list[tuple[Region, int]]:
    """Regions on a grid anchored at the origin, for each band."""
    starts = [(y, x) for y in range(0, SHAPE[0], size) for x in range(0, SHAPE[1], size)]
    regions = [Region(start, start).grow(((0, size),) * 2).clip(SHAPE) for start in starts]
    return [(region, band) for region in regions for band in range(bands)]


def write(
    path: Path,
    order: list[tuple[Region, int]] | None = None,
    values: np.ndarray = SCENE,
    **given: Any,
) -> Path:
    labels = LABELS[: len(values)]
    place = given.pop("place", UTM)
    file = geotiff.GeoTiff(path, values.shape[1:], labels, place, TAGS, **given)
    for region, band in order or parts(bands=len(values)):
        part = values[band][region.slices()]
        if not np.isnan(part).all():
            file.put(region, band, part)
    file.close()
    return path


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Any]:
    with warnings.catch_warnings(action="ignore"), rasterio.open(path, **options) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("scene") / "a.tif")


# ---------------------------------------------------------------- what is in a file
def test_values_place_and_labels_come_back(scene: Path) -> None:
    with opened(scene) as dataset:
        np.testing.assert_array_equal(dataset.read(), SCENE)
        assert (dataset.crs.to_string(), tuple(dataset.transform[:6])) == (UTM.crs, UTM.transform)
        assert dataset.descriptions == LABELS
        assert np.isnan(dataset.nodata)
        assert {*dataset.colorinterp[1:]} == {ColorInterp.undefined}
        tags = dataset.tags()
    assert {name: tags.pop(f"FILTERBANK_{name.upper()}") for name in TAGS} == TAGS
    assert tags == {"AREA_OR_POINT": "Area"}


def test_our_own_reader_reads_it(scene: Path) -> None:
    reader = READERS["raster"]()
    (info,) = reader.probe(str(scene))
    assert (info.shape, info.bands, info.dtype, info.geo) == (SHAPE, LABELS, "float32", UTM)
    with reader.open(str(scene), 0) as window:
        region = Region((900, 600), SHAPE)
        np.testing.assert_array_equal(window.read(region), SCENE[:, 900:, 600:])


def test_it_is_cloud_optimized(scene: Path) -> None:
    """As GDAL's validate_cloud_optimized_geotiff asks: blocks; headers, then small before large."""
    head = scene.read_bytes()[:200]
    assert b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4" in head
    assert b"KNOWN_INCOMPATIBLE_EDITION=NO" in head
    with tifffile.TiffFile(scene) as tiff:
        pages = list(tiff.pages)
        firsts = [page.dataoffsets[0] for page in pages]
        assert [page.shape[:2] for page in pages] == [(1100, 1300), (550, 650), (275, 325)]
        assert [page.subfiletype for page in pages] == [0, 1, 1]
        assert {page.tile for page in pages} == {(512, 512)}
        assert {(page.compression, page.predictor) for page in pages} == {(8, 3)}
        assert [page.offset for page in pages] == sorted(page.offset for page in pages)
        assert firsts == sorted(firsts, reverse=True)
        assert max(page.offset for page in pages) < min(firsts)
        for page in pages:
            assert list(page.dataoffsets) == sorted(page.dataoffsets)


def test_an_overview_is_the_mean_of_the_valid_pixels_below_it(tmp_path: Path) -> None:
    values = RNG.normal(size=(1, 1024, 1536)).astype(np.float32) + 100
    values[RNG.random(values.shape) < 0.4] = np.nan
    values[:, :600, 30:400] = np.nan
    whole = [(Region.whole(values.shape[1:]), 0)]
    path = write(tmp_path / "a.tif", whole, values)
    below = values[0].astype(np.float64)
    for level in range(2):
        quads = below.reshape(below.shape[0] // 2, 2, below.shape[1] // 2, 2)
        count = (~np.isnan(quads)).sum(axis=(1, 3))
        want = np.where(count > 0, np.nansum(quads, axis=(1, 3)) / np.maximum(count, 1), np.nan)
        with opened(path, overview_level=level) as dataset:
            found = dataset.read(1)
        np.testing.assert_allclose(found, want, rtol=ROUNDING)
        below = found.astype(np.float64)
    assert found.shape == (256, 384)


def test_the_order_and_the_size_of_tiles_do_not_show(scene: Path, tmp_path: Path) -> None:
    want = scene.read_bytes()
    assert write(tmp_path / "b.tif", parts()[::-1]).read_bytes() == want
    odd = [(region, band) for region, band in parts(700)]
    assert write(tmp_path / "c.tif", odd).read_bytes() == want
    assert str(tmp_path).encode() not in want
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tif", "c.tif"]


@pytest.mark.parametrize("place", [None, Georeference(None, UTM.transform), TURNED])
def test_any_place_or_none_is_kept(tmp_path: Path, place: Georeference | None) -> None:
    path = write(tmp_path / "a.tif", [(Region((0, 0), (9, 8)), 0)], SCENE[:1, :9, :8], place=place)
    (info,) = READERS["raster"]().probe(str(path))
    assert info.geo == place


@pytest.mark.parametrize("name", ["a#b.tif", "a?b=1.tif", "a!b.tif", "zip+file:a.tif", "\n山.tif"])
def test_a_name_means_no_more_than_a_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [(Region((0, 0), (9, 8)), 0)], SCENE[:1, :9, :8])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_float16_is_rounded_to_the_nearest(tmp_path: Path) -> None:
    values = SCENE[:1, 400:440, 400:440] * np.float32(1000)
    whole = [(Region.whole(values.shape[1:]), 0)]
    path = write(tmp_path / "a.tif", whole, values, dtype="float16")
    with opened(path) as dataset, np.errstate(over="ignore"):
        np.testing.assert_array_equal(dataset.read(), values.astype(np.float16).astype(np.float32))
        assert np.isinf(dataset.read()).any()
        assert dataset.tags(1, ns="IMAGE_STRUCTURE")["NBITS"] == "16"


def test_sizes_are_upper_bounds(tmp_path: Path) -> None:
    for shape in ((700, 800), (3, 9000)):
        bits = RNG.integers(0, 2**31, (2, *shape), dtype=np.uint32) & np.uint32(0x3FFFFFFF)
        noise = bits.view(np.float32)
        order = [(Region.whole(shape), band) for band in range(2)]
        path = write(tmp_path / "a.tif", order, noise)
        size, most = path.stat().st_size, geotiff.bytes_kept(shape, 2)
        assert noise.nbytes < size <= most <= geotiff.bytes_needed(shape, [2])
    assert geotiff.name_of("a/b.tif", "log_sigma_2") == "geotiff/a/b.tif/log_sigma_2.tif"


# ---------------------------------------------------------------- what may go wrong
def test_what_is_discarded_is_gone_and_values_fit_their_region(tmp_path: Path) -> None:
    file = geotiff.GeoTiff(tmp_path / "a.tif", (9, 8), ["1"], UTM, TAGS)
    with pytest.raises(ValueError, match="for a region"):
        file.put(Region((0, 0), (9, 8)), 0, np.zeros((8, 9)))
    file.discard()
    assert list(tmp_path.iterdir()) == []


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("lacking", [10**6, 10**5, TOO_LATE, 1])
def test_a_disk_that_ends_before_the_file_does_is_an_error(tmp_path: Path, lacking: int) -> None:
    """Also where only the last bytes find no room, which rasterio does not notice."""
    values = RNG.normal(size=(1, 512, 1024)).astype(np.float32)
    whole = [(Region.whole(values.shape[1:]), 0)]
    size = write(tmp_path / "a.tif", whole, values).stat().st_size
    (tmp_path / "a.tif").unlink()
    with no_file_larger_than(size - lacking), pytest.raises(OSError, match=r"^a\.tif: ") as caught:
        write(tmp_path / "a.tif", whole, values)
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_writing_and_reading_wait_for_each_other() -> None:
    with rasterio.Env() as env:
        before = env.drivers()
    met: list[set[str]] = []
    with writing(), rasterio.Env() as env:
        assert env.drivers().keys() == WRITERS
        assert rasterio._env.get_gdal_config("GDAL_CACHEMAX") == CACHE
        other = threading.Thread(target=lambda: met.append(_drivers()))
        other.start()
        other.join(0.1)
        assert met == []
        with writing():
            pass
        assert env.drivers().keys() == WRITERS
    other.join()
    assert met == [DRIVERS]
    with rasterio.Env() as env:
        assert env.drivers() == before


def _drivers() -> set[str]:
    with session(), rasterio.Env() as env:
        return {*env.drivers()}


def test_without_rasterio_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        if name.partition(".")[0] == "rasterio":
            raise ImportError
        return real(name, *args)

    geotiff.require()
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingDependency, match="geo"):
        geotiff.require()

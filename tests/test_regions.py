"""Regions: what configs say, their parts in tiles, and their rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from rasterio import Affine
from rasterio.features import rasterize
from running import look, run_bank, write_config
from shapely import Polygon, box
from test_raster import write

import pipeline.plan
from pipeline.config import Config, expanded, load
from pipeline.errors import ConfigError, ReadError
from pipeline.footprint import footprint, moved
from pipeline.plan import Plan
from pipeline.stages.extents import RegionRows
from pipeline.stages.regions import in_zones, regions_in, squares
from pipeline.types import Georeference, Grid, ImageInfo, Member, Region, Roi, Source
from pipeline.zones import Zones

RNG = np.random.default_rng(3)
UTM = "EPSG:32631"
NUMBERS = ("mean", "p50", "max")
PLACE = Georeference(UTM, (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
SHAPE = (50, 60)
SCENE = ImageInfo(SHAPE, ("1",), "uint8", Grid((10.0, 10.0), "m"), geo=PLACE)
WHOLE = Region.whole(SHAPE)


def on_scene(row: float, column: float, height: float, width: float) -> Polygon:
    """A box in the scene's pixels, as coordinates."""
    x, y = 5e5 + 10 * column, 5e6 - 10 * row
    return box(x, y - 10 * height, x + 10 * width, y)


STAR = Polygon([(5e5 + 10 * c, 5e6 - 10 * r) for r, c in RNG.uniform(-9, 60, (9, 2))]).buffer(0)
FRAME = geopandas.GeoDataFrame(
    {"name": ["field", "star", "dot", "far", "edge"]},
    geometry=[
        on_scene(4.2, 7.1, 20, 30),
        STAR,
        on_scene(30.6, 40.6, 0.3, 0.3),
        on_scene(500, 500, 5, 5),
        on_scene(45.2, 55.2, 30, 30),
    ],
    crs=UTM,
)


def zone_file(folder: Path, crs: Any = UTM, frame: geopandas.GeoDataFrame = FRAME) -> Path:
    path = folder / "zones.gpkg"
    frame.to_crs(crs).to_file(path)
    return path


def loaded(folder: Path, **sections: Any) -> Config:
    return load(write_config(folder / "c.yaml", **sections))


def source(info: ImageInfo = SCENE, **fields: Any) -> Source:
    return Source("a.tif", (Member("a.tif", "a.tif", 1, 1),), "raster", info=info, **fields)


def cores(shape: Sequence[int], edge: int) -> Iterator[Region]:
    for square in squares(Region.whole(tuple(shape)), edge, tuple(shape)):
        yield square.box


def drawn(rois: Sequence[Roi], shape: Sequence[int] = SHAPE) -> dict[str, npt.NDArray[Any]]:
    """Each region's pixels, how often a part covers them."""
    found: dict[str, npt.NDArray[Any]] = {}
    for roi in rois:
        plane = found.setdefault(roi.region, np.zeros(shape, int))
        plane[roi.box.slices()] += 1 if roi.mask is None else roi.mask
    return found


# ---------------------------------------------------------------- config
def test_images_are_measured_as_a_whole_or_where_masks_say(tmp_path: Path) -> None:
    def regions(**sections: Any) -> Any:
        return expanded(loaded(tmp_path, **sections))["regions"]

    masked = {"path": "x", "include": ["*.png"], "mask": {"path": "*_m.png"}}
    assert regions() == regions(regions=["image"]) == ["image"]
    assert regions(input=masked) == regions(input=masked, regions=["mask"]) == ["mask"]
    both = regions(input=masked, regions=[{"tiles": 256}, "mask", "image"])
    assert both == ["image", "mask", {"tiles": 256}]


def test_zones_count_by_their_content(tmp_path: Path) -> None:
    first = loaded(tmp_path, regions=[{"zones": zone_file(tmp_path).name, "id": "name"}])
    (found,) = expanded(first)["regions"]
    assert (found["id"], list(found["zones"])) == ("name", ["sha256"])
    (tmp_path / "zones.gpkg").rename(tmp_path / "b.gpkg")
    moved_file = loaded(tmp_path, regions=[{"zones": "b.gpkg", "id": "name"}])
    assert Plan(moved_file, "cpu").digest == Plan(first, "cpu").digest
    zone_file(tmp_path, frame=FRAME.iloc[:3])
    other = loaded(tmp_path, regions=[{"zones": "zones.gpkg", "id": "name"}])
    assert Plan(other, "cpu").digest != Plan(first, "cpu").digest


@pytest.mark.parametrize(
    ("regions", "told"),
    [
        ("image", r":3:10: regions: must be a list of regions \(got 'image'\); write \[image\]"),
        ("[]", r":3:10: regions: must be a list of regions"),
        ("[imag]", r":3:11: regions\[0\]: unknown region 'imag'; did you mean 'image'?"),
        ("[mask]", r":3:11: regions\[0\]: needs masks; add input.mask"),
        ("[3]", r":3:11: regions\[0\]: unknown region 3|is no region"),
        ("[{tiles: 0}]", r":3:19: regions\[0\].tiles: must be at least 1 \(got 0\)"),
        ("[{tiles: 8, id: a}]", r":3:22: regions\[0\].id: unknown key"),
        ("[{zone: a}]", r":3:11: regions\[0\]: is no region"),
        ("[{zones: a.gpkg}]", r"regions\[0\].id: is missing"),
        (
            "[{zones: a.gpkg, id: n}]",
            r":3:19: regions\[0\].zones: 'a.gpkg' cannot be read: No such file",
        ),
        ("[{tiles: 8}, {tiles: 9}]", r":3:23: regions\[1\]: tiles is given twice"),
    ],
)
def test_regions_that_are_wrong_are_refused(tmp_path: Path, regions: str, told: str) -> None:
    text = f"version: 1\ninput: {{path: x}}\nregions: {regions}\nfilters: [sobel]\n"
    (tmp_path / "c.yaml").write_text(text + "output: {path: out}\n")
    with pytest.raises(ConfigError, match=told):
        load(tmp_path / "c.yaml")


# ---------------------------------------------------------------- parts in tiles
@pytest.mark.parametrize("shape", [(50, 60), (20, 17, 9)])
def test_squares_cover_each_pixel_once_however_tiles_are_cut(shape: tuple[int, ...]) -> None:
    whole = drawn([*squares(Region.whole(shape), 8, shape)], shape)
    assert (sum(whole.values()) == 1).all()
    last = ",".join(str((n - 1) // 8) for n in shape)
    assert whole[f"tile={last}"].sum() == np.prod([(n - 1) % 8 + 1 for n in shape])
    parts = drawn([roi for core in cores(shape, 12) for roi in squares(core, 8, shape)], shape)
    assert parts.keys() == whole.keys()
    assert all((parts[key] == whole[key]).all() for key in whole)


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3035"])
def test_zones_are_the_pixels_whose_centres_lie_inside(tmp_path: Path, crs: str) -> None:
    """As GDAL says of the corners that pyproj moved; in any tiles."""
    zones = Zones.read(zone_file(tmp_path, crs), "name")
    whole = drawn([*in_zones(zones, SCENE, WHOLE)])
    assert sorted(whole) == ["zone=dot", "zone=edge", "zone=field", "zone=star"]
    there = FRAME.to_crs(crs).to_crs(UTM)
    for name, shape in zip(there["name"], there.geometry, strict=True):
        expected = rasterize([(shape, 1)], SHAPE, transform=PLACE.transform)
        np.testing.assert_array_equal(whole.get(f"zone={name}", 0 * expected), expected)
    tiled = drawn([roi for core in cores(SHAPE, 16) for roi in in_zones(zones, SCENE, core)])
    assert all((tiled[key] == whole[key]).all() for key in whole)
    assert tiled.keys() == whole.keys()
    assert not whole["zone=dot"].any()


def test_turned_scenes_have_zones_too(tmp_path: Path) -> None:
    turned = Georeference(UTM, (6.0, 8.0, 5e5, 8.0, -6.0, 5e6))
    info = ImageInfo(SHAPE, ("1",), "uint8", SCENE.grid, geo=turned)
    shape = Polygon([(500_100, 5_000_050), (500_500, 5_000_100), (500_300, 5_000_300)])
    frame = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shape], crs=UTM)
    zones = Zones.read(zone_file(tmp_path, frame=frame), "name")
    expected = rasterize([(shape, 1)], SHAPE, transform=turned.transform)
    assert expected.sum() > 100
    np.testing.assert_array_equal(drawn([*in_zones(zones, info, WHOLE)])["zone=a"], expected)


def test_zones_of_the_other_side_of_the_earth_do_no_harm(tmp_path: Path) -> None:
    """They have no place in the scene's coordinates, where those that meet it must have one."""
    far = geopandas.GeoDataFrame(
        {"name": ["far"]}, geometry=[box(-178, 10, -160, 20)], crs="OGC:CRS84"
    )
    assert [
        *in_zones(Zones.read(zone_file(tmp_path, "OGC:CRS84", far), "name"), SCENE, WHOLE)
    ] == []
    polar = ImageInfo(SHAPE, ("1",), "uint8", SCENE.grid, geo=Georeference("EPSG:32631", None))
    zones = Zones.read(zone_file(tmp_path), "name")
    with pytest.raises(ReadError, match="has no coordinate system, in which zones lie"):
        [*in_zones(zones, polar, WHOLE)]
    world = geopandas.GeoDataFrame(
        {"name": ["world"]}, geometry=[box(-180, -90, 180, 90)], crs="OGC:CRS84"
    )
    zones = Zones.read(zone_file(tmp_path, "OGC:CRS84", world), "name")
    sinusoidal = Georeference("+proj=gnom +lat_0=45 +lon_0=3", PLACE.transform)
    info = ImageInfo(SHAPE, ("1",), "uint8", SCENE.grid, geo=sinusoidal)
    with pytest.raises(ReadError, match="zone 'world' reaches beyond its coordinate system"):
        [*in_zones(zones, info, WHOLE)]


def test_masks_give_a_region_per_rater_and_label(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 20:30], labels[40:, 2:5] = 1, 7
    files = []
    for rater in ("ann", "bob"):
        path = tmp_path / f"{rater}.png"
        Image.fromarray(labels).save(path)
        files.append((rater, Member(str(path), path.name, 1, 1)))
    info = ImageInfo(SHAPE, ("1",), "uint8", Grid((1.0, 1.0)))
    given = {"path": "*_m.png", "labels": {1: "GTV", 9: "node #1"}}
    plan = Plan(loaded(tmp_path, input={"path": "x", "mask": given}), "cpu")
    masked = source(info, masks=tuple(files))
    parts = [roi for core in cores(SHAPE, 16) for roi in regions_in(plan, masked, core)]
    found = drawn(parts)
    assert sorted(found) == [
        "roi=ann/GTV", "roi=ann/node %231", "roi=bob/GTV", "roi=bob/node %231",
    ]  # fmt: skip
    np.testing.assert_array_equal(found["roi=bob/GTV"], labels == 1)
    assert not found["roi=ann/node %231"].any()
    rows = RegionRows(None)
    rows.add(masked, parts)
    first, second, *_ = rows.rows(masked)
    assert (first["start"], first["stop"], first["n_pixels"]) == ((3, 20), (9, 30), 60)
    assert (first["label"], first["size"], first["geometry"]) == ("GTV", None, None)
    assert (second["label"], second["n_pixels"], second["start"]) == ("node %231", 0, None)
    alone = source(info, masks=(("", files[0][1]),))
    assert sorted(drawn(regions_in(plan, alone, WHOLE))) == ["roi=GTV", "roi=node %231"]
    assert [roi.region for roi in regions_in(plan, source(info), WHOLE)] == ["image"]


# ---------------------------------------------------------------- rows
def test_rows_of_regions_do_not_depend_on_tiles(tmp_path: Path) -> None:
    zones = {"zones": str(zone_file(tmp_path, "EPSG:4326")), "id": "name"}
    plan = Plan(loaded(tmp_path, regions=["image", {"tiles": 20}, zones]), "cpu")
    collected = []
    for edge in (60, 16):
        rows = RegionRows(plan.config.regions.zones)
        for core in cores(SHAPE, edge):
            rows.add(source(), regions_in(plan, source(), core))
        collected.append(rows.rows(source()))
    assert collected[0] == collected[1]
    found = {row["region"]: row for row in collected[0]}
    assert len(found) == 1 + 9 + 4
    image, corner, dot = (found[key] for key in ("image", "tile=2,2", "zone=dot"))
    assert image["n_pixels"] == 3000
    assert image["size"] == 3000 * 100.0
    assert image["geometry"] == footprint(PLACE, WHOLE)
    assert (corner["start"], corner["stop"], corner["n_pixels"]) == ((40, 40), (50, 60), 200)
    assert corner["geometry"] == footprint(PLACE, Region((40, 40), (50, 60)))
    assert (dot["start"], dot["stop"], dot["n_pixels"], dot["size"]) == (None, None, 0, 0.0)
    assert {row["proj:code"] for row in found.values()} == {UTM}
    degrees = source(replace(SCENE, grid=Grid((0.1, 0.1), "degree")))
    rows.add(degrees, regions_in(plan, degrees, WHOLE))
    assert {row["size"] for row in rows.rows(degrees)} == {None}
    shapes = geopandas.GeoSeries.from_wkb([found["zone=star"]["geometry"]], crs="OGC:CRS84")
    there = FRAME.geometry.iloc[[1]].to_crs("OGC:CRS84")
    assert shapes.geom_equals_exact(there, 1e-9, align=False).all()


def test_places_beyond_the_earth_cost_no_time() -> None:
    """PROJ takes 360 degrees off a longitude until it is one: for ever, at 1e30."""
    start = time.process_time()
    assert moved(np.array([[1e30, 0.0]]), "EPSG:3857", "OGC:CRS84") is None
    assert footprint(Georeference("EPSG:3857", (1e30, 0, 0, 0, -1, 0)), WHOLE) is None
    assert time.process_time() - start < 1


def test_statistics_of_regions_are_those_of_their_pixels(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 2**12, (1, *SHAPE), dtype=np.uint16)
    write(tmp_path / "a.tif", pixels)
    zones = {"zones": str(zone_file(tmp_path, "EPSG:4326")), "id": "name"}
    config = write_config(
        tmp_path / "c.yaml", statistics=["mean", "max"], regions=[{"tiles": 20}, zones]
    )
    output = run_bank(config, tmp_path / "out", tmp_path / "a.tif")
    rows = {row["region"]: row for row in output.statistics.to_pylist()}
    expected = drawn(
        [*in_zones(Zones.read(zone_file(tmp_path, "EPSG:4326"), "name"), SCENE, WHOLE)]
    )
    expected |= drawn([*squares(WHOLE, 20, WHOLE.stop)])
    assert sorted(rows) == sorted(expected)
    for region, mask in expected.items():
        inside = pixels[0][mask.astype(bool)]
        assert rows[region]["n_pixels"] == inside.size
        if inside.size:
            assert rows[region]["mean"] == pytest.approx(inside.mean(), rel=1e-12)
            assert rows[region]["max"] == inside.max()
        else:
            assert rows[region]["mean"] is None
    frame = geopandas.read_parquet(tmp_path / "out/regions")
    assert dict(zip(frame["region"], frame["n_pixels"], strict=True)) == {
        region: mask.sum() for region, mask in expected.items()
    }
    tile = frame[frame["region"] == "tile=0,1"].to_crs(UTM).geometry.iloc[0]
    assert tile.bounds == pytest.approx(on_scene(0, 20, 20, 20).bounds, abs=1e-3)


def test_tiled_scenes_are_measured_in_regions_as_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zones cross the borders of four tiles."""
    pixels = RNG.integers(0, 2**12, (1, 260, 300), dtype=np.uint16)
    write(tmp_path / "a.tif", pixels, transform=Affine(2, 0, 5e5, 0, -2, 5e6), tiled=True)
    config = write_config(
        tmp_path / "c.yaml",
        filters=["identity", {"gaussian": {"sigma": 1}}],
        statistics=list(NUMBERS),
        regions=["image", {"tiles": 100}, {"zones": str(zone_file(tmp_path)), "id": "name"}],
    )
    whole = run_bank(config, tmp_path / "whole", tmp_path / "a.tif")
    monkeypatch.setattr(pipeline.plan, "SCENE", 10_000)
    monkeypatch.setattr(pipeline.plan, "_CORES", (256, 512))
    found = look(config, tmp_path / "unused", tmp_path / "a.tif")
    assert len(found.plan.tiles(found.sources[0])) == 4
    tiled = run_bank(config, tmp_path / "tiles", tmp_path / "a.tif")
    assert tiled.table("regions").equals(whole.table("regions"))
    rows, wanted = (one.statistics.to_pylist() for one in (tiled, whole))
    assert len(rows) == 2 * (1 + 9 + 4)
    for row, one in zip(rows, wanted, strict=True):
        for name, value in row.items():
            expected = pytest.approx(one[name], rel=1e-6) if name in NUMBERS else one[name]
            assert value == expected

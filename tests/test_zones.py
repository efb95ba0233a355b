"""Zones as geopandas writes them, and files that are wrong."""

from __future__ import annotations

import json
import pickle
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, box, to_wkb

from pipeline.errors import MissingDependency
from pipeline.zones import Zones

PARTS = MultiPolygon([box(10, 0, 12, 2), box(20, 0, 22, 2)])
RING = Polygon([(0, 0), (8, 0), (8, 8), (0, 8)], [[(2, 2), (2, 4), (4, 4)]])
FRAME = geopandas.GeoDataFrame(
    {"name": ["Äcker #1", "wood"], "number": [7, 12], "share": [0.5, 0.25]},
    geometry=[RING, PARTS],
    crs="EPSG:32631",
)
FORMATS = ("zones.gpkg", "zones.geojson", "zones.shp")


def write(path: Path, frame: geopandas.GeoDataFrame = FRAME, **options: Any) -> Path:
    frame.to_file(path, **options)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_zones(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    zones = Zones.read(path, "number")
    assert [zone.name for zone in zones.zones] == ["7", "12"]
    assert [zone.name for zone in Zones.read(path, "name").zones] == ["Äcker %231", "wood"]
    for zone, shape in zip(zones.zones, FRAME.geometry, strict=True):
        rings = [Polygon(ring) for rings in zone.polygons for ring in rings]
        area = sum(r.area for rings in zone.polygons for r in map(Polygon, rings[:1]))
        assert area - sum(r.area for r in rings) + area == pytest.approx(shape.area)
        assert zone.bounds == shape.bounds
    assert geopandas.GeoSeries([], crs=zones.crs).crs.to_epsg(min_confidence=70) == 32631


@pytest.mark.parametrize("name", FORMATS)
def test_zones_are_equal_where_the_bytes_are(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    zones = Zones.read(path, "number")
    assert zones == pickle.loads(pickle.dumps(zones)) == Zones.read(path, "number")
    assert hash(zones) == hash(pickle.loads(pickle.dumps(zones)))
    assert zones != Zones.read(path, "name")
    assert zones != Zones.read(
        write(tmp_path / name, FRAME.translate(1).to_frame("geometry").assign(number=[7, 12])),
        "number",
    )


def test_a_geopackage_of_a_program_that_still_has_it_open_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "zones.gpkg")
    before = Zones.read(path, "name")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        assert path.read_bytes()[18:20] == b"\2\2"
    found = Zones.read(path, "name")
    assert [zone.bounds for zone in found.zones] == [zone.bounds for zone in before.zones]
    assert [p.name for p in tmp_path.iterdir()] == ["zones.gpkg"]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_geopackage_with_changes_beside_it_is_refused(tmp_path: Path, mode: str) -> None:
    path = write(tmp_path / "zones.gpkg")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("BEGIN")
        database.execute("UPDATE gpkg_spatial_ref_sys SET organization_coordsys_id = 32632")
        if mode == "wal":
            database.execute("COMMIT")
        with pytest.raises(
            ValueError, match=r"zones.gpkg-\w+ that are not yet written into it; cl"
        ):
            Zones.read(path, "name")
        if mode == "delete":
            database.execute("COMMIT")
    assert Zones.read(path, "name").crs == "EPSG:32632"


@pytest.mark.parametrize("name", [5, None, ["EPSG:4326"]])
def test_a_coordinate_system_that_is_no_text_is_refused(tmp_path: Path, name: object) -> None:
    path = tmp_path / "a.geojson"
    crs = {"type": "name", "properties": {"name": name}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [], "crs": crs}))
    with pytest.raises(ValueError, match="is no FeatureCollection"):
        Zones.read(path, "n")


def test_geojson_lies_in_longitudes_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.loads(FRAME.to_json(drop_id=True))
    path.write_text(json.dumps({**text, "crs": None}))
    assert Zones.read(path, "name").crs == "OGC:CRS84"


def feature(**changed: Any) -> dict[str, Any]:
    square = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
    shape = {"type": "Polygon", "coordinates": square}
    return {"type": "Feature", "properties": {"n": 1}, "geometry": shape} | changed


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ([feature(), feature()], "has two zones with n = '1'; give each its own"),
        ([feature(properties={"m": 1})], "has no column 'n'; id: takes one of id, m"),
        ([feature(properties={"n": None})], "has a zone with n = None; names of zones are"),
        ([feature(properties={"n": 0.5})], "has a zone with n = 0.5"),
        ([feature(geometry=None)], "zone '1' has no area"),
        ([feature(geometry={"type": "Point", "coordinates": [0, 0]})], "zone 1 is a Point; zones"),
        ([feature(geometry={"type": "Polygon"})], "zone 1 has a broken shape; zones are polygons"),
        ([feature(geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]})], "has no area"),
        ([feature(geometry={"type": "Polygon", "coordinates": [[["a", 0]]]})], "zone 1 "),
        ([], "has no column 'n'; id: takes one of none"),
        (None, "is no FeatureCollection with properties and geometry"),
    ],
)
def test_zones_that_are_wrong_are_refused(tmp_path: Path, features: Any, told: str) -> None:
    path = tmp_path / "zones.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(ValueError, match=told):
        Zones.read(path, "n")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.kml", b"", "is no .gpkg, .geojson, .json, .shp; convert it"),
        ("a.gpkg", b"SQLite format 3\0", "is no GeoPackage"),
        ("a.gpkg", b"", "is no GeoPackage"),
        ("a.geojson", b"{", "is no JSON"),
        ("a.geojson", b"[" * 100_000, "is no JSON"),
        ("a.geojson", b"[]", "is no FeatureCollection"),
        ("a.shp", b"nothing", "cannot be read: No such file"),
    ],
)
def test_files_that_are_wrong_are_refused(
    tmp_path: Path, name: str, data: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=told):
        Zones.read(tmp_path / name, "n")


def test_a_shapefile_needs_the_extra_geo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "zones.shp")
    monkeypatch.setitem(sys.modules, "shapefile", None)
    with pytest.raises(MissingDependency, match=r"pip install 'filterbank\[geo\]'"):
        Zones.read(path, "number")


def test_a_damaged_shapefile_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "zones.shp")
    whole = path.read_bytes()
    for data in (whole[:150], b"\0" * 100, whole[:60]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"is no shapefile"):
            Zones.read(path, "number")


def test_a_file_without_coordinate_system_or_with_two_layers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "zones.shp")
    path.with_suffix(".prj").unlink()
    with pytest.raises(ValueError, match="says no coordinate system"):
        Zones.read(path, "number")
    package = write(tmp_path / "zones.gpkg", layer="a")
    write(package, layer="b")
    with pytest.raises(ValueError, match="holds 2 layers of shapes"):
        Zones.read(package, "number")


def test_a_geopackage_with_heights_is_read(tmp_path: Path) -> None:
    raised = geopandas.GeoSeries([box(0, 0, 1, 1), PARTS], crs="OGC:CRS84").force_3d(5.0)
    frame = raised.to_frame("geometry").assign(n=[1, 2])
    zones = Zones.read(write(tmp_path / "z.gpkg", frame), "n")
    assert zones.zones[0].bounds == (0, 0, 1, 1)
    assert to_wkb(frame.geometry[0])[1] == 3
    np.testing.assert_array_equal(zones.zones[1].bounds, PARTS.bounds)

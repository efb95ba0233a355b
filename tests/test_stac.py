"""STAC items: what the specification asks of them, and that their links lead to files."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from running import look, run_bank, write_config

from pipeline.config.load import load
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.stages.items import item_of
from pipeline.types import Georeference, Source
from pipeline.writers import stac
from pipeline.writers.stac import Asset

rasterio = pytest.importorskip("rasterio")

UTM = Georeference("EPSG:32631", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
EQUAL_AREA = rasterio.crs.CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84")
LONG = Georeference(EQUAL_AREA.to_wkt(version="WKT2_2019"), UTM.transform)
ASSETS = {"a": Asset("geotiff/50%25 %23.tif/a.tif", "a", stac.GEOTIFF, "data", ("red",), "float32")}


def parsed(place: Georeference = UTM, image: str = "50%25 %23.tif", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stac.item(image, (20, 30), place, ASSETS, **more))
    return found


def assert_valid(item: dict[str, Any]) -> None:
    """The rules of the STAC specification 1.1.0 for items, and of RFC 7946 for their geometry."""
    required = {"type", "stac_version", "id", "geometry", "properties", "links", "assets"}
    assert required <= item.keys()
    assert (item["type"], item["stac_version"], item["links"]) == ("Feature", "1.1.0", [])
    assert item["id"]
    assert ("bbox" in item) == (item["geometry"] is not None)
    if item["geometry"] is not None:
        assert_polygon(item["geometry"], item["bbox"])
    times = item["properties"]
    assert "datetime" in times
    for key in ("start_datetime", "end_datetime") if times["datetime"] is None else ("datetime",):
        text = times[key]
        assert text.endswith("Z")  # RFC 3339, UTC
        datetime.fromisoformat(text)
    assert item["stac_extensions"] == [stac.PROJECTION]
    assert isinstance(times["proj:code"], str | None)
    for asset in item["assets"].values():
        assert not asset["href"].startswith("/")
        assert asset["roles"]
        assert all(band["name"] for band in asset.get("bands", ()))


def assert_polygon(geometry: dict[str, Any], bbox: list[float]) -> None:
    (ring,) = geometry["coordinates"]
    assert geometry["type"] == "Polygon"
    assert ring[0] == ring[-1]
    x, y = np.transpose(ring)
    assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0  # counterclockwise
    assert bbox == [x.min(), y.min(), x.max(), y.max()]
    assert (np.abs(x) <= 180).all()
    assert (np.abs(y) <= 90).all()


@pytest.mark.parametrize(
    "place",
    [UTM, LONG, Georeference(None, UTM.transform), Georeference("EPSG:32631", None)],
    ids=["code", "wkt", "no system", "no transform"],
)
def test_items_follow_the_specification(place: Georeference) -> None:
    item = parsed(place)
    assert_valid(item)
    assert (item["geometry"] is not None) == (place in (UTM, LONG))


def test_a_scene_is_where_it_is() -> None:
    """500 km east in UTM zone 31 is 3 degrees; 5000 km north is close to 45.15 degrees."""
    item = parsed()
    assert item["bbox"] == pytest.approx([3.0, 45.152, 3.0038, 45.1535], abs=1e-3)
    assert item["properties"]["proj:code"] == "EPSG:32631"
    assert item["properties"]["proj:shape"] == [20, 30]
    assert item["properties"]["proj:transform"] == [10, 0, 5e5, 0, -10, 5e6]
    named = parsed(LONG)["properties"]
    assert (named["proj:code"], named["proj:wkt2"]) == (None, LONG.crs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2021-06-05", "2021-06-05T00:00:00Z"),
        ("20210605T103021", "2021-06-05T10:30:21Z"),
        ("2021-06-05T12:30:21.5+02:00", "2021-06-05T10:30:21.500000Z"),
        ("early summer", None),
        (None, None),
    ],
)
def test_times_are_those_of_the_scene_or_unknown(text: str | None, said: str | None) -> None:
    item = parsed(time=text)
    assert_valid(item)
    assert item["properties"]["datetime"] == said


def test_equal_input_gives_equal_bytes_and_links_climb_out_of_folders() -> None:
    one, two = (stac.item("a/b.tif", (20, 30), UTM, ASSETS) for _ in range(2))
    assert one == two
    assert stac.name_of("a/b.tif") == "stac/a/b.tif/item.json"
    assert json.loads(one)["assets"]["a"]["href"] == "../../../geotiff/50%2525%20%2523.tif/a.tif"


def scene(tmp_path: Path, output: dict[str, Any]) -> tuple[Plan, Source]:
    path = tmp_path / "in" / "50% #_20210605.tif"
    path.parent.mkdir()
    layout = {"width": 30, "height": 20, "count": 2, "dtype": "uint8"}
    affine = rasterio.Affine(*UTM.transform)
    with rasterio.open(path, "w", crs=UTM.crs, transform=affine, **layout) as file:
        file.write(np.random.default_rng(0).integers(0, 255, (2, 20, 30), dtype=np.uint8))
        file.descriptions = ("red", "nir")
    sections = {
        "input": {"path": "unused", "include": ["*_{datetime}.tif"]},
        "filters": ["identity", {"gaussian": {"sigma": [1, 2]}}],
        "output": {"path": "unused", "stac": True, **output},
    }
    seen = look(write_config(tmp_path / "c.yaml", **sections), tmp_path / "out", path.parent)
    (source,) = seen.sources
    return seen.plan, source


def test_every_link_leads_to_a_file_of_the_run(tmp_path: Path) -> None:
    plan, source = scene(tmp_path, {"geotiff": {"filters": ["gauss*"]}, "maps": "float32"})
    output = run_bank(tmp_path / "c.yaml", tmp_path / "out", tmp_path / "in")
    (part,) = (path.name for path in (output.root / "images").iterdir())
    found = item_of(plan, source, part)
    assert found is not None
    name, data = found
    item = json.loads(data)
    assert_valid(item)
    assert item["id"] == "50%25 %23_20210605.tif"
    assert item["properties"]["datetime"] == "2021-06-05T00:00:00Z"
    assert (output.root / name).read_bytes() == data
    here = (output.root / name).parent
    links = {key: here / unquote(asset["href"]) for key, asset in item["assets"].items()}
    assert all(path.is_file() for path in links.values())
    tables = {f"table-{name}" for name in ("images", "statistics", "regions", "maps", "filters")}
    assert links.keys() == {"gaussian_sigma_1", "gaussian_sigma_2"} | tables
    for key in links.keys() - tables:
        asset = item["assets"][key]
        with rasterio.open(links[key]) as file:
            assert asset["title"] == file.tags()["FILTERBANK_FILTER"]
            assert [band["name"] for band in asset["bands"]] == [*file.descriptions]
            assert asset["data_type"] == file.dtypes[0]


def test_an_item_stays_while_its_neighbour_changes_and_goes_with_its_scene(tmp_path: Path) -> None:
    scene(tmp_path, {"geotiff": True})
    first, second = tmp_path / "in" / "50% #_20210605.tif", tmp_path / "in" / "b_2022.tif"
    shutil.copy(first, second)
    output = run_bank(tmp_path / "c.yaml", tmp_path / "out", tmp_path / "in")
    items = sorted((output.root / "stac").rglob("item.json"))
    before = [path.read_bytes() for path in items]
    assert len(items) == 2
    with rasterio.open(second, "r+") as file:
        file.write(np.zeros((2, 20, 30), np.uint8))
    run_bank(tmp_path / "c.yaml", tmp_path / "out", tmp_path / "in")
    assert [path.read_bytes() for path in items] == before
    second.write_bytes(b"no scene any more")
    run_bank(tmp_path / "c.yaml", tmp_path / "out", tmp_path / "in")
    assert [path.exists() for path in items] == [True, False]


def test_no_item_without_a_place_or_where_none_is_wanted(tmp_path: Path) -> None:
    plan, source = scene(tmp_path, {"stac": False, "maps": "float32"})
    assert item_of(plan, source, "part-0.parquet") is None


def test_items_without_maps_are_refused(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", output={"path": "out", "stac": True})
    with pytest.raises(ConfigError, match=r"output\.stac: has no maps .* add geotiff: true"):
        load(config)

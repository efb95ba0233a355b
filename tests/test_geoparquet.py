"""The table of regions against the rules of GeoParquet 1.1, geopandas and DuckDB."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shapely import box

from pipeline.footprint import footprint
from pipeline.polygons import to_wkb
from pipeline.types import Georeference, Region
from pipeline.writers.geoparquet import METADATA, located
from pipeline.writers.parquet import REGIONS, write_table

PLACE = Georeference("EPSG:32631", (10.0, 0.0, 5e5, 0.0, -10.0, 5e6))
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def row(image: str, outline: bytes | None) -> dict[str, Any]:
    return {"image": image, "region": "image", "kind": "image", **located(outline)}


ROWS = (
    row("a.tif", footprint(PLACE, Region((0, 0), (50, 60)))),
    row("b.tif", to_wkb([(SQUARE,), (SQUARE + 4,)])),
    row("c.png", None),
)
PARTS = {"places": ROWS, "one": ROWS[:1], "no_place": ROWS[2:], "no_rows": ()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One part of each kind, as a shard writes it."""
    for name, rows in PARTS.items():
        table = pa.Table.from_pylist(list(rows), schema=REGIONS)
        write_table(tmp_path / f"part-{name}.parquet", table.replace_schema_metadata(METADATA))
    return tmp_path


@pytest.mark.parametrize("name", PARTS)
def test_every_part_keeps_the_rules_of_geoparquet(folder: Path, name: str) -> None:
    """https://geoparquet.org/releases/v1.1.0/, requirements of file and column metadata."""
    file = pq.ParquetFile(folder / f"part-{name}.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo.keys() == {"version", "primary_column", "columns"}
    assert geo["version"] == "1.1.0"
    ((primary, column),) = geo["columns"].items()
    assert primary == geo["primary_column"]
    assert column.keys() == {"encoding", "geometry_types", "covering"}  # no crs: OGC:CRS84
    assert column["encoding"] == "WKB"
    kinds = column["geometry_types"]
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch(r"(Multi)?Polygon", kind) for kind in kinds)
    leaves = {file.schema.column(i).path: file.schema.column(i) for i in range(len(file.schema))}
    assert leaves[primary].physical_type == "BYTE_ARRAY"
    assert leaves[primary].max_repetition_level == 0
    covering = column["covering"]["bbox"]
    assert covering == {end: ["bbox", end] for end in ("xmin", "ymin", "xmax", "ymax")}
    bounds = file.schema_arrow.field("bbox").type
    assert [(f.name, f.type) for f in bounds] == [(end, pa.float64()) for end in covering]
    assert all(leaves[".".join(path)].physical_type == "DOUBLE" for path in covering.values())


def test_every_part_has_the_same_schema(folder: Path) -> None:
    schemas = [pq.read_schema(path) for path in folder.iterdir()]
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)


def test_geopandas_reads_outlines_in_longitude_and_latitude(folder: Path) -> None:
    frame = geopandas.read_parquet(folder / "part-places.parquet")
    assert frame.crs.to_string() == "OGC:CRS84"
    assert frame.geom_type.tolist()[:2] == ["Polygon", "MultiPolygon"]
    assert frame.geometry.isna().tolist() == [False, False, True]
    assert frame.geometry.is_valid.tolist()[:2] == [True, True]
    bounds = pq.read_table(folder / "part-places.parquet").column("bbox").to_pylist()
    found = [[b[end] for end in ("xmin", "ymin", "xmax", "ymax")] for b in bounds[:2]]
    np.testing.assert_array_equal(found, frame.bounds[:2])
    assert bounds[2] is None
    near = geopandas.read_parquet(folder / "part-places.parquet", bbox=(3, 44, 4, 46))
    assert near["image"].tolist() == ["a.tif"]
    scene = geopandas.GeoSeries([box(5e5, 5e6 - 500, 5e5 + 600, 5e6)], crs=PLACE.crs)
    assert near.to_crs(PLACE.crs).area.iloc[0] == pytest.approx(scene.area.iloc[0], rel=1e-6)
    for name, rows in PARTS.items():
        assert len(geopandas.read_parquet(folder / f"part-{name}.parquet")) == len(rows)
    assert len(geopandas.read_parquet(folder)) == 5


def test_duckdb_reads_the_folder(folder: Path) -> None:
    """As it stands, without its spatial extension; the bounds are numbers to it."""
    found = duckdb.sql(
        f"SELECT image, bbox.xmin, geometry IS NULL, octet_length(geometry::BLOB) "
        f"FROM '{folder}/*.parquet' WHERE bbox.xmin > 2 ORDER BY image"
    ).fetchall()
    outline = ROWS[0]["geometry"]
    assert found == [("a.tif", ROWS[0]["bbox"]["xmin"], False, len(outline))] * 2

"""Vector files: GeoPackage, GeoJSON and shapefile, read from their bytes and from nothing else.

GDAL is not asked: its vector drivers open what a file names, other files and servers among it.
"""

from __future__ import annotations

import codecs
import json
import re
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.errors import MissingDependency
from pipeline.polygons import Polygon, from_wkb, open_ring

Feature: TypeAlias = tuple[object, tuple[Polygon, ...]]
"""The value of one column, and polygons of (x, y)."""

Features: TypeAlias = tuple[str, list[Feature]]
Hash: TypeAlias = Callable[[bytes], None]

CRS84 = "OGC:CRS84"
_URN = re.compile(r"urn:ogc:def:crs:(\w+):[^:]*:(\w+)")
SQLITE = b"SQLite format 3\0"
_ENVELOPES = (0, 32, 48, 48, 64)
"""Bytes of the envelope before a GeoPackage's geometry, by its kind; GeoPackage 1.4, 2.1.3."""


def read_features(path: Path, column: str, update: Hash) -> Features:
    """The coordinate system, and every feature's value of a column with its polygons.

    update: is given all bytes that are read. Raises ValueError with what is wrong and what to do,
    MissingDependency.
    """
    read = _FORMATS.get(path.suffix.lower())
    if read is None:
        message = f"is no {', '.join(_FORMATS)}; convert it to GeoPackage"
        raise ValueError(message)
    try:
        return read(path, column, update)
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}; check the path"
        raise ValueError(message) from error


def _bytes(path: Path, update: Hash) -> bytes:
    data = path.read_bytes()
    update(data)
    return data


# ---------------------------------------------------------------- GeoPackage
def _geopackage(path: Path, column: str, update: Hash) -> Features:
    _refuse_unwritten(path)
    data = bytearray(_bytes(path, update))
    if not data.startswith(SQLITE):
        message = "is no GeoPackage; write it again"
        raise ValueError(message)
    # A database in memory has no write-ahead log beside it, so it must not ask for one.
    if data[18:20] == b"\2\2":
        data[18:20] = b"\1\1"
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(bytes(data))
            return _layer(database, column)
    except sqlite3.Error as error:
        message = f"is no GeoPackage: {error}; write it again"
        raise ValueError(message) from error


def _refuse_unwritten(path: Path) -> None:
    """Refuse a database of which SQLite keeps changes, or what undoes them, in a file beside it."""
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            message = (
                f"has changes in {beside.name} that are not yet written into it; "
                "close the program that edits it"
            )
            raise ValueError(message)


def _layer(database: sqlite3.Connection, column: str) -> Features:
    layers = database.execute(
        "SELECT table_name, column_name, organization, organization_coordsys_id, definition "
        "FROM gpkg_geometry_columns JOIN gpkg_spatial_ref_sys USING (srs_id)"
    ).fetchall()
    if len(layers) != 1:
        names = ", ".join(repr(layer[0]) for layer in layers)
        message = f"holds {len(layers)} layers of shapes ({names}); keep the one with the zones"
        raise ValueError(message)
    ((table, geometry, organization, code, definition),) = layers
    columns = [row[1] for row in database.execute(f"PRAGMA table_info({_quoted(table)})")]
    _check_column(column, [name for name in columns if name != geometry])
    crs = f"EPSG:{code}" if organization.upper() == "EPSG" else definition
    rows = database.execute(f"SELECT {_quoted(column)}, {_quoted(geometry)} FROM {_quoted(table)}")
    return _known(None if code in (0, -1) else crs), [
        (value, _shape(value, _geopackage_geometry, blob)) for value, blob in rows
    ]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _geopackage_geometry(blob: bytes | None) -> tuple[Polygon, ...]:
    if blob is None or blob[3] & 0b10000:  # empty
        return ()
    envelope = (blob[3] >> 1) & 0b111
    if blob[:2] != b"GP" or envelope >= len(_ENVELOPES):
        message = "is no shape"
        raise ValueError(message)
    return from_wkb(blob[8 + _ENVELOPES[envelope] :])


# ---------------------------------------------------------------- GeoJSON
def _geojson(path: Path, column: str, update: Hash) -> Features:
    try:
        found = json.loads(_bytes(path, update))
    except (ValueError, RecursionError) as error:
        message = f"is no JSON: {error}; write it again"
        raise ValueError(message) from error
    if not isinstance(found, dict) or found.get("type") != "FeatureCollection":
        message = "is no FeatureCollection; write it again"
        raise ValueError(message)
    try:
        features = [
            ({"id": feature.get("id"), **(feature["properties"] or {})}, feature["geometry"])
            for feature in found["features"]
        ]
        name = found["crs"]["properties"]["name"] if found.get("crs") else CRS84
        crs = _URN.sub(r"\1:\2", name)
    except (KeyError, TypeError, AttributeError) as error:
        message = "is no FeatureCollection with properties and geometry; write it again"
        raise ValueError(message) from error
    _check_column(column, list(dict.fromkeys(key for row, _ in features for key in row)))
    return _known(crs), [
        (row.get(column), _shape(row.get(column), _coordinates, shape)) for row, shape in features
    ]


def _coordinates(shape: Any) -> tuple[Polygon, ...]:
    """The polygons of a GeoJSON geometry, or of what looks like one."""
    if shape is None:
        return ()
    kind = shape["type"]
    if kind not in ("Polygon", "MultiPolygon"):
        message = f"is a {kind}"
        raise ValueError(message)
    parts = [shape["coordinates"]] if kind == "Polygon" else shape["coordinates"]
    return tuple(
        tuple(open_ring([corner[:2] for corner in ring]) for ring in part) for part in parts
    )


# ---------------------------------------------------------------- shapefile
def _shapefile(path: Path, column: str, update: Hash) -> Features:
    try:
        import shapefile
    except ImportError as error:
        message = "shapefiles need pyshp; pip install 'filterbank[geo]' and run again"
        raise MissingDependency(message) from error
    shp, dbf = (BytesIO(_bytes(_beside(path, suffix), update)) for suffix in (".shp", ".dbf"))
    prj, cpg = (_text(_beside(path, suffix), update) for suffix in (".prj", ".cpg"))
    encoding = _encoding(cpg)
    try:
        with (
            warnings.catch_warnings(action="error"),
            shapefile.Reader(shp=shp, dbf=dbf, encoding=encoding) as reader,
        ):
            columns = [name for name, *_ in reader.fields[1:]]
            rows = [(r.record.as_dict(), r.shape.__geo_interface__) for r in reader.shapeRecords()]
    except Exception as error:  # of many kinds, by what is damaged
        message = f"is no shapefile: {error}; write it again"
        raise ValueError(message) from error
    _check_column(column, columns)
    return _known(prj), [(row[column], _shape(row[column], _coordinates, at)) for row, at in rows]


def _beside(path: Path, suffix: str) -> Path:
    upper = path.with_suffix(suffix.upper())
    return upper if upper.exists() else path.with_suffix(suffix)


def _text(path: Path, update: Hash) -> str:
    return _bytes(path, update).decode("latin-1").strip() if path.exists() else ""


def _encoding(page: str) -> str:
    """The encoding that a .cpg file names; without one it is Latin 1, as dBase has it."""
    try:
        return codecs.lookup(page.removeprefix("ANSI ") or "latin-1").name
    except LookupError as error:
        message = f"its .cpg names an encoding {page!r} that is not known; write UTF-8"
        raise ValueError(message) from error


# ---------------------------------------------------------------- all of them
def _check_column(column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        message = f"has no column {column!r}; id: takes one of {', '.join(columns) or 'none'}"
        raise ValueError(message)


def _known(crs: str | None) -> str:
    if not crs:
        message = "says no coordinate system; write it again with one"
        raise ValueError(message)
    return crs


def _shape(
    value: object, read: Callable[[Any], tuple[Polygon, ...]], shape: Any
) -> tuple[Polygon, ...]:
    """The polygons of a feature; what is wrong with them is said of its value."""
    try:
        return read(shape)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else "has a broken shape"
        message = f"zone {value!r} {why}; zones are polygons"
        raise ValueError(message) from error


_FORMATS: dict[str, Callable[[Path, str, Hash], Features]] = {
    ".gpkg": _geopackage,
    ".geojson": _geojson,
    ".json": _geojson,
    ".shp": _shapefile,
}

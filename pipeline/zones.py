"""Zones: polygons of a vector file, each with its name, as a value that travels in the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipeline.keys import escape
from pipeline.polygons import Polygon
from pipeline.vectors import Feature, read_features


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """One zone. name: escaped as in keys; polygons: rings of (x, y)."""

    name: str
    polygons: tuple[Polygon, ...]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Least x and y, largest x and y."""
        corners = np.concatenate([ring for rings in self.polygons for ring in rings])
        low, high = corners.min(0), corners.max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones of a file. Equal where the files' bytes and the column of the names are.

    crs: the coordinate system of their corners, x before y: `EPSG:4326`, `OGC:CRS84` or WKT.
    """

    sha256: str
    column: str
    crs: str = field(compare=False)
    zones: tuple[Zone, ...] = field(compare=False, repr=False)

    @classmethod
    def read(cls, path: Path, column: str) -> Zones:
        """Read all zones of a GeoPackage, GeoJSON file or shapefile.

        Raises ValueError with what is wrong and what to do, and MissingDependency where a
        shapefile needs a package that is not there.
        """
        digest = sha256()
        crs, features = read_features(path, column, digest.update)
        return cls(digest.hexdigest(), column, crs, tuple(_named(features, column)))


def _named(features: Iterable[Feature], column: str) -> list[Zone]:
    found: dict[str, Zone] = {}
    for value, polygons in features:
        name = _name(value, column)
        if name in found:
            message = f"has two zones with {column} = {name!r}; give each its own"
            raise ValueError(message)
        rings = [ring for rings in polygons for ring in rings]
        if not rings or any(len(ring) < 3 for ring in rings):
            message = f"zone {name!r} has no area; draw or remove it"
            raise ValueError(message)
        if not all(np.isfinite(ring).all() for ring in rings):
            message = f"zone {name!r} has a corner that is nowhere; draw it again"
            raise ValueError(message)
        found[name] = Zone(name, polygons)
    if not found:
        message = "holds no zone; name another file"
        raise ValueError(message)
    return list(found.values())


def _name(value: object, column: str) -> str:
    """The name of a zone: text, or a whole number. Drivers keep those as fractions at times."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        message = (
            f"has a zone with {column} = {value!r}; names of zones are whole numbers or text, "
            "choose another column with id:"
        )
        raise ValueError(message)
    return escape(str(value))

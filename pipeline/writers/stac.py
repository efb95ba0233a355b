"""STAC items: where a scene's results lie on the ground, and in which files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pipeline.footprint import footprint
from pipeline.keys import picture_folder
from pipeline.polygons import from_wkb
from pipeline.types import Georeference, Ints, Region

VERSION = "1.1.0"
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
PARQUET = "application/vnd.apache.parquet"

UNKNOWN = {
    "datetime": None,
    "start_datetime": "0001-01-01T00:00:00Z",
    "end_datetime": "9999-12-31T23:59:59Z",
}
"""An item must have a time, or an interval that holds it: of a scene without one, all of time."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of an item. path: below the output folder; bands: of a GeoTIFF file, their names."""

    path: str
    title: str
    media: str
    role: str
    bands: tuple[str, ...] = ()
    dtype: str | None = None

    def described(self, up: str) -> dict[str, Any]:
        """As STAC has it; up: the way from the item to the output folder."""
        found: dict[str, Any] = {
            "href": up + quote(self.path),  # keys of images may hold % and #
            "title": self.title,
            "type": self.media,
            "roles": [self.role],
        }
        if self.bands:
            found["bands"] = [{"name": band} for band in self.bands]
        if self.dtype is not None:
            found |= {"data_type": self.dtype, "nodata": "nan"}
        return found


def item(
    image: str,
    shape: Ints,
    place: Georeference,
    assets: Mapping[str, Asset],
    *,
    time: str | None = None,
    about: Mapping[str, object] | None = None,
) -> bytes:
    """Describe a scene's results as a STAC item with the projection extension, as JSON.

    Without geometry where the scene has no `footprint`.

    Parameters
    ----------
    image : str
        The image's key, which is the item's id.
    shape : (height, width)
        In pixels.
    place : Georeference
        Coordinate system and transform.
    assets : mapping
        The files, by keys of their own.
    time : str, optional
        When the scene was taken, in ISO 8601, a date or a date with a time, of UTC where it names
        no zone. Any other text is no time.
    about : mapping, optional
        Properties to add.

    Returns
    -------
    bytes
        The same for the same arguments.
    """
    ring = _ring(place, shape)
    up = "../" * name_of(image).count("/")
    where: dict[str, Any] = {"geometry": None}
    if ring:
        x, y = zip(*ring, strict=True)
        where = {
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "bbox": [min(x), min(y), max(x), max(y)],
        }
    found = {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": [PROJECTION],
        "id": image,
        **where,
        "properties": {**_when(time), **_projection(place, shape), **(about or {})},
        "links": [],
        "assets": {key: asset.described(up) for key, asset in assets.items()},
    }
    return json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def name_of(image: str) -> str:
    """The path below the output folder for an image's key."""
    return f"{picture_folder(image, 'stac')}/item.json"


def _ring(place: Georeference, shape: Ints) -> Sequence[tuple[float, float]]:
    """The outline, longitude first, closed and counterclockwise; empty where there is none."""
    outline = footprint(place, Region.whole(shape))
    if outline is None:
        return ()
    (((ring,),)) = from_wkb(outline)
    points = [(float(x), float(y)) for x, y in ring]
    return [*points, points[0]]


def _projection(place: Georeference, shape: Ints) -> dict[str, Any]:
    """The coordinate system by its code, or written out where it has none; transform and shape."""
    crs = place.crs
    coded = crs is None or "[" not in crs
    found: dict[str, Any] = {"proj:code": crs if coded else None, "proj:shape": shape}
    if not coded:
        found["proj:wkt2"] = crs
    if place.transform is not None:
        found["proj:transform"] = place.transform
    return found


def _when(text: str | None) -> Mapping[str, Any]:
    try:
        taken = datetime.fromisoformat(text or "")
    except ValueError:
        return UNKNOWN
    aware = taken if taken.tzinfo else taken.replace(tzinfo=UTC)
    return {"datetime": aware.astimezone(UTC).isoformat().replace("+00:00", "Z")}

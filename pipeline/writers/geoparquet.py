"""GeoParquet 1.1: what makes a Parquet table with outlines one that maps show.

https://geoparquet.org/releases/v1.1.0/: outlines are well-known binary in longitude and latitude
(OGC:CRS84, the default, so no `crs` is said), and their bounds stand in a column beside them, by
which readers skip what is elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.polygons import from_wkb

GEOMETRY, BOUNDS = "geometry", "bbox"
_ENDS = ("xmin", "ymin", "xmax", "ymax")

FIELDS = (
    pa.field(GEOMETRY, pa.binary()),
    pa.field(BOUNDS, pa.struct([pa.field(end, pa.float64()) for end in _ENDS])),
    pa.field("proj:code", pa.string()),
)
"""The outline, its bounds, and the code of the coordinate system of the pixels (`EPSG:32631`)."""

METADATA = {
    "geo": json.dumps(
        {
            "version": "1.1.0",
            "primary_column": GEOMETRY,
            "columns": {
                GEOMETRY: {
                    "encoding": "WKB",
                    "geometry_types": ["Polygon", "MultiPolygon"],
                    "covering": {"bbox": {end: [BOUNDS, end] for end in _ENDS}},
                }
            },
        }
    )
}
"""What the footer of every part says, also of one without rows."""


def located(outline: bytes | None) -> dict[str, Any]:
    """The columns of an outline in well-known binary."""
    if outline is None:
        return {GEOMETRY: None, BOUNDS: None}
    rings = [ring for rings in from_wkb(outline) for ring in rings]
    corners = np.concatenate(rings)
    ends = (*corners.min(0).tolist(), *corners.max(0).tolist())
    return {GEOMETRY: outline, BOUNDS: dict(zip(_ENDS, ends, strict=True))}

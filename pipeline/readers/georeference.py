"""Where the pixels of a raster lie on the ground, as GDAL says it."""

from __future__ import annotations

from math import hypot, isfinite
from typing import TYPE_CHECKING

from pipeline.types import Georeference, Grid

if TYPE_CHECKING:
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader

CERTAIN = 100  # per cent: how alike a coordinate system and its code must be
DEGREE, UNKNOWN = "degree", "unknown"


def georeference_of(dataset: DatasetReader) -> Georeference | None:
    """The coordinate system and transform, None where the raster has neither."""
    transform = tuple(map(float, dataset.transform[:6]))
    placed = not dataset.transform.is_identity and all(map(isfinite, transform))
    crs = dataset.crs
    if not (crs or placed):
        return None
    return Georeference(_text(crs) if crs else None, transform if placed else None)


def grid_of(dataset: DatasetReader) -> Grid:
    """How far apart rows and columns are: in metres, in degrees, or in an unknown unit."""
    a, b, _, d, e, _ = dataset.transform[:6]
    spacing = (hypot(b, e), hypot(a, d))
    if dataset.transform.is_identity or not all(isfinite(s) and s > 0 for s in spacing):
        return Grid((1.0, 1.0))
    unit, metres = _unit(dataset.crs)
    # 12 digits: what binary fractions add to them is no part of a spacing
    return Grid(tuple(float(f"{step * metres:.12g}") for step in spacing), unit)


def _text(crs: CRS) -> str:
    """`EPSG:32631` where that says it all, else WKT 2."""
    authority = crs.to_authority(confidence_threshold=CERTAIN)
    return ":".join(authority) if authority else str(crs.to_wkt(version="WKT2_2019"))


def _unit(crs: CRS | None) -> tuple[str, float]:
    """The unit of a spacing, and how many of it one step of the coordinates is."""
    from rasterio.errors import CRSError

    if not crs:
        return UNKNOWN, 1.0
    if crs.is_geographic:
        return DEGREE, 1.0
    try:
        _, metres = crs.linear_units_factor
    except CRSError:
        return UNKNOWN, 1.0
    return "m", float(metres)

"""Outlines on the ground, for the tables and for where zones lie."""

from __future__ import annotations

import numpy as np

from pipeline.gdal import GdalError, session
from pipeline.polygons import Points, Polygon, to_wkb
from pipeline.types import Georeference, Region

CRS84 = "OGC:CRS84"
STEPS = 8  # points per side: a straight side of one coordinate system is a curve in another
HALF_TURN = 180  # degrees that no side of STEPS points jumps, unless it wraps round
FURTHEST = 1e12
"""Coordinates beyond this are no place on earth in any unit; PROJ may turn for ever on them."""


def footprint(place: Georeference, region: Region) -> bytes | None:
    """The outline of a region, (y, x), as well-known binary: a polygon in CRS84 (longitude first).

    Counterclockwise. None where the image has no coordinate system or transform, where a corner
    lies nowhere on the ground, as in a full-disk picture of the earth, or where it crosses the
    antimeridian: one polygon in longitudes cannot say that.
    """
    ring = outline(place, region, CRS84)
    if ring is None or wraps(ring):
        return None
    x, y = ring.T
    if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0:
        ring = ring[::-1]
    return to_wkb([(ring,)])


def outline(place: Georeference, region: Region, crs: str) -> Points | None:
    """Points (n, 2) along the edge of a region, once round, in a coordinate system, x before y.

    None where the image has no place, or a point of the edge is nowhere in that system.
    """
    if place.crs is None or place.transform is None:
        return None
    a, b, c, d, e, f = place.transform
    row, column = _edge(region)
    ground = np.column_stack([a * column + b * row + c, d * column + e * row + f])
    return moved(ground, place.crs, crs)


def ground_polygons(polygons: tuple[Polygon, ...], crs: str) -> bytes | None:
    """Polygons in CRS84 as well-known binary; None where a corner is nowhere, or a side wraps."""
    found = []
    for rings in polygons:
        there = [moved(ring, crs, CRS84) for ring in rings]
        if crs != CRS84 and any(ring is None or wraps(ring) for ring in there):
            return None
        found.append(tuple(ring for ring in there if ring is not None))
    return to_wkb(found)


def moved(points: Points, source: str, target: str) -> Points | None:
    """Points (n, 2), x before y, in another coordinate system; None where one is nowhere there."""
    if source == target:
        return points
    if not (np.abs(points) < FURTHEST).all():
        return None
    try:
        with session():
            from rasterio.warp import transform

            found = transform(source, target, points[:, 0].tolist(), points[:, 1].tolist())
    except GdalError:
        return None
    there = np.ascontiguousarray(np.transpose(found), np.float64)
    return there if np.isfinite(there).all() else None


def wraps(ring: Points) -> bool:
    """Whether a ring of longitudes and latitudes goes round the earth, or over the antimeridian."""
    return bool((np.abs(np.diff(ring[:, 0], append=ring[0, 0])) > HALF_TURN).any())


def _edge(region: Region) -> tuple[Points, Points]:
    """Rows and columns of points along the edge, once round."""
    (top, left), (bottom, right) = region.start, region.stop
    down, across = np.linspace(top, bottom, STEPS + 1), np.linspace(left, right, STEPS + 1)
    one = np.ones(STEPS)
    rows = np.concatenate([top * one, down[:-1], bottom * one, down[:0:-1]])
    columns = np.concatenate([across[:-1], right * one, across[:0:-1], left * one])
    return rows, columns

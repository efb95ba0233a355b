"""Outlines of regions on the ground, for the tables."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from pipeline.gdal import GdalError, session
from pipeline.types import Georeference, Region

Points = npt.NDArray[np.float64]

STEPS = 8  # points per side: a straight side of one coordinate system is a curve in another
HALF_TURN = 180  # degrees that no side of STEPS points jumps, unless it wraps round
POLYGON, LITTLE_ENDIAN = 3, 1  # of well-known binary, ISO 19125-1


def footprint(place: Georeference, region: Region) -> bytes | None:
    """The outline of a region, (y, x), as well-known binary: a polygon in CRS84 (longitude first).

    Counterclockwise. None where the image has no coordinate system or transform, where a corner
    lies nowhere on the ground, as in a full-disk picture of the earth, or where it crosses the
    antimeridian: one polygon in longitudes cannot say that.
    """
    if place.crs is None or place.transform is None:
        return None
    a, b, c, d, e, f = place.transform
    row, column = _outline(region)
    ring = _to_crs84(place.crs, a * column + b * row + c, d * column + e * row + f)
    if ring is None or not np.isfinite(ring).all() or _wraps(ring):
        return None
    x, y = ring.T
    if (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() < 0:
        ring = ring[::-1]
    closed = np.vstack([ring, ring[:1]])
    return struct.pack("<BIII", LITTLE_ENDIAN, POLYGON, 1, len(closed)) + closed.tobytes()


def _outline(region: Region) -> tuple[Points, Points]:
    """Rows and columns of points along the edge, once round."""
    (top, left), (bottom, right) = region.start, region.stop
    down, across = np.linspace(top, bottom, STEPS + 1), np.linspace(left, right, STEPS + 1)
    one = np.ones(STEPS)
    rows = np.concatenate([top * one, down[:-1], bottom * one, down[:0:-1]])
    columns = np.concatenate([across[:-1], right * one, across[:0:-1], left * one])
    return rows, columns


def _to_crs84(crs: str, x: Points, y: Points) -> Points | None:
    """Points (n, 2) in degrees, longitude first; None where there is no way from this system."""
    try:
        with session():
            from rasterio.warp import transform

            found = transform(crs, "OGC:CRS84", x.tolist(), y.tolist())
    except GdalError:
        return None
    return np.ascontiguousarray(np.transpose(found), "<f8")


def _wraps(ring: Points) -> bool:
    return bool((np.abs(np.diff(ring[:, 0], append=ring[0, 0])) > HALF_TURN).any())

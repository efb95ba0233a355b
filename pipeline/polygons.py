"""Polygons: which pixels lie inside, and how well-known binary spells them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.types import Region

Points: TypeAlias = npt.NDArray[np.float64]
"""Corners of a ring, (n, 2), once round: the first is not there a second time."""

Polygon: TypeAlias = tuple[Points, ...]
"""An outer ring, then its holes."""

LITTLE_ENDIAN = 1
POLYGON, MULTIPOLYGON = 3, 6  # of well-known binary, ISO 19125-1


def inside(rings: Iterable[Points], box: Region) -> npt.NDArray[np.bool_]:
    """Which pixels of a box, (H, W), have their centre inside rings of (row, column) corners.

    Pixel (r, c) reaches from (r, c) to (r + 1, c + 1). Inside is where a line outwards crosses the
    rings an odd number of times, so holes and parts are rings like all others. A centre on an edge
    is inside where the edge is an upper or a right one, as in GDAL: of polygons that share an edge
    one has it. What is inside does not depend on the box.

    >>> triangle = np.array([[0.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    >>> inside([triangle], Region((0, 0), (3, 3))).astype(int).tolist()
    [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    """
    (top, left), (bottom, right) = box.start, box.stop
    crossings = np.zeros((box.shape[0], box.shape[1] + 1), np.uint8)
    for ring in rings:
        row, at = _crossings(ring, top, bottom)
        column = np.clip(np.floor(at + 0.5), left, right).astype(np.int64)
        np.add.at(crossings, (row - top, column - left), 1)
    odd = np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) & 1
    return odd.astype(np.bool_)


def _crossings(ring: Points, top: int, bottom: int) -> tuple[npt.NDArray[np.int64], Points]:
    """Where the edges of a ring cross the middles of rows: the row, and the place along it."""
    following = np.roll(ring, -1, axis=0)
    # an edge is walked downwards, so that both polygons that share it cross at the same place
    turned = (ring[:, 0] > following[:, 0])[:, None]
    upper, lower = np.where(turned, following, ring), np.where(turned, ring, following)
    first, stop = (
        np.clip(np.ceil(end[:, 0] - 0.5), top, bottom).astype(np.int64) for end in (upper, lower)
    )
    crossed = stop > first
    upper, lower, first = upper[crossed], lower[crossed], first[crossed]
    rows = stop[crossed] - first
    edge = np.repeat(np.arange(len(rows)), rows)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    slope = (lower[:, 1] - upper[:, 1]) / (lower[:, 0] - upper[:, 0])
    return row, upper[edge, 1] + (row + 0.5 - upper[edge, 0]) * slope[edge]


def to_wkb(polygons: Sequence[Polygon]) -> bytes:
    """Well-known binary, little endian, of rings of (x, y): a polygon, or several as one."""
    parts = [_polygon(rings) for rings in polygons]
    if len(parts) == 1:
        return parts[0]
    return struct.pack("<BII", LITTLE_ENDIAN, MULTIPOLYGON, len(parts)) + b"".join(parts)


def _polygon(rings: Polygon) -> bytes:
    head = struct.pack("<BII", LITTLE_ENDIAN, POLYGON, len(rings))
    closed = (np.vstack([ring, ring[:1]]).astype("<f8") for ring in rings)
    return head + b"".join(struct.pack("<I", len(ring)) + ring.tobytes() for ring in closed)


def from_wkb(data: bytes) -> tuple[Polygon, ...]:
    """The polygons, rings of (x, y), of a polygon or several in well-known binary.

    ISO and extended kinds; heights and measures are left out. Raises ValueError for anything else,
    with the name of what it is.
    """
    try:
        polygons, _ = _geometry(data, 0, (POLYGON, MULTIPOLYGON))
    except struct.error as error:
        message = "ends too early"
        raise ValueError(message) from error
    return polygons


_KINDS = ("a geometry", "a point", "a line", "a polygon", "points", "lines", "polygons")


def _geometry(data: bytes, at: int, kinds: tuple[int, ...]) -> tuple[tuple[Polygon, ...], int]:
    """The geometry at a place, one of these kinds, and the place behind it."""
    order = "<" if data[at : at + 1] == b"\1" else ">"
    (code,) = struct.unpack_from(f"{order}I", data, at + 1)
    at += 9 if code & 0x20000000 else 5  # extended: a coordinate system follows
    flags, (thousands, kind) = code >> 28, divmod(code & 0x0FFFFFFF, 1000)
    axes = 2 + (2 if thousands == 3 else bool(thousands)) + bool(flags & 8) + bool(flags & 4)
    if kind not in kinds:
        message = f"is {_KINDS[kind] if kind < len(_KINDS) else f'a geometry of kind {kind}'}"
        raise ValueError(message)
    (count,) = struct.unpack_from(f"{order}I", data, at)
    at += 4
    found: list[Polygon] = []
    rings: list[Points] = []
    for _ in range(count):
        if kind == MULTIPOLYGON:
            parts, at = _geometry(data, at, (POLYGON,))
            found += parts
        else:
            ring, at = _ring(data, at, order, axes)
            rings.append(ring)
    return (tuple(found) if kind == MULTIPOLYGON else (tuple(rings),)), at


def _ring(data: bytes, at: int, order: str, axes: int) -> tuple[Points, int]:
    (count,) = struct.unpack_from(f"{order}I", data, at)
    size = 8 * axes * count
    if len(data) < at + 4 + size:
        message = "ends too early"
        raise ValueError(message)
    flat = np.frombuffer(data, f"{order}f8", axes * count, at + 4)
    return open_ring(flat.reshape(count, axes)[:, :2]), at + 4 + size


def open_ring(ring: npt.ArrayLike) -> Points:
    """A ring without its first corner at its end."""
    points = np.array(ring, np.float64).reshape(-1, 2)
    if len(points) > 1 and (points[0] == points[-1]).all():
        return points[:-1]
    return points

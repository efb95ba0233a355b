"""Polygons against GDAL, and well-known binary against its standard."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rasterio.features import rasterize

from pipeline.polygons import Points, from_wkb, inside, to_wkb
from pipeline.types import Region

RNG = np.random.default_rng(7)
WHOLE = Region((0, 0), (20, 24))
SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])


def gdal(rings: list[Points]) -> npt.NDArray[Any]:
    """GDAL's pixels of rings of (row, column): those whose centre is inside."""
    closed = [np.vstack([ring, ring[:1]])[:, ::-1].tolist() for ring in rings]
    shape = {"type": "Polygon", "coordinates": closed}
    return rasterize([(shape, 1)], WHOLE.shape, all_touched=False).astype(bool)


def test_pixels_inside_are_those_of_gdal() -> None:
    """Also where rings cross themselves, lie in each other, or reach beyond the image."""
    for corners in RNG.integers(3, 9, 60):
        rings = [RNG.uniform(-6, 30, (corners, 2)), RNG.uniform(0, 20, (4, 2))]
        np.testing.assert_array_equal(inside(rings, WHOLE), gdal(rings))


def test_centres_on_an_edge_are_those_of_gdal() -> None:
    for _ in range(60):
        (top, left), (height, width) = RNG.integers(0, 20, 2) / 2, RNG.integers(1, 12, 2) / 2
        box = np.array(
            [(top + a, left + b) for a, b in ((0, 0), (0, width), (height, width), (height, 0))]
        )
        np.testing.assert_array_equal(inside([box], WHOLE), gdal([box]))


def test_what_is_inside_does_not_depend_on_the_box() -> None:
    rings = [RNG.uniform(-6, 30, (12, 2)), RNG.integers(0, 48, (5, 2)) / 2]
    whole = inside(rings, WHOLE)
    for start, stop in (((3, 5), (9, 24)), ((19, 0), (20, 1)), ((0, 7), (20, 8))):
        part = Region(start, stop)
        np.testing.assert_array_equal(inside(rings, part), whole[part.slices()])


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    """Triangles around a point whose corners lie on the centres of pixels."""
    rim = [(0.5, 0.5), (0.5, 12.5), (0.5, 23.5), (19.5, 23.5), (19.5, 8.5), (19.5, 0.5)]
    centre = (8.5, 10.5)
    fan = [np.array([centre, a, b]) for a, b in zip(rim, [*rim[1:], rim[0]], strict=True)]
    pieces = sum(inside([triangle], WHOLE).astype(int) for triangle in fan)
    np.testing.assert_array_equal(pieces, inside([np.array(rim)], WHOLE))


def test_well_known_binary_is_read_as_it_was_written() -> None:
    hole = SQUARE / 4 + 1
    for polygons in ([(SQUARE, hole)], [(SQUARE,), (SQUARE + 10, hole + 10)]):
        found = from_wkb(to_wkb(polygons))
        assert [len(rings) for rings in found] == [len(rings) for rings in polygons]
        for rings, expected in zip(found, polygons, strict=True):
            for ring, one in zip(rings, expected, strict=True):
                np.testing.assert_array_equal(ring, one)


@pytest.mark.parametrize(
    ("code", "axes"),
    [(3, 2), (1003, 3), (2003, 3), (3003, 4), (0x80000003, 3), (0x40000003, 3), (0xE0000003, 4)],
)
def test_well_known_binary_of_every_kind_is_read(code: int, axes: int) -> None:
    """ISO 19125's codes and those with flags: heights, measures, and a coordinate system."""
    corners = np.column_stack([np.vstack([SQUARE, SQUARE[:1]]), np.full((5, axes - 2), 7.0)])
    system = struct.pack(">I", 4326) if code & 0x20000000 else b""
    head = struct.pack(">BI", 0, code) + system + struct.pack(">II", 1, 5)
    ((ring,),) = from_wkb(head + corners.astype(">f8").tobytes())
    np.testing.assert_array_equal(ring, SQUARE)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (to_wkb([(SQUARE,)])[:-1], "ends too early"),
        (b"\1\3", "ends too early"),
        (struct.pack("<BIdd", 1, 1, 0, 0), "is a point"),
        (struct.pack("<BII", 1, 10, 0), "is a geometry of kind 10"),
        (struct.pack("<BII", 1, 6, 1) * 2000, "is polygons"),
    ],
)
def test_what_is_no_polygon_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_wkb(data)

"""The mean along a line against scipy along the axes, and against distances measured to points."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.filters.motion import Motion
from pipeline.types import Grid


def node(item, ndim=2):
    return item.responses(Grid((1.0,) * ndim))[""]


@pytest.mark.parametrize("length", [1, 3, 9])
@pytest.mark.parametrize(
    ("given", "ndim", "axis"),
    [
        ({}, 2, 1),
        ({"orientation": 90}, 2, 0),
        ({"orientation": -180}, 3, 2),
        ({"orientation": 90}, 3, 1),
        ({"elevation": 90}, 3, 0),
    ],
)
def test_along_an_axis_it_is_scipys_uniform_filter(evaluate, image, length, given, ndim, axis):
    picture = image(*(12, 9, 14)[:ndim])
    got = evaluate(node(Motion(length=length, **given), ndim), picture[None])[0]
    np.testing.assert_allclose(got, ndimage.uniform_filter1d(picture, length, axis), rtol=1e-12)


@pytest.mark.parametrize("length", [2.0, 5.0, 8.6])
@pytest.mark.parametrize(
    ("given", "towards"),
    [
        ({"orientation": 30}, (0.5, 0.75**0.5)),
        ({"orientation": 135}, (0.5**0.5, -(0.5**0.5))),
        ({"orientation": 30, "elevation": 0}, (0, 0.5, 0.75**0.5)),
        ({"orientation": 30, "elevation": 30}, (0.5, 0.75**0.5 / 2, 0.75)),
    ],
)
def test_weights_fall_with_the_distance_from_the_segment(length, given, towards):
    """The segment as 200 001 points, in (z,) y, x, y down.

    MATLAB's documentation defines it so; its code differs between right angles, and no library
    with this kernel is known.
    """
    taps = np.pad(node(Motion(length=length, **given), len(towards)).kernel.array, 1)
    points = np.linspace(-1, 1, 200_001)[:, None] * np.array(towards) * (length - 1) / 2
    pixels = np.argwhere(np.ones_like(taps)) - np.array(taps.shape) // 2
    distance, _ = scipy.spatial.cKDTree(points).query(pixels)
    wanted = np.maximum(1 - distance, 0).reshape(taps.shape)
    np.testing.assert_allclose(taps, wanted / wanted.sum(), rtol=0, atol=1e-5)


def test_the_largest_of_many_directions_keeps_a_line_of_any(evaluate):
    y, x = np.mgrid[-20:21, -20:21].astype(float)
    item = Motion(length=15, orientations=12, pool="max")
    for angle in (0, 45, 105):
        line = np.abs(x * np.sin(np.radians(angle)) - y * np.cos(np.radians(angle))) < 0.5
        got = evaluate(node(item), line[None].astype(float))[0, 20, 20]
        across = Motion(length=15, orientation=angle + 90)
        assert got > 4 * evaluate(node(across), line[None].astype(float))[0, 20, 20]
        along = Motion(length=15, orientation=angle)
        assert got == evaluate(node(along), line[None].astype(float))[0, 20, 20]


def test_lengths_are_divided_by_the_spacing():
    coarse = Motion(length=8, orientation=20).responses(Grid((2.0, 2.0), "mm"))
    assert coarse[""] == node(Motion(length=4, orientation=20))


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Motion(length=3), Grid((1.0,)), "motion needs 2 or 3 axes"),
        (Motion(length=3), Grid((2.0, 1.0), "mm"), r"equal edges .got spacing \(2.0, 1.0\)"),
        (Motion(length=3, elevation=5), Grid((1.0, 1.0)), "elevation=5 needs volumes"),
        (Motion(length=1e300, orientation=45), Grid((1.0, 1.0)), "too large"),
    ],
)
def test_what_a_grid_has_not_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)


def test_a_pool_needs_a_count():
    with pytest.raises(ValueError, match="add orientations: 8"):
        Motion(length=3, pool="max")

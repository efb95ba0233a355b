"""Local binary patterns against scikit-image, and against the first paper's 3 x 3 rule."""

from __future__ import annotations

import numpy as np
import pytest
from second_order import compute
from skimage import feature

from pipeline.bank.expr import reach_of
from pipeline.errors import PlanError
from pipeline.filters.lbp import LocalBinaryPattern
from pipeline.types import Grid

FLAT = Grid((1.0, 1.0))
METHODS = pytest.mark.parametrize("method", ["default", "ror", "uniform", "nri_uniform"])


def whole_numbers(*shape: int) -> np.ndarray:
    """All different, so that no two neighbours are equal."""
    return np.random.default_rng(3).permutation(np.prod(shape)).reshape(shape)


def skimage(picture, points, radius, method="default"):
    return feature.local_binary_pattern(picture, points, radius, method)


@METHODS
@pytest.mark.parametrize(("points", "radius"), [(8, 1), (4, 1), (7, 1.5), (12, 2.5), (16, 2)])
def test_codes_equal_skimage_up_to_the_border(method, points, radius):
    picture = whole_numbers(31, 37)
    item = LocalBinaryPattern(points=points, radius=radius, method=method)
    wanted = skimage(picture, points, radius, method)
    np.testing.assert_array_equal(compute(item, picture, "constant"), wanted)


@pytest.mark.parametrize("method", ["default", "uniform"])
def test_24_points_equal_skimage(method):
    picture = whole_numbers(31, 37)
    item = LocalBinaryPattern(points=24, radius=3, method=method)
    np.testing.assert_array_equal(
        compute(item, picture, "constant"), skimage(picture, 24, 3, method)
    )


@METHODS
def test_every_pattern_of_8_is_named_as_in_skimage(method):
    """All 256 codes, each once, as the neighbours of a centre."""
    codes = np.arange(256)
    picture = np.zeros((3, 3 * 256), int)
    for k, (row, column) in enumerate(RING):
        picture[1 + row, 1 + column :: 3] = np.where(codes >> k & 1, 10, -10)
    item = LocalBinaryPattern(method=method, interpolation="nearest")
    got = compute(item, picture, "constant")[1, 1::3]
    np.testing.assert_array_equal(got, skimage(widened(picture), 8, 1, method)[1, 1::3])
    if method == "default":
        np.testing.assert_array_equal(got, codes)
    assert (
        len(np.unique(got)) == {"default": 256, "ror": 36, "uniform": 10, "nri_uniform": 59}[method]
    )


RING = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
"""The 3 x 3 neighbours, from the right and counter-clockwise."""


def widened(picture):
    """Corners so large that they decide what scikit-image interpolates towards them."""
    wide = picture.copy()
    wide[::2, ::3] *= 1000
    wide[::2, 2::3] *= 1000
    return wide


def test_the_nearest_pixels_are_those_of_the_first_paper():
    picture = np.random.default_rng(4).integers(0, 5, (20, 23)).astype(float)
    inner = picture[1:-1, 1:-1]
    wanted = np.zeros(inner.shape)
    for k, (row, column) in enumerate(RING):
        wanted += 2**k * (np.roll(picture, (-row, -column), (0, 1))[1:-1, 1:-1] >= inner)
    got = compute(LocalBinaryPattern(interpolation="nearest"), picture, "reflect")
    np.testing.assert_array_equal(got[1:-1, 1:-1], wanted)


@pytest.mark.parametrize("value", [0.0, 0.1, 255.0, 1e6 / 3])
def test_a_flat_image_is_all_ones_whatever_its_value(value):
    for points, radius in ((8, 1), (12, 2.3)):
        item = LocalBinaryPattern(points=points, radius=radius)
        assert (compute(item, np.full((9, 11), value), "reflect") == 2**points - 1).all()


@METHODS
def test_brighter_or_stronger_images_have_the_same_codes(method):
    picture = whole_numbers(20, 23)
    item = LocalBinaryPattern(points=12, radius=1.7, method=method)
    np.testing.assert_array_equal(
        compute(item, picture, "reflect"), compute(item, 4 * picture + 1000, "reflect")
    )


@pytest.mark.parametrize("method", ["ror", "uniform"])
def test_rotation_invariant_codes_turn_with_the_image(method):
    picture = whole_numbers(21, 21)
    item = LocalBinaryPattern(method=method)
    got, turned = (compute(item, p, "reflect") for p in (picture, np.rot90(picture).copy()))
    np.testing.assert_array_equal(turned, np.rot90(got))


def test_the_radius_is_a_length():
    (node,) = LocalBinaryPattern(points=4, radius=6).responses(Grid((3.0, 2.0))).values()
    assert reach_of(node, 2) == ((2, 2), (3, 3))


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (LocalBinaryPattern(), Grid((1.0,) * 3), r"needs 2-D images .*rank: 2"),
        (LocalBinaryPattern(radius=1e9), FLAT, "over 1024 pixels"),
        (LocalBinaryPattern(radius=0.3, interpolation="nearest"), FLAT, "lies within a pixel"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"points": 25}, "less than or equal to 24"),
        ({"points": 24, "method": "ror"}, "16 points at most"),
        ({"method": "var"}, "nri_uniform"),
    ],
)
def test_values_out_of_range_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        LocalBinaryPattern(**given)

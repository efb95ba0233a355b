"""Gradients, Roberts and compasses against scikit-image, OpenCV and published tables."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import cv2
import numpy as np
import pytest
import scipy
from scipy import ndimage
from skimage import filters

from pipeline.errors import PlanError
from pipeline.filters.farid import SECOND, Farid
from pipeline.filters.kirsch import Kirsch
from pipeline.filters.prewitt import Prewitt
from pipeline.filters.prewitt_compass import PrewittCompass
from pipeline.filters.roberts import Roberts
from pipeline.filters.robinson import Robinson
from pipeline.filters.scharr import Scharr
from pipeline.filters.sobel import Sobel
from pipeline.types import Grid

ROUNDING = 1e-12
PUBLISHED = 2e-6  # tables of six decimals
SHAPES = {1: (31,), 2: (19, 24), 3: (9, 12, 11)}
MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]


def node(item, ndim=2):
    (found,) = item.responses(Grid((1.0,) * ndim)).values()
    return found


def taps(item, ndim=2):
    return node(item, ndim).kernel.array


@pytest.fixture
def respond(evaluate, image):
    """(response, image) of a filter on a random image of some rank."""

    def run(item, ndim=2, mode="reflect"):
        picture = image(*SHAPES[ndim])
        return evaluate(node(item, ndim), picture[None], mode)[0], picture

    return run


def close(got, wanted, tolerance=ROUNDING):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def reach(ndim, size):
    """Offsets of a window's taps: one array per axis."""
    return np.indices((size,) * ndim) - size // 2


# ---------------------------------------------------------------- gradients
@pytest.mark.parametrize("size", [3, 5, 7])
def test_sobel_has_opencvs_taps(size):
    for name, (dx, dy) in {"x": (1, 0), "y": (0, 1)}.items():
        along_x, along_y = (k.ravel() for k in cv2.getDerivKernels(dx, dy, size, False, cv2.CV_64F))
        assert np.array_equal(taps(Sobel(size=size, output=name)), np.outer(along_y, along_x))


@pytest.mark.parametrize("size", [3, 5, 7])
def test_sobel_equals_opencv(respond, size):
    got, picture = respond(Sobel(size=size, output="y"), mode="mirror")
    close(got, cv2.Sobel(picture, cv2.CV_64F, 0, 1, ksize=size, borderType=cv2.BORDER_REFLECT_101))


def test_scharr_equals_opencv(respond):
    got, picture = respond(Scharr(output="x"))
    close(got, cv2.Scharr(picture, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REFLECT))


def test_scharrs_five_taps_are_the_published_ones():
    """As VIGRA 2 prints them: initOptimalFirstDerivative5 and its smoothing."""
    smooth, slope = [0.0231, 0.2413, 0.4712, 0.2413, 0.0231], [-0.0831, -0.3338, 0, 0.3338, 0.0831]
    got = taps(Scharr(size=5, output="x"))
    np.testing.assert_allclose(got.sum(0), slope, rtol=0, atol=5.1e-5)
    np.testing.assert_allclose(got @ [-0.5, 0, 0, 0, 0.5] / slope[-1], smooth, rtol=0, atol=3e-4)


@pytest.mark.parametrize(("item", "degrees"), [(Sobel, 3.25), (Scharr, 0.31)])
def test_the_direction_of_a_wave_of_four_pixels(item, degrees):
    assert 0.9 * degrees < direction_error(item()) < degrees


def test_scharrs_five_taps_have_the_truest_direction():
    """What they were optimised for."""
    best = direction_error(Scharr(size=5))
    assert best < 0.0085
    assert best < direction_error(Farid(size=5)) / 15
    assert best < direction_error(Sobel(size=5)) / 300


def direction_error(item):
    """Of the gradient of plane waves of 4 to 20 pixels in all directions; degrees."""
    found = [taps(replace(item, output=axis)) for axis in "yx"]
    offsets = reach(2, found[0].shape[0])
    worst = 0.0
    for length in (4, 5, 8, 20):
        for angle in np.linspace(0, np.pi / 2, 46):
            phase = 2 * np.pi / length * np.tensordot([np.sin(angle), np.cos(angle)], offsets, 1)
            gy, gx = ((kernel * np.sin(phase)).sum() for kernel in found)
            worst = max(worst, abs(np.arctan2(gy, gx) - angle))
    return np.degrees(worst)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("family", "oracle"),
    [(Sobel, "sobel"), (Prewitt, "prewitt"), (Scharr, "scharr")],
)
def test_scikit_image_gives_twice_the_normalised_components(respond, family, oracle, ndim):
    """Its magnitude is the root mean square of them."""
    for axis, name in enumerate("zyx"[-ndim:]):
        got, picture = respond(family(output=name, normalize=True), ndim)
        close(2 * got, getattr(filters, oracle)(picture, axis=axis))
    got, picture = respond(family(normalize=True), ndim)
    close(2 * got / np.sqrt(ndim), getattr(filters, oracle)(picture))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_farid_equals_scikit_image(respond, ndim, mode):
    for axis, name in enumerate("zyx"[-ndim:]):
        got, picture = respond(Farid(output=name), ndim, mode)
        close(got, filters.farid(picture, axis=axis, mode=mode))
    got, picture = respond(Farid(), ndim, mode)
    close(got / np.sqrt(ndim), filters.farid(picture, mode=mode))


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_normalised_prewitt_is_the_slope_of_the_best_plane(ndim, size):
    place = reach(ndim, size).reshape(ndim, -1)
    plane = np.linalg.pinv(np.stack([np.ones(size**ndim), *place], axis=1))
    got = taps(Prewitt(size=size, output="x", normalize=True), ndim)
    close(got.ravel(), plane[-1])
    if ndim == 1:
        close(got, scipy.signal.savgol_coeffs(size, 1, deriv=1, use="dot"))


FAMILIES = [
    *(Sobel(size=n, output="x", normalize=True) for n in (3, 5, 7)),
    *(Prewitt(size=n, output="x", normalize=True) for n in (3, 5, 7)),
    *(Farid(size=n, output="x", normalize=True) for n in (3, 5, 7)),
    Scharr(output="x", normalize=True),
]


@pytest.mark.parametrize("item", FAMILIES, ids=str)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_normalised_gradients_give_1_along_their_axis_and_0_across_it(item, ndim):
    got = taps(item, ndim)
    slopes = (reach(ndim, got.shape[0]) * got).reshape(ndim, -1).sum(axis=1)
    np.testing.assert_allclose(slopes, [0] * (ndim - 1) + [1], atol=1e-14)
    assert abs(got.sum()) < 1e-14


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_rotation_invariant_component_is_the_largest_of_all_components(respond, ndim):
    got, picture = respond(Sobel(output="x", rotation_invariant="max"), ndim)
    close(got, np.max([np.abs(ndimage.sobel(picture, axis)) for axis in range(ndim)], axis=0))


# ---------------------------------------------------------------- Farid and Simoncelli
PAPER = {  # table 1: size, p, d1, d2 as the paper's correlations, all taps
    ("x", 3): ([0.229879, 0.540242, 0.229879], [-0.425287, 0, 0.425287]),
    ("x", 5): (
        [0.037659, 0.249153, 0.426375, 0.249153, 0.037659],
        [-0.109604, -0.276691, 0, 0.276691, 0.109604],
    ),
    ("x", 7): (
        [0.004711, 0.069321, 0.245410, 0.361117, 0.245410, 0.069321, 0.004711],
        [-0.018708, -0.125376, -0.193091, 0, 0.193091, 0.125376, 0.018708],
    ),
    ("xx", 5): (
        [0.030320, 0.249724, 0.439911, 0.249724, 0.030320],
        [0.232905, 0.002668, -0.471147, 0.002668, 0.232905],
    ),
    ("xx", 7): (
        [0.004711, 0.069321, 0.245410, 0.361117, 0.245410, 0.069321, 0.004711],
        [0.055336, 0.137778, -0.056554, -0.273118, -0.056554, 0.137778, 0.055336],
    ),
}


@pytest.mark.parametrize(("output", "size"), PAPER)
def test_farid_has_the_published_taps(output, size):
    across, along = PAPER[output, size]
    np.testing.assert_allclose(
        taps(Farid(size=size, output=output)), np.outer(across, along), rtol=0, atol=PUBLISHED
    )


@pytest.mark.parametrize("size", [5, 7])
def test_farids_second_derivatives_are_matched_to_their_prefilter(size):
    """In frequency: D1 = i w P and D2 = -w^2 P as far as the taps allow, which a slip would end."""
    w = np.linspace(0, np.pi, 50)
    waves = np.exp(1j * np.outer(w, np.arange(size) - size // 2))
    p, d1 = SECOND[size][:2]
    prefilter = waves @ np.array([*p[:0:-1], *p])
    first = waves @ np.array([*(-t for t in d1[::-1]), 0, *d1])
    second = waves @ taps(Farid(size=size, output="xx"), 1)
    error = {5: 0.025, 7: 0.002}[size]
    assert np.abs(first - 1j * w * prefilter).max() < error
    assert np.abs(second + w**2 * prefilter).max() < error


def test_farids_second_derivatives_are_those_of_a_quadratic(evaluate):
    z, y, x = np.indices((9, 9, 9)) - 4.0
    picture = 3 * x**2 + 5 * x * y - 2 * y * z + z**2 + 7 * x + 11
    wanted = {"xx": 6, "yy": 0, "zz": 2, "xy": 5, "yz": -2, "xz": 0}
    for (name, value), size in product(wanted.items(), (5, 7)):
        got = evaluate(node(Farid(size=size, output=name, normalize=True), 3), picture[None])
        np.testing.assert_allclose(got[0, 4, 4, 4], value, atol=1e-12)


def test_three_taps_have_no_second_derivative():
    with pytest.raises(ValueError, match=r"output: xy needs 5 or 7 taps .got 3.; set size: 5"):
        Farid(size=3, output="xy")


# ---------------------------------------------------------------- Roberts
@pytest.mark.parametrize(
    ("output", "oracle"),
    [("diagonal", "roberts_pos_diag"), ("antidiagonal", "roberts_neg_diag")],
)
def test_roberts_differences_equal_scikit_image(respond, output, oracle):
    got, picture = respond(Roberts(output=output))
    close(got, getattr(filters, oracle)(picture))


def test_normalised_roberts_equals_scikit_image(respond):
    got, picture = respond(Roberts(normalize=True))
    close(got, filters.roberts(picture))
    raw, _ = respond(Roberts())
    close(raw, np.sqrt(2) * filters.roberts(picture))


# ---------------------------------------------------------------- compass
KIRSCH = {  # by the side of the large weights; Kirsch 1971, as printed in textbooks
    "n": [[5, 5, 5], [-3, 0, -3], [-3, -3, -3]],
    "nw": [[5, 5, -3], [5, 0, -3], [-3, -3, -3]],
    "w": [[5, -3, -3], [5, 0, -3], [5, -3, -3]],
    "sw": [[-3, -3, -3], [5, 0, -3], [5, 5, -3]],
    "s": [[-3, -3, -3], [-3, 0, -3], [5, 5, 5]],
    "se": [[-3, -3, -3], [-3, 0, 5], [-3, 5, 5]],
    "e": [[-3, -3, 5], [-3, 0, 5], [-3, -3, 5]],
    "ne": [[-3, 5, 5], [-3, 0, 5], [-3, -3, -3]],
}
ROBINSON_5 = {
    "n": [[1, 2, 1], [0, 0, 0], [-1, -2, -1]],
    "nw": [[2, 1, 0], [1, 0, -1], [0, -1, -2]],
    "w": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "sw": [[0, -1, -2], [1, 0, -1], [2, 1, 0]],
    "s": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "se": [[-2, -1, 0], [-1, 0, 1], [0, 1, 2]],
    "e": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "ne": [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]],
}
ROBINSON_3 = {direction: np.sign(weights) for direction, weights in ROBINSON_5.items()}
PREWITT = {  # as in the Hypermedia Image Processing Reference; w is ee.Kernel.compass
    "n": [[1, 1, 1], [1, -2, 1], [-1, -1, -1]],
    "nw": [[1, 1, 1], [1, -2, -1], [1, -1, -1]],
    "w": [[1, 1, -1], [1, -2, -1], [1, 1, -1]],
    "sw": [[1, -1, -1], [1, -2, -1], [1, 1, 1]],
    "s": [[-1, -1, -1], [1, -2, 1], [1, 1, 1]],
    "se": [[-1, -1, 1], [-1, -2, 1], [1, 1, 1]],
    "e": [[-1, 1, 1], [-1, -2, 1], [-1, 1, 1]],
    "ne": [[1, 1, 1], [-1, -2, 1], [-1, -1, 1]],
}
COMPASSES = [
    (Kirsch, {}, KIRSCH),
    (Robinson, {}, ROBINSON_5),
    (Robinson, {"levels": 3}, ROBINSON_3),
    (PrewittCompass, {}, PREWITT),
]
CLOCKWISE = ["e", "se", "s", "sw", "w", "nw", "n", "ne"]


@pytest.mark.parametrize(("family", "given", "table"), COMPASSES)
def test_compass_kernels_are_the_published_ones(family, given, table):
    for direction, weights in table.items():
        assert np.array_equal(taps(family(output=direction, **given)), weights)


@pytest.mark.parametrize(("family", "given", "table"), COMPASSES)
def test_compass_maps_equal_opencvs_responses(respond, family, given, table):
    got, picture = respond(family(**given))
    where, _ = respond(family(output="argmax", **given))
    parts = [
        cv2.filter2D(picture, cv2.CV_64F, np.array(table[name], float), borderType=2)
        for name in CLOCKWISE
    ]
    close(got, np.max(parts, axis=0))
    assert np.array_equal(where, np.argmax(parts, axis=0))


def test_the_compass_turns_as_the_orientation_of_a_gradient(evaluate):
    """argmax k is k eighths of a turn, clockwise on the screen, as sobel's orientation."""
    y, x = np.indices((5, 5)) - 2.0
    for k in range(8):
        picture = np.cos(k * np.pi / 4) * x + np.sin(k * np.pi / 4) * y
        for family in (Kirsch, Robinson, PrewittCompass):
            assert evaluate(node(family(output="argmax")), picture[None])[0, 2, 2] == k


@pytest.mark.parametrize(("family", "gain"), [(Kirsch, 24), (Robinson, 8), (PrewittCompass, 6)])
def test_a_normalised_compass_gives_1_on_a_ramp(family, gain):
    for output, sign in (("e", 1), ("w", -1)):
        unit, raw = (taps(family(output=output, normalize=n)) for n in (True, False))
        np.testing.assert_allclose((reach(2, 3)[1] * unit).sum(), sign, rtol=1e-14)
        close(unit * gain, raw)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize("family", [Kirsch, Robinson, PrewittCompass, Roberts])
def test_families_of_two_axes_refuse_volumes(family):
    with pytest.raises(PlanError, match=r"needs 2-D images, these have 3 axes; filter slice by sl"):
        node(family(), 3)


@pytest.mark.parametrize("output", ["magnitude", "orientation"])
def test_only_components_are_pooled_over_rotations(output):
    with pytest.raises(PlanError, match=rf"output: {output} cannot be pooled .* take a component"):
        node(Sobel(output=output, rotation_invariant="max"))

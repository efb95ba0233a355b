"""Gaussians and their derivatives against other libraries and written-out formulas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy
from scale_space import CONVENTIONS, CT, close, node, taps
from scipy import ndimage, special

from pipeline.bank.passes import factor
from pipeline.errors import PlanError
from pipeline.filters.gaussian import Gaussian
from pipeline.filters.hessian import Hessian
from pipeline.types import Grid


# ---------------------------------------------------------------- derivatives
@pytest.mark.parametrize(
    ("word", "orders"),
    [
        ("x", (1,)),
        ("xxxxxxxxxx", (10,)),
        ("xy", (1, 1)),
        ("yx", (1, 1)),
        ("xxy", (1, 2)),
        ("yyyyyy", (6, 0)),
        ("xyz", (1, 1, 1)),
        ("zzx", (2, 0, 1)),
        ("xzzy", (2, 1, 1)),
    ],
)
def test_mixed_derivatives_of_any_order_equal_scipy(respond, word, orders):
    got, picture = respond(Gaussian(sigma=1.3, derivative=word), len(orders))
    close(got, ndimage.gaussian_filter(picture, 1.3, orders))


def test_lengths_of_a_derivative_follow_an_anisotropic_spacing(respond):
    got, picture = respond(Gaussian(sigma=3.0, derivative="xz"), CT)
    close(got, ndimage.gaussian_filter(picture, (1.0, 1.5, 2.0), (1, 0, 1)))


def test_order_and_axis_say_what_derivative_says():
    for axis in "xyz":
        for order in range(5):
            one, other = (
                Gaussian(sigma=1.3, order=order, axis=axis),
                Gaussian(sigma=1.3, derivative=axis * order or None),
            )
            assert node(one, 3) == node(other, 3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.5, 0.5)], ids=["square", "oblong"])
@pytest.mark.parametrize("sigma", [2.0, 3.0, 4.5])
def test_scale_normalised_derivatives_have_the_continuous_theorys_value(evaluate, spacing, sigma):
    """Of a Gaussian blob of width s: sigma^2 L_xx = -(sigma / w)^2 (s / w)^2 at its centre,
    sigma^4 L_xxyy = (sigma / w)^4 (s / w)^2, with w^2 = s^2 + sigma^2."""
    s, grid = 3.0, Grid(spacing, "mm")
    y, x = (np.arange(-90, 91) * step for step in spacing)
    blob = np.exp(-(y[:, None] ** 2 + x**2) / (2 * s**2))[None]
    width = np.hypot(s, sigma)
    for word, power in (("xx", 2), ("yy", 2), ("xxyy", 4)):
        item = Gaussian(sigma=sigma, derivative=word, scale_normalized=True, truncate=6)
        got = evaluate(factor(node(item, grid)), blob)[0, 90, 90]
        wanted = (-1) ** (power // 2) * (sigma / width) ** power * (s / width) ** 2
        assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("word", "turned"),
    [
        ("x", [(0, 1), (1, 0)]),
        ("yyy", [(0, 3), (3, 0)]),
        ("xy", [(1, 1)]),
        ("x", [(0, 0, 1), (0, 1, 0), (1, 0, 0)]),
        ("xy", [(0, 1, 1), (1, 0, 1), (1, 1, 0)]),
    ],
)
def test_the_largest_over_rotations_is_the_largest_absolute_derivative(respond, word, turned):
    """Where some rotation turns the derivative into its negative."""
    got, picture = respond(
        Gaussian(sigma=1.2, derivative=word, rotation_invariant="max"), len(turned[0])
    )
    close(got, np.max([np.abs(ndimage.gaussian_filter(picture, 1.2, n)) for n in turned], axis=0))


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_mean_over_rotations_of_a_second_derivative_is_the_laplacian_over_d(respond, ndim):
    got, picture = respond(Gaussian(sigma=1.2, derivative="yy", rotation_invariant="mean"), ndim)
    close(got, ndimage.gaussian_laplace(picture, 1.2) / ndim)


# ---------------------------------------------------------------- from Gaussian to taps
@pytest.mark.parametrize(("sigma", "total"), [(0.3, 1.7958), (0.5, 1.0290), (2.0, 0.99996)])
def test_ibsi_taps_are_not_divided_by_their_sum(sigma, total):
    """Neither are MIRP's; the totals are those measured of its 2-D kernels."""
    found = taps(Gaussian(sigma=sigma, convention="ibsi"))
    x = np.arange(found.size) - found.size // 2
    close(found, np.exp(-(x**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma))
    assert taps(Gaussian(sigma=sigma, convention="ibsi"), 2).sum() == pytest.approx(total, abs=5e-5)


SIGMAS = [0.1, 0.3, 0.6, 1.0, 1.3, 2.0, 2.0625, 2.1, 2.3125, 3.1, 7.7]
"""Between them the places where the rules of scipy and OpenCV round apart, halves included."""


@pytest.mark.parametrize("sigma", SIGMAS)
def test_opencv_taps_are_those_of_its_gaussian_blur(sigma, evaluate, image):
    found = taps(Gaussian(sigma=sigma, convention="opencv"))
    close(found, cv2.getGaussianKernel(found.size, sigma)[:, 0])
    picture = image(40, 31)
    blurred = cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    got = evaluate(node(Gaussian(sigma=sigma, convention="opencv"), 2), picture[None])[0]
    close(got, blurred)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_opencv_taps_cut_at_3_have_the_size_for_8_bits(sigma):
    size = taps(Gaussian(sigma=sigma, truncate=3, convention="opencv")).size
    picture = np.random.default_rng(3).integers(0, 256, (80, 80), dtype=np.uint8)
    automatic = cv2.GaussianBlur(picture, (0, 0), sigma)
    np.testing.assert_array_equal(automatic, cv2.GaussianBlur(picture, (size, size), sigma))


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.3])
def test_integrated_taps_are_the_means_over_the_pixels(sigma):
    found = taps(Gaussian(sigma=sigma, convention="integrated"))
    r = found.size // 2
    edges = (np.arange(-r, r + 2) - 0.5) / sigma
    close(found, np.diff(special.ndtr(edges)) / (special.ndtr(edges[-1]) - special.ndtr(edges[0])))


DERIVATIVES = [
    lambda x, s: np.exp(-(x**2) / (2 * s**2)),
    lambda x, s: -x / s**2 * np.exp(-(x**2) / (2 * s**2)),
    lambda x, s: (x**2 / s**4 - 1 / s**2) * np.exp(-(x**2) / (2 * s**2)),
    lambda x, s: (3 * x / s**4 - x**3 / s**6) * np.exp(-(x**2) / (2 * s**2)),
]
"""Of exp(-x^2 / 2 s^2), by hand."""


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_integrated_derivatives_equal_numerical_quadrature(order):
    sigma = 0.8
    found = taps(Gaussian(sigma=sigma, order=order, axis="x", convention="integrated"))
    r = found.size // 2
    area = scipy.integrate.quad(DERIVATIVES[0], -r - 0.5, r + 0.5, (sigma,), epsabs=1e-13)[0]
    means = [
        scipy.integrate.quad(DERIVATIVES[order], k - 0.5, k + 0.5, (sigma,), epsabs=1e-13)[0]
        for k in range(-r, r + 1)
    ]
    close(found[::-1], np.array(means) / area)  # taps are as applied: correlating


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_ibsi_derivatives_are_the_formulas_at_whole_pixels(order):
    sigma = 1.7
    found = taps(Gaussian(sigma=sigma, order=order, axis="x", convention="ibsi"))
    x = np.arange(found.size) - found.size // 2.0
    close(found[::-1], DERIVATIVES[order](x, sigma) / (np.sqrt(2 * np.pi) * sigma))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0])
def test_integration_adds_a_twelfth_to_the_variance(sigma):
    found = taps(Gaussian(sigma=sigma, convention="integrated", truncate=9))
    x = np.arange(found.size) - found.size // 2
    assert (found * x**2).sum() == pytest.approx(sigma**2 + 1 / 12, abs=1e-3)


@pytest.mark.parametrize("how", CONVENTIONS)
def test_smoothing_keeps_a_constant_image_unless_ibsi(how):
    total = taps(Gaussian(sigma=0.6, convention=how), 3).sum()
    assert (abs(total - 1) < 1e-14) == (how != "ibsi")


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"derivative": "xw"}, "made of the axes x, y and z, such as xx or xy"),
        ({"derivative": ""}, "made of the axes"),
        ({"derivative": "x" * 11}, "at most 10 characters"),
        ({"derivative": "x", "order": 1, "axis": "x"}, "give it or them"),
        ({"order": 11, "axis": "x"}, "less than or equal to 10"),
        ({"convention": "itk"}, "'scipy', 'ibsi', 'opencv' or 'integrated'"),
    ],
)
def test_parameters_that_contradict_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        Gaussian(sigma=1, **given)


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Gaussian(sigma=1, derivative="xz"), 2, "no axis 'z' .2 axes.; choose from: x, y"),
        (Gaussian(sigma=3, rotation_invariant="max"), CT, r"equal edges .got spacing \(3.0, 2.0"),
        (Gaussian(sigma=1e300, convention="opencv", truncate=1e300), 2, "too large"),
    ],
)
def test_what_a_grid_has_not_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        node(item, grid)


def test_a_derivative_without_room_for_a_slope_is_refused():
    """Its taps would be 0, and every map of it: a silent nothing."""
    for item in (Gaussian(sigma=0.12, derivative="x"), Hessian(sigma=0.12, output="xx")):
        with pytest.raises(PlanError, match="0 everywhere: give a larger sigma"):
            item.responses(Grid((1.0, 1.0)))

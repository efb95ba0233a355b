"""The analytic families against scipy.ndimage in float64 (tolerance: rounding)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.filters.gaussian import Gaussian
from pipeline.filters.identity import Identity
from pipeline.filters.laplacian import Laplacian
from pipeline.filters.log import LaplacianOfGaussian
from pipeline.filters.mean import Mean
from pipeline.filters.prewitt import Prewitt
from pipeline.filters.scharr import Scharr
from pipeline.filters.sobel import Sobel
from pipeline.types import Grid

ROUNDING = 1e-10
MODES = ["reflect", "mirror", "nearest", "constant", "wrap"]
SHAPES = {1: (31,), 2: (19, 24), 3: (9, 12, 11)}
AXES = [(1, "x", 0), (2, "x", 1), (2, "y", 0), (3, "x", 2), (3, "y", 1), (3, "z", 0)]


def pixels(ndim):
    return Grid((1.0,) * ndim)


def only(found):
    assert list(found) == [""]
    return found[""]


@pytest.fixture
def respond(evaluate, image):
    """(response, image) of a filter on a random image of some rank."""

    def run(item, ndim=2, mode="reflect", grid=None):
        picture = image(*SHAPES[ndim])
        node = only(item.responses(grid or pixels(ndim)))
        return evaluate(node, picture[None], mode)[0], picture

    return run


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("ndim", "name", "axis"), AXES)
@pytest.mark.parametrize(("family", "oracle"), [(Sobel, ndimage.sobel), (Prewitt, ndimage.prewitt)])
def test_gradient_components_equal_scipy(respond, family, oracle, ndim, name, axis, mode):
    got, picture = respond(family(output=name), ndim, mode)
    close(got, oracle(picture, axis, mode=mode))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_magnitude_is_the_default_and_joins_every_axis(respond, ndim):
    got, picture = respond(Sobel(), ndim)
    close(got, np.sqrt(sum(ndimage.sobel(picture, a) ** 2 for a in range(ndim))))


def test_orientation_is_atan2_of_y_and_x(respond):
    got, picture = respond(Prewitt(output="orientation"))
    close(got, np.arctan2(ndimage.prewitt(picture, 0), ndimage.prewitt(picture, 1)))


@pytest.mark.parametrize(("family", "gain"), [(Sobel, 8), (Prewitt, 6), (Scharr, 32)])
def test_a_ramp_gives_the_documented_gain_or_one_when_normalised(evaluate, family, gain):
    ramp = np.tile(np.arange(8.0), (7, 1))[None]
    raw = evaluate(only(family(output="x").responses(pixels(2))), ramp)
    unit = evaluate(only(family(output="x", normalize=True).responses(pixels(2))), ramp)
    np.testing.assert_array_equal(raw[0, :, 1:-1], gain)
    np.testing.assert_allclose(unit[0, :, 1:-1], 1, rtol=1e-14)


def test_scharr_has_3_10_3_across():
    taps = only(Scharr(output="y").responses(pixels(2))).kernel.array
    np.testing.assert_array_equal(taps, np.outer([-1, 0, 1], [3, 10, 3]))


@pytest.mark.parametrize(
    ("item", "ndim", "text"),
    [
        (Sobel(output="z"), 2, "no axis 'z' .2 axes.; choose from: x, y"),
        (Scharr(output="y"), 1, "no axis 'y'"),
        (Prewitt(output="orientation"), 3, "needs 2-D images, these have 3 axes"),
        (Gaussian(sigma=1, order=1, axis="z"), 2, "no axis 'z'"),
        (Laplacian(neighbours=6), 2, "neighbours=6 does not exist in 2-D; choose from: 4, 8"),
        (Gaussian(sigma=0.05), 2, "sigma=0.05 is 0.05 pixels .*less than 0.1"),
        (Gaussian(sigma=1e6), 2, "8000001x8000001 taps is too large"),
        (LaplacianOfGaussian(sigma=1e300, truncate=1e300), 2, "too large"),
        (Mean(size=10**6), 3, "too large .*check the units"),
    ],
)
def test_what_a_grid_has_not_is_a_plan_error(item, ndim, text):
    with pytest.raises(PlanError, match=text):
        item.responses(pixels(ndim))


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_laplacian_equals_scipy(respond, ndim, mode):
    got, picture = respond(Laplacian(), ndim, mode)
    close(got, ndimage.laplace(picture, mode=mode))


@pytest.mark.parametrize(
    ("ndim", "count", "gain"), [(2, 4, 1), (2, 8, 3), (3, 6, 1), (3, 18, 5), (3, 26, 9)]
)
def test_laplacian_of_a_parabola_gives_the_documented_gain(evaluate, ndim, count, gain):
    picture = np.broadcast_to(np.arange(7.0) ** 2 / 2, (7,) * ndim)[None]
    got = evaluate(only(Laplacian(neighbours=count).responses(pixels(ndim))), picture)
    np.testing.assert_allclose(got[(0, *[slice(1, -1)] * ndim)], gain)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.6, 4.0), (1.5, 4.0), (1.1, 2.7)])
def test_gaussian_equals_scipy(respond, ndim, sigma, truncate, mode):
    got, picture = respond(Gaussian(sigma=sigma, truncate=truncate), ndim, mode)
    close(got, ndimage.gaussian_filter(picture, sigma, truncate=truncate, mode=mode))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(("ndim", "name", "axis"), AXES)
def test_gaussian_derivatives_equal_scipy(respond, ndim, name, axis, order):
    got, picture = respond(Gaussian(sigma=1.3, order=order, axis=name), ndim)
    orders = [order if i == axis else 0 for i in range(ndim)]
    close(got, ndimage.gaussian_filter(picture, 1.3, orders))


def test_gaussian_lengths_follow_an_anisotropic_spacing(respond):
    got, picture = respond(Gaussian(sigma=3.0), 3, grid=Grid((3.0, 2.0, 1.5), "mm"))
    close(got, ndimage.gaussian_filter(picture, (1.0, 1.5, 2.0)))


def test_a_derivative_without_an_axis_is_refused():
    with pytest.raises(ValueError, match="order=2 needs an axis; add axis: x, y or z"):
        Gaussian(sigma=1, order=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_mean_equals_scipy_for_odd_and_even_sizes(respond, ndim, size, mode):
    got, picture = respond(Mean(size=size), ndim, mode)
    close(got, ndimage.uniform_filter(picture, size, mode=mode))


@pytest.mark.parametrize("size", [2, 3, 6])
def test_mean_equals_opencvs_blur(respond, size):
    got, picture = respond(Mean(size=size))
    close(got, cv2.blur(picture, (size, size), borderType=cv2.BORDER_REFLECT))


def test_mean_in_physical_units_takes_the_nearest_whole_number_of_pixels():
    kernel = only(Mean(size=5).responses(Grid((20.0, 2.0, 0.65), "um"))).kernel
    assert kernel.shape == (1, 3, 8)


def direct_log(offset, sigma):
    """IBSI 2's formula at one offset from the centre."""
    d, r2 = len(offset), sum(k * k for k in offset)
    density = (1 / (np.sqrt(2 * np.pi) * sigma)) ** d * np.exp(-r2 / (2 * sigma**2))
    return -1 / sigma**2 * density * (d - r2 / sigma**2)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_log_equals_its_formula_tap_by_tap(ndim, sigma):
    taps = only(LaplacianOfGaussian(sigma=sigma).responses(pixels(ndim))).kernel.array
    radius = int(4 * sigma + 0.5)
    assert taps.shape == (2 * radius + 1,) * ndim
    wanted = [direct_log(np.array(i) - radius, sigma) for i in np.ndindex(taps.shape)]
    np.testing.assert_allclose(taps.ravel(), wanted, rtol=1e-12, atol=1e-18)


@pytest.mark.parametrize("ndim", [2, 3])
def test_log_nears_scipys_composition(respond, ndim):
    got, picture = respond(LaplacianOfGaussian(sigma=1.5, truncate=6), ndim)
    wanted = ndimage.gaussian_laplace(picture, 1.5, truncate=6)
    assert np.abs(got - wanted).max() < 1e-3 * np.ptp(wanted)


def test_log_scale_normalised_is_sigma_squared_times_log():
    plain, scaled = (
        only(LaplacianOfGaussian(sigma=6, scale_normalized=s).responses(Grid((2.0, 2.0), "mm")))
        for s in (False, True)
    )
    np.testing.assert_allclose(scaled.kernel.array, 9 * plain.kernel.array, rtol=1e-12)


def test_log_on_an_anisotropic_grid_samples_one_round_kernel():
    fine = only(LaplacianOfGaussian(sigma=4).responses(Grid((1.0, 1.0)))).kernel.array
    coarse = only(LaplacianOfGaussian(sigma=4).responses(Grid((2.0, 1.0)))).kernel.array
    # Every second row, with the pixel twice as large in the density and in sigma^2.
    np.testing.assert_allclose(coarse, 2 * 2 * fine[::2], rtol=1e-12)


def test_identity_is_the_image(respond):
    got, picture = respond(Identity())
    np.testing.assert_array_equal(got, picture)

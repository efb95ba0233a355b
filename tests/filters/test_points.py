"""Laplacian, emboss, disk and unsharp against scikit-image, OpenCV, scipy and published tables."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy
import skimage
from scipy import ndimage
from skimage import filters

from pipeline.errors import PlanError
from pipeline.filters.disk import Disk
from pipeline.filters.emboss import Emboss
from pipeline.filters.laplacian import Laplacian
from pipeline.filters.unsharp import Unsharp
from pipeline.types import Grid

ROUNDING = 1e-12
SHAPES = {1: (31,), 2: (19, 24), 3: (9, 12, 11)}


def node(item, ndim=2):
    (found,) = item.responses(Grid((1.0,) * ndim)).values()
    return found


def taps(item, ndim=2):
    return node(item, ndim).kernel.array


@pytest.fixture
def respond(evaluate, image):
    """(response, image) of a filter on a random image of some rank."""

    def run(item, ndim=2):
        picture = image(*SHAPES[ndim])
        return evaluate(node(item, ndim), picture[None])[0], picture

    return run


def close(got, wanted, tolerance=ROUNDING):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def reach(ndim, size):
    """Offsets of a window's taps: one array per axis."""
    return np.indices((size,) * ndim) - size // 2


# ---------------------------------------------------------------- Laplacian
@pytest.mark.parametrize("size", [3, 5, 7])
def test_smoothed_laplacian_equals_opencv(respond, size):
    got, picture = respond(Laplacian(size=size))
    close(got, cv2.Laplacian(picture, cv2.CV_64F, ksize=size, borderType=cv2.BORDER_REFLECT))


@pytest.mark.parametrize("ndim", [2, 3])
def test_negated_laplacian_equals_scikit_image(respond, ndim):
    got, picture = respond(Laplacian(negate=True), ndim)
    close(got, filters.laplace(picture))


@pytest.mark.parametrize(
    ("ndim", "given"),
    [
        *((2, {"neighbours": n}) for n in (4, 8)),
        *((3, {"neighbours": n}) for n in (6, 18, 26)),
        *((ndim, {"size": n}) for ndim in (1, 2, 3) for n in (3, 5, 7)),
    ],
)
def test_a_normalised_laplacian_gives_1_on_half_a_square_along_any_axis(ndim, given):
    got = taps(Laplacian(normalize=True, **given), ndim)
    bends = (reach(ndim, got.shape[0]) ** 2 * got).reshape(ndim, -1).sum(axis=1) / 2
    np.testing.assert_allclose(bends, 1, rtol=1e-13)
    assert abs(got.sum()) < 1e-13
    close(-taps(Laplacian(normalize=True, negate=True, **given), ndim), got)


@pytest.mark.parametrize(("size", "gain"), [(3, 4), (5, 64), (7, 1024)])
def test_smoothed_laplacians_have_the_documented_gain(size, gain):
    raw, unit = (taps(Laplacian(size=size, normalize=n)) for n in (False, True))
    np.testing.assert_allclose(raw, gain * unit, rtol=1e-13)


def test_a_laplacian_has_one_form():
    with pytest.raises(ValueError, match="two forms of the Laplacian; give one of them"):
        Laplacian(neighbours=4, size=3)


# ---------------------------------------------------------------- emboss
SHADOWS = {  # ImageJ, Process > Shadows
    "n": [[1, 2, 1], [0, 1, 0], [-1, -2, -1]],
    "s": [[-1, -2, -1], [0, 1, 0], [1, 2, 1]],
    "e": [[-1, 0, 1], [-2, 1, 2], [-1, 0, 1]],
    "w": [[1, 0, -1], [2, 1, -2], [1, 0, -1]],
    "nw": [[2, 1, 0], [1, 1, -1], [0, -1, -2]],
    "se": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "ne": [[0, 1, 2], [-1, 1, 1], [-2, -1, 0]],
    "sw": [[0, -1, -2], [1, 1, -1], [2, 1, 0]],
}


def test_emboss_has_imagejs_kernels():
    for direction, weights in SHADOWS.items():
        assert np.array_equal(taps(Emboss(direction=direction)), weights)


def test_emboss_is_the_image_plus_strength_times_the_change(respond):
    got, picture = respond(Emboss(direction="e", strength=0.25))
    close(got, picture + 0.25 * ndimage.sobel(picture, 1))


def test_emboss_refuses_volumes():
    with pytest.raises(
        PlanError, match=r"emboss needs 2-D images, these have 3 axes; filter slice"
    ):
        node(Emboss(), 3)


# ---------------------------------------------------------------- disk
def covered(y, x, radius):
    """The area of a pixel inside a disk, by adaptive quadrature over its columns."""

    def height(t):
        half = np.sqrt(max(radius**2 - t * t, 0))
        return max(min(y + 0.5, half) - max(y - 0.5, -half), 0)

    bends = [s * np.sqrt(max(radius**2 - e * e, 0)) for s in (-1, 1) for e in (y - 0.5, y + 0.5)]
    inside = [t for t in (*bends, radius, -radius) if x - 0.5 < t < x + 0.5]
    return scipy.integrate.quad(height, x - 0.5, x + 0.5, points=inside or None, epsabs=1e-12)[0]


@pytest.mark.parametrize("radius", [0.4, 1, 1.3, 2.5, 3.7])
def test_an_antialiased_disk_weighs_pixels_by_their_area_inside(radius):
    got = taps(Disk(radius=radius))
    y, x = reach(2, got.shape[0])
    wanted = np.vectorize(covered)(y, x, radius)
    np.testing.assert_allclose(wanted.sum(), np.pi * radius**2, rtol=1e-9)
    close(got, wanted / wanted.sum(), 1e-9)


def test_an_antialiased_disk_is_fspecials():
    """The quadrant of MATLAB's fspecial('disk', 3), as MATLAB prints it."""
    quadrant = [
        [0.0354, 0.0354, 0.0354, 0.0172],
        [0.0354, 0.0354, 0.0354, 0.0110],
        [0.0354, 0.0354, 0.0245, 0.0003],
        [0.0172, 0.0110, 0.0003, 0.0000],
    ]
    np.testing.assert_allclose(taps(Disk(radius=3))[3:, 3:], quadrant, rtol=0, atol=5e-5)


def test_an_antialiased_ball_weighs_voxels_by_their_volume_inside():
    got = taps(Disk(radius=2.3), 3)
    fine = (np.arange(5 * 40) + 0.5) / 40 - 2.5
    z, y, x = np.meshgrid(fine, fine, fine, indexing="ij", sparse=True)
    inside = (z * z + y * y + x * x <= 2.3**2).reshape(5, 40, 5, 40, 5, 40)
    share = inside.mean(axis=(1, 3, 5))
    np.testing.assert_allclose(got * share.sum(), share, rtol=0, atol=1e-3)


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
@pytest.mark.parametrize(("ndim", "oracle"), [(2, "disk"), (3, "ball")])
def test_a_hard_disk_is_scikit_images(ndim, oracle, radius):
    wanted = getattr(skimage.morphology, oracle)(radius)
    close(taps(Disk(radius=radius, edge="hard"), ndim), wanted / wanted.sum())


@pytest.mark.parametrize("edge", ["antialiased", "hard"])
def test_a_disk_on_pixels_that_are_not_square_is_round_in_units(edge):
    (found,) = Disk(radius=3, edge=edge).responses(Grid((2.0, 1.0), "mm")).values()
    y, x = np.indices((3, 7)) - [[[1]], [[3]]]
    if edge == "hard":
        inside = ((2 * y) ** 2 + x**2 <= 9).astype(float)
    else:  # each pixel is two squares, one above the other
        inside = sum(np.vectorize(covered)(2 * y + half, x, 3) for half in (-0.5, 0.5))
    close(found.kernel.array, inside / inside.sum(), 1e-9)


# ---------------------------------------------------------------- unsharp
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(("sigma", "amount"), [(1.0, 1.0), (1.7, 2.5)])
def test_unsharp_equals_scikit_image(respond, ndim, sigma, amount):
    got, picture = respond(Unsharp(sigma=sigma, amount=amount), ndim)
    close(got, filters.unsharp_mask(picture, sigma, amount, preserve_range=True))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_threshold_leaves_faint_pixels_as_they_are(respond, ndim):
    got, picture = respond(Unsharp(sigma=1.2, amount=1.5, threshold=12), ndim)
    detail = picture - ndimage.gaussian_filter(picture, 1.2)
    chosen = np.abs(detail) >= 12
    assert 0.2 < chosen.mean() < 0.8
    close(got, picture + 1.5 * detail * chosen)
    assert np.array_equal(got[~chosen], picture[~chosen])


@pytest.mark.parametrize("item", [Disk(radius=1e300), Unsharp(sigma=1e6)])
def test_a_kernel_that_cannot_be_built_is_refused(item):
    with pytest.raises(PlanError, match="taps is too large"):
        node(item)

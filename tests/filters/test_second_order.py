"""Hessians and structure tensors against scikit-image, scipy and LAPACK."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy import ndimage
from second_order import RANKS, SHAPES, SKIMAGE, close, compute, respond
from skimage import feature

from pipeline.errors import PlanError
from pipeline.filters.frangi import Frangi
from pipeline.filters.hessian import Hessian
from pipeline.filters.structure_tensor import StructureTensor
from pipeline.types import Grid

FLAT, VOLUME, OBLONG = Grid((1.0, 1.0)), Grid((1.0,) * 3), Grid((2.0, 1.0))
COMPONENTS = {2: ("yy", "xy", "xx"), 3: ("zz", "yz", "xz", "yy", "xy", "xx")}


def skimage_hessian(picture, sigma, mode="wrap"):
    return feature.hessian_matrix(picture, sigma, mode=mode, use_gaussian_derivatives=True)


# ---------------------------------------------------------------- Hessian
@RANKS
def test_components_equal_skimage(image, ndim):
    picture = image(*SHAPES[ndim])
    wanted = skimage_hessian(picture, 1.3)
    for name, component in zip(COMPONENTS[ndim], wanted, strict=True):
        close(respond(Hessian(sigma=1.3, output=name, **SKIMAGE), picture), component)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest"])
def test_away_from_the_border_the_boundary_does_not_matter(image, mode):
    picture = image(80, 83)
    wanted = skimage_hessian(picture, 1.5, mode)[1]
    got = respond(Hessian(sigma=1.5, output="xy", **SKIMAGE), picture, mode)
    inner = (slice(18, -18), slice(18, -18))
    close(got[inner], wanted[inner])


def test_by_default_the_kernel_is_cut_off_where_it_hardly_matters(image):
    picture = image(*SHAPES[2])
    for name, wanted in zip(COMPONENTS[2], skimage_hessian(picture, 2), strict=True):
        got = respond(Hessian(sigma=2, output=name), picture)
        close(got, wanted, 1e-3)


@RANKS
def test_eigenvalues_equal_skimage_and_lapack_in_the_other_order(image, ndim):
    picture = image(*SHAPES[ndim])
    wanted = feature.hessian_matrix_eigvals(skimage_hessian(picture, 1.3))[::-1]
    got = [
        respond(Hessian(sigma=1.3, output=f"eigenvalue_{i + 1}", **SKIMAGE), picture)
        for i in range(ndim)
    ]
    close(got, wanted)
    outputs = {
        "determinant": wanted.prod(0),
        "trace": wanted.sum(0),
        "norm": np.sqrt(np.square(wanted).sum(0)),
    }
    for output, values in outputs.items():
        close(respond(Hessian(sigma=1.3, output=output, **SKIMAGE), picture), values)


@RANKS
def test_eigenvalues_by_magnitude(image, ndim):
    picture = image(*SHAPES[ndim])
    values = feature.hessian_matrix_eigvals(skimage_hessian(picture, 1.3))
    wanted = np.take_along_axis(values, np.abs(values).argsort(0), 0)
    got = [
        respond(
            Hessian(sigma=1.3, output=f"eigenvalue_{i + 1}", order="magnitude", **SKIMAGE),
            picture,
        )
        for i in range(ndim)
    ]
    close(got, wanted)


def test_shape_index_and_curvedness_are_koenderinks(image):
    picture = image(*SHAPES[2])
    large, small = feature.hessian_matrix_eigvals(skimage_hessian(picture, 1.3))
    got = respond(Hessian(sigma=1.3, output="shape_index", **SKIMAGE), picture)
    close(got, 2 / np.pi * np.arctan((small + large) / (small - large)))
    got = respond(Hessian(sigma=1.3, output="curvedness", **SKIMAGE), picture)
    close(got, np.sqrt((large**2 + small**2) / 2))


def test_the_shape_index_is_1_on_bright_blobs_minus_1_on_dark_ones_and_0_on_saddles():
    y, x = np.mgrid[-20:21, -20:21] / 10.0
    item = Hessian(sigma=1.5, output="shape_index")
    for picture, wanted in ((-(x**2) - y**2, 1), (x**2 + y**2, -1), (x * y, 0), (-(x**2), 0.5)):
        assert respond(item, picture)[20, 20] == pytest.approx(wanted, abs=1e-6)


@RANKS
def test_constants_and_ramps_give_zero_and_parabolas_one(ndim):
    x = np.indices((31,) * ndim)[-1] - 15.0
    middle = (15,) * ndim
    item = Hessian(sigma=1.5, output="xx")
    assert abs(respond(item, 1e4 + 1e3 * x)[middle]) < 1e-7
    assert respond(item, x**2 / 2)[middle] == pytest.approx(1, abs=1e-3)


def test_scales_are_normalised_by_sigma_squared_in_pixels(image):
    picture = image(*SHAPES[2])
    plain, scaled = (
        respond(Hessian(sigma=3, output="eigenvalue_1", scale_normalized=s), picture)
        for s in (False, True)
    )
    close(scaled, 9 * plain)


def test_pixels_that_are_not_square_do_not_bend_a_round_blob():
    """The same blob, sampled at steps 2 and 1: scale-normalised, the numbers are the same."""
    y, x = np.ogrid[-30:31, -30:31]
    blob = np.exp(-(x**2 + y**2) / (2 * 5.0**2))
    item = Hessian(sigma=4, output="eigenvalue_1", scale_normalized=True)
    oblong = respond(item, blob[::2], grid=OBLONG)
    close(oblong, respond(item, blob)[::2], 1e-3)
    plain = respond(Hessian(sigma=4, output="eigenvalue_1"), blob[::2], grid=OBLONG)
    close(plain * (4 / 2) * (4 / 1), oblong)


# ---------------------------------------------------------------- structure tensor
def scipy_structure_tensor(picture, sigma, rho, mode):
    gradient = [
        ndimage.gaussian_filter(picture, sigma, np.eye(picture.ndim, dtype=int)[i], mode=mode)
        for i in range(picture.ndim)
    ]
    return [
        ndimage.gaussian_filter(gradient[i] * gradient[j], rho, mode=mode)
        for i in range(picture.ndim)
        for j in range(i, picture.ndim)
    ]


@RANKS
@pytest.mark.parametrize("mode", ["reflect", "nearest", "wrap"])
def test_structure_tensors_equal_scipy_up_to_the_border(image, ndim, mode):
    picture = image(*SHAPES[ndim])
    wanted = scipy_structure_tensor(picture, 0.8, 1.5, mode)
    for name, component in zip(COMPONENTS[ndim], wanted, strict=True):
        item = StructureTensor(sigma=0.8, rho=1.5, output=name)
        close(respond(item, picture, mode), component)
    values = feature.structure_tensor_eigenvalues(wanted)[::-1]
    for i in range(ndim):
        item = StructureTensor(sigma=0.8, rho=1.5, output=f"eigenvalue_{i + 1}")
        close(respond(item, picture, mode), values[i])
    item = StructureTensor(sigma=0.8, rho=1.5, output="trace")
    close(respond(item, picture, mode), values.sum(0))
    item = StructureTensor(sigma=0.8, rho=1.5, output="determinant")
    close(respond(item, picture, mode), determinant(wanted, ndim))


def determinant(upper, ndim):
    """Of symmetric matrices whose upper triangles are given, row by row; by LU."""
    full = np.empty((*upper[0].shape, ndim, ndim))
    for part, (i, j) in zip(upper, combinations_with_replacement(range(ndim), 2), strict=True):
        full[..., i, j] = full[..., j, i] = part
    return np.linalg.det(full)


@pytest.mark.parametrize("mode", ["reflect", "nearest", "wrap"])
def test_the_bank_extends_products_again_at_the_border_as_scipy_does(image, mode):
    picture = image(*SHAPES[2])
    wanted = scipy_structure_tensor(picture, 0.8, 1.5, mode)
    for name, component in zip(COMPONENTS[2], wanted, strict=True):
        item = StructureTensor(sigma=0.8, rho=1.5, output=name)
        close(compute(item, picture, mode), component, 1e-5)


def test_coherence_is_of_the_eigenvalues_and_orientation_of_their_vectors(image):
    picture = image(*SHAPES[2])
    yy, xy, xx = scipy_structure_tensor(picture, 0.8, 1.5, "wrap")
    values, vectors = np.linalg.eigh(np.stack([xx, xy, xy, yy], -1).reshape(*xx.shape, 2, 2))
    item = StructureTensor(sigma=0.8, rho=1.5, output="coherence")
    close(respond(item, picture), (values[..., 1] - values[..., 0]) / values.sum(-1))
    item = StructureTensor(sigma=0.8, rho=1.5, output="orientation")
    got = respond(item, picture)
    turn = np.cos(got) * vectors[..., 1, 1] - np.sin(got) * vectors[..., 0, 1]
    np.testing.assert_allclose(turn, 0, rtol=0, atol=1e-7)


@pytest.mark.parametrize("degrees", [-60, 0, 30, 90])
def test_orientation_is_that_of_the_gradient_clockwise_from_x(degrees):
    y, x = np.mgrid[:41, :41] - 20.0
    angle = np.radians(degrees)
    stripes = np.sin(0.5 * (x * np.cos(angle) + y * np.sin(angle)))
    outputs = {"orientation": angle, "coherence": 1.0}
    for output, wanted in outputs.items():
        item = StructureTensor(sigma=1, rho=4, output=output)
        assert respond(item, stripes)[20, 20] == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("output", ["orientation", "coherence"])
def test_pixels_that_are_not_square_do_not_bend_stripes(output):
    y, x = np.mgrid[:81, :81] - 40.0
    stripes = np.sin(0.3 * x + 0.2 * y)
    item = StructureTensor(sigma=3, rho=6, output=output)
    got = respond(item, stripes[::2], grid=OBLONG)[20, 40]
    wanted = np.arctan2(0.2, 0.3) if output == "orientation" else 1.0
    assert got == pytest.approx(wanted, abs=1e-3)


def test_flat_images_have_no_coherence_and_no_orientation():
    for output in ("coherence", "orientation"):
        item = StructureTensor(sigma=1, rho=1, output=output)
        assert not respond(item, np.zeros((9, 9))).any()


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Hessian(sigma=1, output="xz"), FLAT, "no axis 'z'"),
        (Hessian(sigma=1, output="eigenvalue_3"), FLAT, "choose from: eigenvalue_1, eigenvalue_2"),
        (Hessian(sigma=1, output="shape_index"), VOLUME, "shape_index needs 2-D images"),
        (Hessian(sigma=1, output="curvedness"), VOLUME, "curvedness needs 2-D images"),
        (Hessian(sigma=1e6, output="xx"), FLAT, "taps is too large"),
        (Hessian(sigma=0.05, output="xx"), FLAT, "less than 0.1"),
        (StructureTensor(sigma=1, rho=2, output="orientation"), VOLUME, "needs 2-D images"),
        (StructureTensor(sigma=1, rho=2, output="coherence"), VOLUME, "needs 2-D images"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)


@pytest.mark.parametrize("ndim", [2, 3])
def test_where_an_image_fades_to_nothing_shapes_stay_finite(ndim):
    """Tails of a Gaussian and of a spline: down to the least numbers that float32 has."""
    axes = np.meshgrid(*[np.arange(40 if ndim == 3 else 129.0)] * ndim, indexing="ij")
    blob = 100 * np.exp(-sum((x - x.max() / 2) ** 2 for x in axes) / 18)
    kinds = [Frangi(gamma=15)]
    kinds += [StructureTensor(sigma=1, rho=2, output="coherence")] if ndim == 2 else []
    for item in kinds:
        found = compute(item, blob, "reflect")
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1 + 1e-6

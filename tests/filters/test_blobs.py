"""LoG, DoG and the mean against scipy, scikit-image, MATLAB's formula and IBSI 2's maps."""

from __future__ import annotations

import numpy as np
import pytest
from scale_space import CONVENTIONS, CT, close, node, taps
from scipy import ndimage
from skimage import filters

from pipeline.bank.passes import factor
from pipeline.errors import PlanError
from pipeline.filters.dog import DifferenceOfGaussians
from pipeline.filters.log import LaplacianOfGaussian
from pipeline.filters.mean import Mean
from pipeline.types import Grid

IBSI = 0.01  # of the reference map's range: the pass rule of the reference data


# ---------------------------------------------------------------- log
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0.6, 1.5])
def test_log_with_scipys_taps_equals_gaussian_laplace(respond, ndim, sigma):
    got, picture = respond(LaplacianOfGaussian(sigma=sigma, convention="scipy"), ndim)
    close(got, ndimage.gaussian_laplace(picture, sigma))


def test_log_on_an_anisotropic_grid_is_the_laplacian_in_physical_lengths(respond):
    """sigma^2 (d^2/dx^2 + d^2/dy^2 + d^2/dz^2), each sigma and each d in millimetres."""
    item = LaplacianOfGaussian(sigma=3, convention="scipy", scale_normalized=True)
    got, picture = respond(item, CT)
    sigmas = np.array([1.0, 1.5, 2.0])
    parts = [
        ndimage.gaussian_filter(picture, sigmas, 2 * np.eye(3, dtype=int)[a]) for a in (0, 1, 2)
    ]
    close(got, sum(s**2 * part for s, part in zip(sigmas, parts, strict=True)))


@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_log_with_scipys_taps_and_zero_sum_is_fspecial(sigma):
    """MATLAB: h = g / sum(g); h1 = h (x^2 + y^2 - 2 s^2) / s^4; h1 - sum(h1) / numel(h1)."""
    r = int(4 * sigma + 0.5)
    y, x = np.mgrid[-r : r + 1, -r : r + 1]
    g = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    h = g / g.sum() * (x**2 + y**2 - 2 * sigma**2) / sigma**4
    found = taps(LaplacianOfGaussian(sigma=sigma, convention="scipy", zero_sum=True), 2)
    close(found, h - h.sum() / h.size)


@pytest.mark.parametrize("how", CONVENTIONS)
@pytest.mark.parametrize("grid", [2, 3, CT], ids=["2-D", "3-D", "CT"])
def test_zero_sum_makes_a_constant_image_0(how, grid):
    item = LaplacianOfGaussian(sigma=3, truncate=2, convention=how, zero_sum=True)
    found = taps(item, grid)
    assert abs(found.sum()) < 1e-12 * np.abs(found).sum()
    assert abs(taps(LaplacianOfGaussian(sigma=3, truncate=2, convention=how), grid).sum()) > 1e-3


# ---------------------------------------------------------------- dog
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"sigma": 0.9},
        {"sigma": 0.7, "ratio": 2.5},
        {"sigma": 1.0, "sigma_wide": 1.1, "truncate": 3},
    ],
)
def test_dog_equals_skimage(respond, ndim, given):
    item = DifferenceOfGaussians(**given)
    got, picture = respond(item, ndim)
    high = item.sigma_wide or item.ratio * item.sigma
    close(
        got,
        filters.difference_of_gaussians(
            picture, item.sigma, high, mode="reflect", truncate=item.truncate
        ),
    )


def test_dogs_default_ratio_and_spacing_equal_skimages(respond):
    got, picture = respond(DifferenceOfGaussians(sigma=3), CT)
    close(got, filters.difference_of_gaussians(picture, (1.0, 1.5, 2.0), mode="reflect"))


def test_dog_is_positive_at_a_bright_blob_and_log_negative():
    assert taps(DifferenceOfGaussians(sigma=2), 2)[13, 13] > 0
    assert taps(LaplacianOfGaussian(sigma=2), 2)[8, 8] < 0


def test_dog_nears_the_scale_normalised_log():
    narrow = taps(DifferenceOfGaussians(sigma=3, ratio=1.001), 2)
    log = taps(LaplacianOfGaussian(sigma=3, scale_normalized=True), 2)
    np.testing.assert_allclose(narrow, -0.001 * log, atol=2e-3 * np.abs(narrow).max())


@pytest.mark.parametrize("how", CONVENTIONS)
def test_dog_sums_to_0_unless_ibsi(how):
    total = taps(DifferenceOfGaussians(sigma=0.5, convention=how), 2).sum()
    assert (abs(total) < 1e-14) == (how != "ibsi")


# ---------------------------------------------------------------- IBSI 2 phase 1
PADDING = {"zero": "constant", "mirror": "reflect", "nearest": "nearest", "periodic": "wrap"}
CASES = [
    *(
        (f"1_a_{i + 1}", 3, "checkerboard", padding, Mean(size=15))
        for i, padding in enumerate(("zero", "nearest", "periodic", "mirror"))
    ),
    ("1_b_1", 2, "impulse", "zero", Mean(size=15)),
    *(
        (test, rank, phantom, padding, LaplacianOfGaussian(sigma=sigma, zero_sum=zero_sum))
        for test, rank, phantom, padding, sigma in (
            ("2_a", 3, "impulse", "zero", 3.0),
            ("2_b", 3, "checkerboard", "mirror", 5.0),
            ("2_c", 2, "checkerboard", "mirror", 5.0),
        )
        for zero_sum in (False, True)
    ),
]


@pytest.mark.parametrize(
    ("test", "rank", "phantom", "padding", "item"),
    CASES,
    ids=[f"{c[0]}-{getattr(c[4], 'zero_sum', False)}" for c in CASES],
)
def test_maps_pass_the_ibsi_rule(shared, evaluate, test, rank, phantom, padding, item):
    volume, reference = (
        np.asarray(nibabel_load(shared / "ibsi" / path), dtype=np.float64).T  # (z, y, x)
        for path in (f"phantoms/{phantom}.nii.gz", f"reference_maps_int16/{test}-ValidCRM.nii.gz")
    )
    grid = Grid((1.0,) * rank) if isinstance(item, Mean) else Grid((2.0,) * rank, "mm")
    planes = volume[None] if rank == 3 else volume
    # Passes along one axis after another extend the image as the whole kernel would.
    got = evaluate(factor(node(item, grid)), planes, PADDING[padding]).reshape(volume.shape)
    assert np.abs(got - reference).max() <= IBSI * np.ptp(reference)


def nibabel_load(path):
    return pytest.importorskip("nibabel").load(path).dataobj


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"ratio": 2, "sigma_wide": 3}, "give one of them"),
        ({"sigma_wide": 1}, "sigma_wide=1 must be greater than sigma=1"),
        ({"ratio": 1}, "greater than 1"),
    ],
)
def test_sigmas_that_contradict_are_refused(given, text):
    with pytest.raises(ValueError, match=text):
        DifferenceOfGaussians(sigma=1, **given)


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (DifferenceOfGaussians(sigma=1e6), 2, "too large"),
        (DifferenceOfGaussians(sigma=0.05), 2, "sigma=0.05 is 0.05 pixels"),
        (LaplacianOfGaussian(sigma=0.1), CT, "less than 0.1"),
    ],
)
def test_what_a_grid_has_not_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        node(item, grid)

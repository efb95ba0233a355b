"""Vessels, tubes and neurites against scikit-image and theory."""

from __future__ import annotations

import numpy as np
import pytest
from second_order import GRIDS, RANKS, SHAPES, SKIMAGE, close, compute, respond
from skimage import filters

from pipeline.bank.expr import Edge, nodes_of
from pipeline.errors import PlanError
from pipeline.filters.frangi import Frangi
from pipeline.filters.hessian import Hessian
from pipeline.filters.meijering import Meijering
from pipeline.filters.sato import Sato
from pipeline.types import Grid


@RANKS
@pytest.mark.parametrize("ridges", ["black", "white"])
def test_frangi_equals_skimage_with_its_gamma(image, ndim, ridges):
    picture = image(*SHAPES[ndim])
    item = Frangi(
        sigmas=(1.2, 2), gamma=9, ridges=ridges, scale_normalized=False, alpha=0.7, beta=0.9,
        **SKIMAGE,
    )  # fmt: skip
    wanted = filters.frangi(
        picture, (1.2, 2), gamma=9, alpha=0.7, beta=0.9, black_ridges=ridges == "black", mode="wrap"
    )
    close(respond(item, picture), wanted)


def test_one_normalised_scale_is_skimages_with_gamma_over_sigma_squared(image):
    picture = image(*SHAPES[2])
    item = Frangi(sigmas=(2,), gamma=20, **SKIMAGE)
    close(respond(item, picture), filters.frangi(picture, [2], gamma=5, mode="wrap"))


def test_half_the_largest_norm_is_skimages_gamma(image):
    picture = image(*SHAPES[2])
    norm = Hessian(sigma=2, output="norm", scale_normalized=True, **SKIMAGE)
    gamma = respond(norm, picture).max() / 2
    item = Frangi(sigmas=(2,), gamma=gamma, **SKIMAGE)
    close(respond(item, picture), filters.frangi(picture, [2], mode="wrap"))


@RANKS
@pytest.mark.parametrize("ridges", ["black", "white"])
def test_sato_equals_skimage(image, ndim, ridges):
    picture = image(*SHAPES[ndim])
    wanted = filters.sato(picture, (1.2, 2), black_ridges=ridges == "black", mode="wrap")
    item = Sato(sigmas=(1.2, 2), ridges=ridges, **SKIMAGE)
    close(respond(item, picture), wanted)


@RANKS
@pytest.mark.parametrize("ridges", ["black", "white"])
def test_meijering_equals_skimage_but_for_the_division_by_its_largest(image, ndim, ridges):
    picture = image(*SHAPES[ndim])
    for alpha in (1 / (ndim + 1), -1 / (ndim + 1)):
        wanted = filters.meijering(
            picture, [1.2], alpha=alpha, black_ridges=ridges == "black", mode="wrap"
        )
        item = Meijering(sigmas=(1.2,), alpha=alpha, ridges=ridges, **SKIMAGE)
        got = respond(item, picture)
        close(got / got.max(), wanted)
    np.testing.assert_array_equal(
        respond(Meijering(sigmas=(1.2,), ridges=ridges, **SKIMAGE), picture), got
    )


@pytest.mark.parametrize("family", [Sato, Meijering])
def test_several_sigmas_are_one_response_the_largest_of_them(image, family):
    picture = image(*SHAPES[2])
    each = [respond(family(sigmas=(s,)), picture) for s in (1, 2, 3)]
    together = respond(family(sigmas=(1, 2, 3)), picture)
    np.testing.assert_array_equal(together, np.max(each, axis=0))


@RANKS
@pytest.mark.parametrize("ridges", ["black", "white"])
def test_sato_of_a_gaussian_line_is_what_theory_says(ndim, ridges):
    """Width w: (w^2 / (w^2 + sigma^2))^((d - 1) / 2) sigma^2 / (w^2 + sigma^2) on its middle."""
    x = np.indices((29,) * ndim) - 14.0
    line = np.exp(-np.square(x[1:]).sum(0) / (2 * 2.0**2))
    line = line if ridges == "white" else 1 - line
    for sigma in (1.2, 2, 3):
        got = respond(Sato(sigmas=(sigma,), ridges=ridges), line, "nearest")
        total = 2.0**2 + sigma**2
        wanted = (2.0**2 / total) ** ((ndim - 1) / 2) * sigma**2 / total
        assert got[(14,) * ndim] == pytest.approx(wanted, rel=5e-3)


@RANKS
@pytest.mark.parametrize("make", [Frangi, Sato, Meijering])
def test_a_ridge_answers_to_its_own_colour_only(ndim, make):
    x = np.indices((15,) * ndim) - 7.0
    bright = np.exp(-np.square(x[1:]).sum(0) / (2 * 1.5**2))
    given = {"gamma": 1.0} if make is Frangi else {}
    for line, own, other in ((bright, "white", "black"), (1 - bright, "black", "white")):
        got, none = (
            respond(make(sigmas=(1.5,), ridges=r, **given), line, "nearest") for r in (own, other)
        )
        assert got.max() == pytest.approx(got[(7,) * ndim])
        assert none[(7,) * ndim] < 1e-12 < got[(7,) * ndim]


def test_a_flat_image_has_no_ridges():
    for item in (Frangi(gamma=1, sigmas=(1, 2)), Sato(sigmas=(1, 2)), Meijering(sigmas=(1, 2))):
        assert compute(item, np.full((12, 13), 7.0), "reflect").max() < 1e-6


def test_a_gamma_far_too_large_costs_no_digits(image):
    picture = image(*SHAPES[2])
    wanted = filters.frangi(picture, [2], gamma=1e6, mode="wrap")
    assert wanted.max() < 1e-10
    got = compute(Frangi(sigmas=(2,), gamma=4e6, **SKIMAGE), picture, "wrap")
    close(got, wanted, 1e-4)


def test_scales_share_their_eigenvalues_with_the_hessian():
    (node,) = Sato(sigmas=(1, 2)).responses(GRIDS[3]).values()
    hessian = Hessian(sigma=2, output="eigenvalue_3", scale_normalized=True).responses(GRIDS[3])[""]
    assert hessian in nodes_of(node)
    assert not any(isinstance(n, Edge) for n in nodes_of(node))


def test_ridges_need_two_axes():
    with pytest.raises(PlanError, match="ridges need 2-D or 3-D images"):
        Frangi(gamma=1).responses(Grid((1.0,)))


@pytest.mark.parametrize(
    ("family", "given", "text"),
    [
        (Frangi, {}, "gamma"),
        (Sato, {"sigmas": ()}, "at least 1 item"),
        (Sato, {"sigmas": (1, 0)}, "greater than 0"),
        (Meijering, {"alpha": 1}, "less than 1"),
    ],
)
def test_values_out_of_range_are_refused(family, given, text):
    with pytest.raises(ValueError, match=text):
        family(**given)

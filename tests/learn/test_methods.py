"""The methods against textbook formulas, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from learned import up_to_sign
from scipy import linalg

from pipeline.errors import InputError, PlanError
from pipeline.learn.methods import CONTRAST, ITERATIONS, kmeans, pca, zca

ROUNDING = 1e-9
"""float64 sums of a few thousand products."""


def patches(n: int = 400, d: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated patches with a mean, no two directions of equal variance."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.geomspace(30, 0.5, d)
    return rng.normal(size=(n, d)) @ mix.T + rng.normal(size=d) * 50


def test_principal_components_equal_the_singular_vectors() -> None:
    x = patches()
    u, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    bank = pca(x, 5)
    np.testing.assert_allclose(bank.filters, up_to_sign(bank.filters, vt[:5]), atol=ROUNDING)
    scores = x @ bank.filters.T + bank.bias
    np.testing.assert_allclose(np.abs(scores), np.abs(u * s)[:, :5], atol=1e-7)
    assert (bank.filters.max(1) >= -bank.filters.min(1)).all()


def test_whitened_patches_have_the_identity_as_covariance() -> None:
    x = patches()
    bank = zca(x, 12, 0.0, np.arange(12))
    white = x @ bank.filters.T + bank.bias
    np.testing.assert_allclose(white.mean(0), 0, atol=ROUNDING)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(12), atol=ROUNDING)
    np.testing.assert_allclose(bank.filters, bank.filters.T, atol=ROUNDING)


def test_whitening_is_the_inverse_root_of_the_covariance() -> None:
    x = patches()
    covariance = np.cov(x.T, bias=True)
    wide = covariance + 0.3 * np.trace(covariance) / 12 * np.eye(12)
    order = np.array([7, 2, 11])
    wanted = linalg.inv(linalg.sqrtm(wide))[order]
    np.testing.assert_allclose(zca(x, 3, 0.3, order).filters, wanted, atol=ROUNDING)


def templates(count: int, d: int) -> np.ndarray:
    """Orthonormal rows that add up to 0 each."""
    rng = np.random.default_rng(8)
    return linalg.orth((c := rng.normal(size=(d, count))) - c.mean(0)).T


@pytest.mark.parametrize("seed", range(5))
def test_centroids_are_the_planted_templates_whatever_contrast_and_brightness(seed: int) -> None:
    planted = templates(6, 16)
    rng = np.random.default_rng(seed)
    contrast = rng.choice([-1, 1], (600, 1)) * rng.uniform(20, 60, (600, 1))
    x = contrast * np.tile(planted, (100, 1)) + rng.uniform(0, 200, (600, 1))
    found = kmeans(x, 6, 0.1, seed).filters
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    likeness = np.abs(found @ planted.T)
    np.testing.assert_allclose(np.sort(likeness.max(0)), 1, atol=1e-3)
    assert sorted(likeness.argmax(1)) == list(range(6))


def test_centroids_stay_where_they_are_under_one_more_step_of_the_paper() -> None:
    """Coates and Ng, 2012, written out on their whitened patches; filters are d W."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 1)) * 9 * np.repeat(templates(5, 10), 100, 0)
    x += rng.normal(size=x.shape) / 2 + 100
    bank = kmeans(x, 5, 0.1, 0)
    flat = x - x.mean(1, keepdims=True)
    variance = flat.var(1, keepdims=True)
    flat = flat / np.sqrt(variance + CONTRAST * variance.mean())
    covariance = np.cov(flat.T, bias=True)
    root = linalg.sqrtm(covariance + 0.1 * np.trace(covariance) / 10 * np.eye(10))
    white = (flat - flat.mean(0)) @ linalg.inv(root)
    d = bank.filters @ root
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), 1, atol=1e-9)
    nearest = np.abs(white @ d.T).argmax(1)
    sizes = np.bincount(nearest)
    assert (np.diff(sizes) <= 0).all()
    for j in range(5):
        mine = white[nearest == j]
        moved = (mine @ d[j]) @ mine
        assert moved @ d[j] / np.linalg.norm(moved) > 1 - 1e-6
    np.testing.assert_allclose(bank.filters.sum(1), 0, atol=1e-12)


def test_fewer_shapes_than_centroids_are_refused() -> None:
    x = np.repeat(templates(3, 8), 50, 0) * np.linspace(1, 9, 150)[:, None]
    x = np.concatenate([x, -x])
    with pytest.raises(InputError, match=r"no more than \d shapes; lower learn.count \(got 9\)"):
        kmeans(x, 9, 0.1, 0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_patches_without_contrast_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="all patches are alike"):
        pca(np.full((50, 4), value), 2)
    with pytest.raises(InputError, match="all patches are alike"):
        kmeans(np.full((50, 4), value) * np.arange(50)[:, None], 2, 0.1, 0)


def test_whitening_a_direction_without_variance_needs_an_epsilon() -> None:
    x = patches()
    x[:, 3] = x[:, 2]
    with pytest.raises(PlanError, match=r"give learn.epsilon more than 0"):
        zca(x, 1, 0.0, np.arange(12))


def test_every_round_is_told_and_may_end_it() -> None:
    x = patches(d=6)
    rounds: list[int] = []
    kmeans(x, 3, 0.1, 0, lambda: rounds.append(1))
    assert 1 <= len(rounds) <= ITERATIONS

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kmeans(x, 3, 0.1, 0, stop)

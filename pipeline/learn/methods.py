"""Patches in, filters out: numpy, float64.

Patches are (n, d), each flattened in the order [band][z][y][x]; filters are rows (count, d) in the
sense of a correlation. What they do to a patch x is `filters @ x + bias`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Array
from pipeline.errors import InputError, PlanError

Order: TypeAlias = npt.NDArray[np.intp]
Tell: TypeAlias = Callable[[], object]
"""Called after each round of k-means: they take most of the time."""

CONTRAST = 0.01
"""Added to the variance of each patch, as a share of the mean variance: about the 10 that A. Coates
and A. Ng give for pixels of 0 .. 255."""

ITERATIONS = 25
"""Of k-means at most (10 are enough for Coates and Ng); fewer where no centroid moves any more."""

_CHUNK = 8192
_NOTHING = 1e-12
"""Share of the whole below which a variance is rounding."""


@dataclass(frozen=True)
class Bank:
    """Filters (count, d) and what is added to their responses, (count,)."""

    filters: Array
    bias: Array


def pca(patches: Array, count: int) -> Bank:
    """The orthonormal directions in which patches vary most, in falling order of variance.

    Eigenvectors of the covariance, as sklearn.decomposition.PCA; `bias` takes off the mean patch.
    The largest number of each is positive.
    """
    mean, _, vectors = _spread(patches)
    filters = _signed(vectors.T[:count])
    return Bank(filters, -filters @ mean)


def zca(patches: Array, count: int, epsilon: float, order: Order) -> Bank:
    """Whitening that stays closest to the image: V (D + epsilon mean(D))^-1/2 V^T.

    A. Bell, T. Sejnowski, "The independent components of natural scenes are edge filters", 1997.
    The covariance V D V^T is that of division by n. Filter i whitens pixel order[i] of a patch.
    """
    mean, values, vectors = _spread(patches)
    filters = _whitening(values, vectors, epsilon)[order[:count]]
    return Bank(filters, -filters @ mean)


def kmeans(
    patches: Array, count: int, epsilon: float, seed: int, tell: Tell = lambda: None
) -> Bank:
    """Centroids of contrast-normalised, whitened patches, as filters for the image itself.

    A. Coates, A. Ng, "Learning feature representations with k-means", 2012: take off each patch's
    mean, divide by the root of its variance (plus CONTRAST); whiten (ZCA); then alternate between
    giving each patch x to the centroid d of largest |d x| and moving each d to the sum of its
    patches, each times its d x, divided by the sum's length. Starts by k-means++ (D. Arthur,
    S. Vassilvitskii, 2007), not at random. Filters are d W C, which takes off a patch's mean (C)
    and whitens (W), so a flat patch gives 0; the largest number of each is positive, and the
    centroid of most patches comes first.
    """
    flat = patches - patches.mean(axis=1, keepdims=True)
    variance = np.square(flat).mean(axis=1, keepdims=True)
    _refuse_flat(float(variance.mean()), float(np.square(patches).mean()))
    flat /= np.sqrt(variance + CONTRAST * variance.mean())
    mean, values, vectors = _spread(flat)
    whitening = _whitening(values, vectors, epsilon)
    centroids, sizes = _cluster((flat - mean) @ whitening, count, seed, tell)
    filters = centroids[np.argsort(-sizes, kind="stable")] @ whitening
    return Bank(_signed(filters - filters.mean(axis=1, keepdims=True)), np.zeros(count))


def _spread(patches: Array) -> tuple[Array, Array, Array]:
    """Mean, eigenvalues in falling order and eigenvectors (columns) of the covariance."""
    mean = patches.mean(axis=0)
    centred = patches - mean
    covariance = centred.T @ centred / len(centred)
    _refuse_flat(float(np.trace(covariance)), float(np.square(patches).sum(axis=1).mean()))
    values, vectors = np.linalg.eigh(covariance)
    return mean, values[::-1].clip(0.0), vectors[:, ::-1]


def _refuse_flat(variance: float, energy: float) -> None:
    if variance <= _NOTHING * energy:
        message = "all patches are alike: nothing can be learned from images without contrast"
        raise InputError(message)


def _whitening(values: Array, vectors: Array, epsilon: float) -> Array:
    wide = values + epsilon * values.mean()
    if wide[-1] <= _NOTHING * wide[0]:
        message = "patches do not vary in every direction; give learn.epsilon more than 0"
        raise PlanError(message)
    return np.asarray((vectors / np.sqrt(wide)) @ vectors.T)


def _signed(filters: Array) -> Array:
    """The same rows, each with the sign that makes its largest number positive."""
    largest = np.abs(filters).round(12).argmax(axis=1)[:, None]
    return np.asarray(filters * np.sign(np.take_along_axis(filters, largest, axis=1)))


def _cluster(patches: Array, count: int, seed: int, tell: Tell) -> tuple[Array, Order]:
    """Centroids of length 1, (count, d), and how many patches each has."""
    centroids = _start(patches, count, np.random.default_rng(seed))
    nearest = np.zeros(len(patches), np.intp)
    for _ in range(ITERATIONS):
        sums = np.zeros_like(centroids)
        for start in range(0, len(patches), _CHUNK):  # the same sums, whatever the memory
            part = slice(start, start + _CHUNK)
            likeness = patches[part] @ centroids.T
            nearest[part] = np.abs(likeness).argmax(axis=1)
            weights = np.zeros_like(likeness)
            at = (np.arange(len(likeness)), nearest[part])
            weights[at] = likeness[at]
            sums += weights.T @ patches[part]
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        before = centroids
        centroids = np.where(length > 0, sums / np.where(length > 0, length, 1.0), before)
        tell()
        if np.abs(centroids - before).max() <= 1e-7:
            break
    return centroids, np.bincount(nearest, minlength=count)


def _start(patches: Array, count: int, rng: np.random.Generator) -> Array:
    """Patches as first centroids, each drawn by what those before it leave unexplained."""
    energy = np.square(patches).sum(axis=1)
    left, total, chosen = energy.copy(), energy.sum(), np.empty((count, patches.shape[1]))
    for i in range(count):
        left[left < _NOTHING * energy.max()] = 0.0
        if left.sum() <= _NOTHING * total:
            message = f"the patches have no more than {i} shapes; lower learn.count (got {count})"
            raise InputError(message)
        patch = patches[rng.choice(len(patches), p=left / left.sum())]
        chosen[i] = patch / np.linalg.norm(patch)
        left = np.minimum(left, energy - np.square(patches @ chosen[i]))
    return chosen

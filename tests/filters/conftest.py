"""The slow oracle: float64 numpy and scipy.ndimage, straight from the nodes' definitions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from pipeline.bank.expr import Conv, Edge, Input, Join, Map, Node

Array = npt.NDArray[np.float64]
Evaluate = Callable[..., Array]
MAPS = {"abs": np.abs, "square": np.square, "sqrt": np.sqrt, "negate": np.negative}
JOINS = {
    "sum": lambda parts: np.sum(parts, axis=0),
    "mean": lambda parts: np.mean(parts, axis=0),
    "max": lambda parts: np.max(parts, axis=0),
    "min": lambda parts: np.min(parts, axis=0),
    "norm": lambda parts: np.sqrt(np.sum(np.square(parts), axis=0)),
    "atan2": lambda parts: np.arctan2(*parts),
}


def _evaluate(node: Node, bands: Array, mode: str = "reflect") -> Array:
    """bands: (C, *spatial) -> (C or 1, *spatial). Exact where no node lies above an Edge."""
    if isinstance(node, Input):
        return bands if node.band is None else bands[node.band : node.band + 1]
    if isinstance(node, Join):
        return np.asarray(JOINS[node.fn]([_evaluate(part, bands, mode) for part in node.of]))
    below = _evaluate(node.of, bands, mode)
    if isinstance(node, Edge):
        return below
    if isinstance(node, Map):
        scalar = {"add": below + node.amount, "multiply": below * node.amount}
        return scalar[node.fn] if node.fn in scalar else np.asarray(MAPS[node.fn](below))
    assert isinstance(node, Conv)
    shift = [o - n // 2 for o, n in zip(node.kernel.origin, node.kernel.shape, strict=True)]
    taps = node.kernel.array
    return np.stack([ndimage.correlate(b, taps, mode=mode, origin=shift) for b in below])


@pytest.fixture(scope="session")
def evaluate() -> Evaluate:
    """Compute a node in float64; nested Convs only below an Edge, as filters emit them."""
    return _evaluate


@pytest.fixture(scope="session")
def image() -> Callable[..., Array]:
    """A reproducible random image of any shape."""

    def make(*shape: int) -> Array:
        return np.random.default_rng(7).normal(100.0, 20.0, shape)

    return make

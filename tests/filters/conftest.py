"""What the tests of filter families share: the slow oracle, and an image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import reference
from scale_space import SHAPES, node

from pipeline.bank.expr import Node
from pipeline.boundary import Boundary, Mode

Array = npt.NDArray[np.float64]
Evaluate = Callable[..., Array]


def _evaluate(node: Node, bands: Array, mode: Mode = "reflect") -> Array:
    """bands: (C, *spatial) -> (C or 1, *spatial)."""
    found = reference.evaluate(node, bands, Boundary(mode))
    return found.reshape(-1, *bands.shape[1:])


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


@pytest.fixture
def respond(evaluate, image):
    """(response, image) of a filter on a random image, of some rank or on some grid."""

    def run(item, grid=2):
        picture = image(*SHAPES[grid if isinstance(grid, int) else grid.ndim])
        return evaluate(node(item, grid), picture[None])[0], picture

    return run

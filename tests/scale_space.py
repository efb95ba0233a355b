"""What the tests of Gaussians and of blobs made of them share."""

from __future__ import annotations

import numpy as np

from pipeline.types import Grid

ROUNDING = 1e-10
SHAPES = {1: (31,), 2: (19, 24), 3: (9, 12, 11)}
CONVENTIONS = ["scipy", "ibsi", "opencv", "integrated"]
CT = Grid((3.0, 2.0, 1.5), "mm")


def node(item, grid):
    grid = Grid((1.0,) * grid) if isinstance(grid, int) else grid
    (found,) = item.responses(grid).values()
    return found


def taps(item, grid=1):
    return node(item, grid).kernel.array


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())

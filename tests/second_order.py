"""How filters of second derivatives are computed and compared in their tests."""

from __future__ import annotations

import numpy as np
import pytest
import reference
import torch

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import compile_bank
from pipeline.bank.expr import Conv, Kernel, rewrite
from pipeline.boundary import Boundary
from pipeline.types import Batch, Grid, ImageInfo, Region, Source, Tile

GRIDS = {n: Grid((1.0,) * n) for n in (1, 2, 3)}
SHAPES = {2: (40, 43), 3: (14, 15, 16)}
RANKS = pytest.mark.parametrize("ndim", [2, 3])
SKIMAGE = {"truncate": 8.0}
CLOSE = 1e-9
"""Of the largest magnitude: rounding of float64 and a kernel cut off at 11 sigma."""


def close(got, wanted, error=CLOSE):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=error * np.abs(wanted).max())


def respond(item, picture, mode="wrap", grid=None):
    """The response of an image in float64, by the slow oracle."""
    (node,) = item.responses(grid or GRIDS[picture.ndim]).values()
    return reference.evaluate(rewrite(node, in_passes), picture, Boundary(mode))


def in_passes(node):
    """Kernels here are outer products; as they stand they would take minutes in 3-D."""
    if not isinstance(node, Conv):
        return node
    kernel, of = node.kernel.array, node.of
    peak = np.unravel_index(np.abs(kernel).argmax(), kernel.shape)
    for axis, size in enumerate(kernel.shape):
        taps = np.moveaxis(kernel, axis, -1)[tuple(np.delete(peak, axis))]
        shape = np.where(np.arange(kernel.ndim) == axis, size, 1)
        of = Conv(of, Kernel.of((taps / kernel[peak] if axis else taps).reshape(shape)))
    return of


def compute(item, picture, mode="wrap"):
    """The response of an image in float32, by the compiled bank."""
    (node,) = item.responses(GRIDS[picture.ndim]).values()
    bank = compile_bank([("r", node, Boundary(mode))], picture.ndim)
    info = ImageInfo(picture.shape, ("1",), "float32", GRIDS[picture.ndim])
    whole = Region.whole(picture.shape)
    tile = Tile(Source("image.npy", (), "npy", info=info), whole)
    pixels = torch.from_numpy(picture[None, None].astype(np.float32))
    (response,) = apply_bank(bank, Batch((tile,), whole, info.bands, pixels))
    return response.values[0, 0].numpy()

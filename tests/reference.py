"""The plain path: expressions evaluated in float64 with scipy.ndimage. Slow, and short to read."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.bank.expr import Conv, Edge, Input, Join, Map, Node, reach_of
from pipeline.boundary import Boundary

SCIPY = {
    "reflect": "reflect",
    "mirror": "mirror",
    "nearest": "nearest",
    "constant": "constant",
    "wrap": "wrap",
    "valid": "constant",
    "nodata": "constant",
}


def evaluate(node: Node, image: np.ndarray, boundary: Boundary) -> np.ndarray:
    """A response over a whole image: (bands, *shape) or (*shape); `valid` still has to be cut."""
    if isinstance(node, Input):
        return image.astype(np.float64) if node.band is None else image[node.band].astype(float)
    if isinstance(node, Conv):
        return _correlate(evaluate(node.of, image, boundary), node, boundary)
    if isinstance(node, Map):
        x = evaluate(node.of, image, boundary)
        return {
            "abs": np.abs,
            "square": np.square,
            "sqrt": np.sqrt,
            "negate": np.negative,
            "add": lambda v: v + node.amount,
            "multiply": lambda v: v * node.amount,
        }[node.fn](x)
    if isinstance(node, Edge):
        return evaluate(node.of, image, boundary)
    assert isinstance(node, Join)
    parts = np.stack([evaluate(part, image, boundary) for part in node.of])
    if node.fn == "atan2":
        return np.arctan2(parts[0], parts[1])
    if node.fn == "norm":
        return np.sqrt(np.square(parts).sum(0))
    return getattr(parts, node.fn)(axis=0)


def _correlate(x: np.ndarray, node: Conv, boundary: Boundary) -> np.ndarray:
    kernel, origin = node.kernel.array, node.kernel.origin
    shift = tuple(o - n // 2 for o, n in zip(origin, kernel.shape, strict=True))
    extra = x.ndim - kernel.ndim
    return ndimage.correlate(
        x,
        kernel.reshape((1,) * extra + kernel.shape),
        mode=SCIPY[boundary.mode],
        cval=boundary.value,
        origin=(0,) * extra + shift,
    )


def cut_valid(node: Node, response: np.ndarray, ndim: int) -> np.ndarray:
    """What is left of a response under the boundary `valid`."""
    cut = tuple(
        slice(before, n - after)
        for (before, after), n in zip(reach_of(node, ndim), response.shape[-ndim:], strict=True)
    )
    return response[(..., *cut)]


def tolerance(response: np.ndarray) -> float:
    """DESIGN accuracy rule: 1e-5 of the response's range + 2 ulp of its largest magnitude."""
    if not response.size:
        return 0.0
    peak = float(np.abs(response).max())
    return 1e-5 * float(np.ptp(response)) + 2 * float(np.spacing(np.float32(peak)))

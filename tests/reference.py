"""The plain path: expressions evaluated in float64 with scipy.ndimage. Slow, and short to read."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pipeline.bank.expr import (
    Conv,
    Edge,
    Input,
    Join,
    Lookup,
    Node,
    Pool,
    Spectral,
    Spectrum,
    reach_of,
)
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


NUMPY = {  # scipy's modes as numpy.pad calls them
    "reflect": "symmetric",
    "mirror": "reflect",
    "nearest": "edge",
    "constant": "constant",
    "wrap": "wrap",
    "nodata": "constant",
}


def evaluate(node: Node, image: np.ndarray, boundary: Boundary) -> np.ndarray:
    """A response over a whole image: (bands, *shape) or (*shape); `valid` still has to be cut.

    Exact where no node but Spectrum and Edge lies between two that look at neighbours.
    """
    if isinstance(node, Input):
        return image.astype(np.float64) if node.band is None else image[node.band].astype(float)
    if isinstance(node, Join):
        return _join(node, np.stack([evaluate(part, image, boundary) for part in node.of]))
    if isinstance(node, Spectral):
        return _spectral(node, image, boundary)
    assert not isinstance(node, Spectrum)
    x = evaluate(node.of, image, boundary)
    if isinstance(node, Conv):
        return _correlate(x, node, boundary)
    if isinstance(node, Pool):
        extreme = ndimage.maximum_filter if node.fn == "max" else ndimage.minimum_filter
        sizes = (1,) * (x.ndim - len(node.shape)) + node.shape
        window = np.zeros([(n - 1) * node.step + 1 for n in sizes], bool)
        window[(slice(None, None, node.step),) * x.ndim] = True
        origin = [n // 2 * node.step - w // 2 for n, w in zip(sizes, window.shape, strict=True)]
        mode, value = SCIPY[boundary.mode], boundary.value
        return extreme(x, footprint=window, mode=mode, cval=value, origin=origin)
    if isinstance(node, Lookup):
        return np.asarray(node.table)[x.astype(int)]
    if isinstance(node, Edge):
        return x
    return {
        "abs": np.abs,
        "square": np.square,
        "sqrt": np.sqrt,
        "negate": np.negative,
        "rectify": lambda v: np.maximum(v, 0),
        "exp": np.exp,
        "expm1": np.expm1,
        "log": lambda v: np.log(np.maximum(v, 1e-30)),
        "sin": np.sin,
        "cos": np.cos,
        "add": lambda v: v + node.amount,
        "multiply": lambda v: v * node.amount,
        "power": lambda v: np.abs(v) ** node.amount,
        "at_least": lambda v: (v >= node.amount).astype(float),
    }[node.fn](x)


def _join(node: Join, parts: np.ndarray) -> np.ndarray:
    if node.fn == "atan2":
        return np.arctan2(parts[0], parts[1])
    if node.fn == "norm":
        return np.sqrt(np.square(parts).sum(0))
    if node.fn == "ratio":
        x, y = parts
        return np.divide(x, y, out=np.zeros_like(x), where=np.abs(y) >= np.finfo(np.float32).tiny)
    if node.fn == "product":
        return parts.prod(0)
    if node.fn in ("eigenvalue", "eigenvector"):
        n = 2 if len(parts) == 3 else 3
        matrix = np.empty((*parts.shape[1:], n, n))
        for part, (i, j) in zip(parts, zip(*np.triu_indices(n), strict=True), strict=True):
            matrix[..., i, j] = matrix[..., j, i] = part
        values, vectors = np.linalg.eigh(matrix)
        if node.fn == "eigenvalue":
            return values[..., node.index]
        vector = vectors[..., node.index // n]
        first = np.take_along_axis(vector, (vector != 0).argmax(-1)[..., None], -1)[..., 0]
        return vector[..., node.index % n] * np.sign(first)
    return getattr(parts, node.fn)(axis=0)


def _spectral(node: Spectral, image: np.ndarray, boundary: Boundary) -> np.ndarray:
    """Complex transforms of all axes at once, in float64."""
    x = evaluate(node.of.of, image, boundary)
    axes = tuple(range(-node.of.rank, 0))
    share = 0.0 if boundary.mode == "wrap" else node.of.pad
    pad = [int(np.ceil(share * n)) if i - x.ndim in axes else 0 for i, n in enumerate(x.shape)]
    how = {"constant_values": boundary.value} if boundary.mode == "constant" else {}
    wide = np.pad(x, [(p, p) for p in pad], NUMPY[boundary.mode], **how)
    spectrum = np.fft.fftn(wide, axes=axes) * node.transfer.sample(wide.shape[-node.of.rank :])
    response = np.fft.ifftn(spectrum, axes=axes)
    response = response.real if node.part == "real" else response.imag
    return response[tuple(slice(p, p + n) for p, n in zip(pad, x.shape, strict=True))]


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

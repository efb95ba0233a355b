"""Rewrites of a bank that keep its answers: each is node -> node and has a property test."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from pipeline.bank.expr import (
    Array,
    Conv,
    Edge,
    Input,
    Join,
    Kernel,
    Node,
    Pool,
    Spectrum,
    rewrite,
)
from pipeline.boundary import Boundary

TOLERANCE = 1e-9
"""Bound on |K - K_eff|_1 / |K|_1 of a factored kernel: far below float32 rounding."""


def bind(node: Node, boundary: Boundary) -> Node:
    """Say at every Input, Edge and Spectrum what lies beyond the image."""

    def change(this: Node) -> Node:
        if isinstance(this, Input | Edge | Spectrum) and this.boundary is None:
            return replace(this, boundary=boundary)
        return this

    return rewrite(node, change)


def lift(node: Node, ndim: int) -> Node:
    """Apply an expression of lower rank slice by slice: its kernels get leading axes of size 1."""

    def change(this: Node) -> Node:
        if isinstance(this, Pool):
            return replace(this, shape=(1,) * (ndim - len(this.shape)) + this.shape)
        if not isinstance(this, Conv):
            return this
        array, origin = this.kernel.array, this.kernel.origin
        extra = ndim - array.ndim
        kernel = Kernel.of(array.reshape((1,) * extra + array.shape), (0,) * extra + origin)
        return replace(this, kernel=kernel)

    return rewrite(node, change)


def compose(node: Node) -> Node:
    """Merge convolutions of convolutions: between Input or Edge and a response stands one kernel.

    Nodata-correct convolution is defined on that composed kernel.
    """

    def change(this: Node) -> Node:
        if isinstance(this, Conv) and isinstance(this.of, Conv):
            return Conv(this.of.of, _after(this.of.kernel, this.kernel))
        return this

    return rewrite(node, change)


def _after(first: Kernel, second: Kernel) -> Kernel:
    a, b = first.array, second.array
    out = np.zeros(tuple(m + n - 1 for m, n in zip(a.shape, b.shape, strict=True)))
    for at in np.argwhere(b):
        box = tuple(slice(i, i + n) for i, n in zip(at, a.shape, strict=True))
        out[box] += b[tuple(at)] * a
    return Kernel.of(out, tuple(p + q for p, q in zip(first.origin, second.origin, strict=True)))


def factor(node: Node) -> Node:
    """Turn kernels of low rank into sums of 1-D passes where that takes fewer taps.

    Equal passes are equal nodes, so kernels with a common profile share the work.
    """

    def change(this: Node) -> Node:
        chains = separate(this.kernel) if isinstance(this, Conv) else None
        if chains is None or not isinstance(this, Conv):
            return this
        sums = tuple(_chain(this.of, chain) for chain in chains)
        return sums[0] if len(sums) == 1 else Join(sums, "sum")

    return rewrite(node, change)


def _chain(of: Node, kernels: tuple[Kernel, ...]) -> Node:
    for kernel in kernels:
        of = Conv(of, kernel)
    return of


@lru_cache(maxsize=4096)
def separate(kernel: Kernel) -> tuple[tuple[Kernel, ...], ...] | None:
    """Chains of 1-D kernels whose sum is the kernel to within TOLERANCE; None when dense is less.

    Recursive singular value decomposition: axis 0 against the rest, then the rest. Axis 0 comes
    first in a chain, where lines still have their halo: passes over lines whose length is a power
    of two fall into the same cache sets. Every pass but the last is scaled to a peak of 1, so
    that kernels which differ by a factor share their first passes.
    """
    array = kernel.array
    terms = _terms(array)
    cost = sum(np.count_nonzero(taps) for term in terms for taps in term if taps.size > 1)
    if cost >= np.count_nonzero(array):
        return None
    rebuilt = sum(_outer(term) for term in terms)
    if np.abs(rebuilt - array).sum() > TOLERANCE * np.abs(array).sum():
        return None
    return tuple(_kernels(term, kernel) for term in terms)


def _terms(array: Array) -> list[list[Array]]:
    if array.ndim == 1:
        return [[array]]
    u, s, vt = np.linalg.svd(array.reshape(array.shape[0], -1), full_matrices=False)
    keep = s > s[0] * 1e-14 * max(array.shape)
    out: list[list[Array]] = []
    for left, weight, right in zip(u.T[keep], s[keep], vt[keep], strict=True):
        rest = (weight * right).reshape(array.shape[1:])
        out += [[_clean(left), *term] for term in _terms(rest)]
    return out


def _clean(taps: Array) -> Array:
    """Remove rounding dust, so that symmetric and sparse profiles stay so."""
    return np.where(np.abs(taps) < 1e-14 * np.abs(taps).max(), 0.0, taps)


def _outer(term: list[Array]) -> Array:
    out = np.ones(())
    for taps in term:
        out = np.multiply.outer(out, taps)
    return out


def _kernels(term: list[Array], kernel: Kernel) -> tuple[Kernel, ...]:
    scale, out = 1.0, []
    axes = [a for a in range(len(term)) if term[a].size > 1] or [0]
    scale *= float(np.prod([term[a].sum() for a in range(len(term)) if a not in axes]))
    for axis in axes:
        taps = _clean(term[axis])
        peak = float(taps[np.abs(taps).argmax()])
        taps, scale = np.round(taps / peak, 15), scale * peak  # taps that cancel still do
        if axis == axes[-1]:
            taps = taps * scale
        shape, origin = [1] * len(term), [0] * len(term)
        shape[axis], origin[axis] = taps.size, kernel.origin[axis]
        out.append(Kernel.of(taps.reshape(shape), tuple(origin)))
    return tuple(out)

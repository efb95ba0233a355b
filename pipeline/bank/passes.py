"""Rewrites of a bank that keep its answers: each is node -> node and has a property test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, reduce
from math import lcm

import numpy as np

from pipeline.bank import costs
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

SEPARABLE = 1e-13
"""The same bound for a product of one column and one row, which is found without an SVD."""

_LARGEST, _DUST = 256, 1e-12
"""Of profiles of integers: the peak, and how far from integers rounding may have left them."""


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
    """Turn kernels of low rank into sums of 1-D passes where that costs less."""

    def change(this: Node) -> Node:
        chains = separate(this.kernel) if isinstance(this, Conv) else None
        if chains is None or not isinstance(this, Conv):
            return this
        sums = tuple(reduce(Conv, chain, this.of) for chain in chains)
        return sums[0] if len(sums) == 1 else Join(sums, "sum")

    return rewrite(node, change)


@dataclass(frozen=True, slots=True)
class Chain:
    """1-D passes in a canonical scale, one after another, and the weight of what comes out."""

    weight: float
    passes: tuple[Kernel, ...]

    @property
    def reversed(self) -> Chain:
        """The same passes, the last one first."""
        return Chain(self.weight, self.passes[::-1])


@lru_cache(maxsize=4096)
def separate(kernel: Kernel) -> tuple[tuple[Kernel, ...], ...] | None:
    """Chains of 1-D kernels whose sum is the kernel to within TOLERANCE; None if dense costs less.

    The last pass of a chain holds its weight.
    """
    chains = factors(kernel)
    if chains is None:
        return None
    sums = costs.mix(len(chains)) if len(chains) > 1 else 0.0
    if sum(costs.taps(p) for c in chains for p in c.passes) + sums >= costs.taps(kernel):
        return None
    return tuple(
        (*c.passes[:-1], Kernel.of(c.passes[-1].array * c.weight, c.passes[-1].origin))
        for c in chains
    )


@lru_cache(maxsize=4096)
def factors(kernel: Kernel) -> tuple[Chain, ...] | None:
    """Chains of 1-D kernels whose sum is the kernel to within TOLERANCE; None for 1-D kernels.

    Recursive singular value decomposition: axis 0 against the rest, then the rest. Axis 0 comes
    first in a chain. Passes are scaled to the least integers there are, else to a peak of 1, and
    rounded, so that kernels with a common profile have equal passes.
    """
    array = kernel.array
    if sum(n > 1 for n in array.shape) < 2 or not array.any():
        return None
    terms = _terms(array)
    chains = tuple(_normal(term, kernel) for term in terms)
    if np.abs(sum(map(_rebuilt, chains)) - array).sum() > TOLERANCE * np.abs(array).sum():
        return None
    return chains


def _terms(array: Array) -> list[list[Array]]:
    if array.ndim == 1:
        return [[array]]
    flat = array.reshape(array.shape[0], -1)
    at, across = np.unravel_index(np.argmax(np.abs(flat)), flat.shape)
    left, right = flat[:, across] / flat[at, across], flat[at]
    if np.abs(flat - np.outer(left, right)).sum() <= SEPARABLE * np.abs(flat).sum():
        return [[_clean(left), *term] for term in _terms(right.reshape(array.shape[1:]))]
    u, s, vt = np.linalg.svd(flat, full_matrices=False)
    keep = s > s[0] * 1e-14 * max(array.shape)
    out: list[list[Array]] = []
    for left, weight, right in zip(u.T[keep], s[keep], vt[keep], strict=True):
        rest = (weight * right).reshape(array.shape[1:])
        out += [[_clean(left), *term] for term in _terms(rest)]
    return out


def _clean(taps: Array) -> Array:
    """Remove rounding dust, so that symmetric and sparse profiles stay so."""
    return np.where(np.abs(taps) < 1e-14 * np.abs(taps).max(), 0.0, taps)


def _rebuilt(chain: Chain) -> Array:
    out = np.full((), chain.weight)
    for passed in chain.passes:
        out = out * passed.array
    return out


def _normal(term: list[Array], kernel: Kernel) -> Chain:
    weight, out = 1.0, []
    for axis, profile in enumerate(term):
        taps = _clean(profile)
        size = np.abs(taps)
        peak = float(taps[np.argmax(size > size.max() * (1 - 1e-9))])  # the first of equals
        taps, scale = _canonical(taps / peak)
        weight *= peak / scale
        if taps.size == 1:
            continue
        shape, origin = [1] * len(term), [0] * len(term)
        shape[axis], origin[axis] = taps.size, kernel.origin[axis]
        out.append(Kernel.of(taps.reshape(shape), tuple(origin)))
    return Chain(weight, tuple(out))


def _canonical(unit: Array) -> tuple[Array, int]:
    """A profile of peak 1 as least integers, if those are small, and what it was multiplied by.

    With integers every sum over pixels of 8 bits is exact, in whatever order.
    """
    scale = 1
    for tap in unit.tolist():
        share = Fraction(tap).limit_denominator(_LARGEST)
        scale = lcm(scale, share.denominator)
        if abs(share - tap) > _DUST or scale > _LARGEST:
            return np.round(unit, 12), 1
    return np.round(unit * scale), scale

"""Kernels whose responses are sums of other responses: copies, negatives, linear combinations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.bank import costs
from pipeline.bank.expr import Array, Kernel
from pipeline.bank.passes import TOLERANCE
from pipeline.types import Reach

DEPENDENT = 1 << 24
"""Weights of one bank; linear dependence is not looked for among more."""

LARGEST_WEIGHT = 8.0
"""Sum of |weights| of a linear combination: rounding errors grow no more than this."""


@dataclass(frozen=True, slots=True)
class Combined:
    """A weighted sum of responses to other kernels."""

    kernels: tuple[Kernel, ...]
    weights: tuple[float, ...]


def multiples(kernels: Iterable[Kernel]) -> dict[Kernel, Combined]:
    """Kernels that are a number times an earlier one: scaled and negated copies."""
    first: dict[Kernel, tuple[Kernel, float]] = {}
    found = {}
    for kernel in kernels:
        weight, normal = normalized(kernel)
        if normal not in first:
            first[normal] = kernel, weight
        elif costs.mix(1) < costs.taps(kernel):
            other, its = first[normal]
            found[kernel] = Combined((other,), (weight / its,))
    return found


def normalized(kernel: Kernel) -> tuple[float, Kernel]:
    """A number and a kernel of peak 1, whose product is the kernel to 12 digits."""
    array = kernel.array
    size = np.abs(array).ravel()
    if not size.max():
        return 1.0, kernel
    peak = float(array.ravel()[np.argmax(size > size.max() * (1 - 1e-9))])
    return peak, Kernel.of(np.round(array / peak, 12), kernel.origin)


def combinations(kernels: Sequence[Kernel]) -> dict[Kernel, Combined]:
    """Kernels that are linear combinations of others, as the orientations of a steerable filter.

    Gram-Schmidt with pivots finds the ones to compute; of the others the weights are found by
    least squares and checked against the same bound as factored kernels.
    """
    if len(kernels) < 2:
        return {}
    stack = aligned(kernels)
    if stack.size > DEPENDENT:
        return {}
    sizes = np.abs(stack).sum(1)
    rows = stack / sizes[:, None]
    basis = _pivots(rows)
    rest = [i for i in range(len(kernels)) if i not in basis]
    if not rest:
        return {}
    weights = np.linalg.lstsq(rows[basis].T, rows[rest].T, rcond=None)[0].T
    weights[np.abs(weights) < 1e-13] = 0.0
    errors = np.abs(weights @ rows[basis] - rows[rest]).sum(1)
    found = {}
    for i, row, error in zip(rest, weights, errors, strict=True):
        if error <= TOLERANCE and np.abs(row).sum() <= LARGEST_WEIGHT:
            used = [
                (basis[j], float(row[j] * sizes[i] / sizes[basis[j]])) for j in np.flatnonzero(row)
            ]
            found[kernels[i]] = Combined(
                tuple(kernels[j] for j, _ in used), tuple(w for _, w in used)
            )
    return found


def aligned(kernels: Sequence[Kernel]) -> Array:
    """(kernels, taps): all of them over one window that holds them, origin on origin."""
    before, after = zip(*common_reach(kernels), strict=True)
    out = np.zeros((len(kernels), *(a + b + 1 for a, b in zip(before, after, strict=True))))
    for row, kernel in zip(out, kernels, strict=True):
        corner = tuple(b - o for b, o in zip(before, kernel.origin, strict=True))
        row[tuple(slice(c, c + n) for c, n in zip(corner, kernel.shape, strict=True))] = (
            kernel.array
        )
    return out.reshape(len(kernels), -1)


def _pivots(rows: Array) -> list[int]:
    """Rows that span the others, to rounding; early ones, which are computed first anyway."""
    left = rows[:, rows.any(0)]  # of kernels in planes across one another most taps are 0
    chosen: list[int] = []
    start = np.linalg.norm(rows, axis=1).max()
    while len(chosen) < min(rows.shape):
        size = np.linalg.norm(left, axis=1)
        size[chosen] = 0.0
        if size.max() <= 1e-11 * start:
            break
        pivot = int(np.argmax(size > 0.3 * size.max()))
        chosen.append(pivot)
        direction = left[pivot] / size[pivot]
        for _ in range(2):  # twice is enough
            left = left - np.outer(left @ direction, direction)
    return chosen


def common_reach(kernels: Iterable[Kernel]) -> Reach:
    """The reach that holds that of all kernels."""
    every = list(zip(*(k.reach for k in kernels), strict=True))
    return tuple((max(a for a, _ in axis), max(b for _, b in axis)) for axis in every)

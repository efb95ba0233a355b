"""What the engines cost, in nanoseconds per pixel of one response on one core.

Constants, because a plan chosen by timing would give other bits from run to run. Fitted to
benchmarks/bank.py on an AMD EPYC; only their ratios decide.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from pipeline.bank.expr import Blocks, Box, Conv, Kernel, Mix, Node, Product, Spectral, Spectrum
from pipeline.types import Ints

READ, WRITE, TAP, LONE_TAP, PAIRED_TAP = 0.12, 0.08, 0.0185, 0.036, 0.0115
"""A walk over an image, one over a response, and each tap: of a column or in company, alone, or in
company and one of a pair whose pixels are added up first."""

PLAIN, STACKED, EVEN, ODD = range(4)
"""Ways to compute a weighted sum: tap by tap; a column, several lines of it; by pairs of taps of
equal or opposite weight, for a kernel that is the same or the negative when it is turned round."""

TOGETHER, LINES = 3, 4
"""Kernels of one window, even and odd ones each, or lines under a column, that are computed
together in registers. More would save a little arithmetic, but their responses, written side by
side, would leave the cache before anybody reads them."""

BOX_LAST, BOX = 1.3, 0.36
"""Running sums along the last axis, and along any other."""

TERM = 0.10
"""One response added to a weighted sum."""

FORWARD, INVERSE = 3.0, 3.2
"""Each point of a transform; the inverse with the product and the copy into the response."""

POINTWISE = 0.5
"""Any other function of a pixel; only shown, never decided on."""

SIDES = {1: 4096, 2: 384, 3: 96}
"""What blocks measure, as far as costs go, by the number of axes that are transformed."""


def taps(kernel: Kernel, company: int = 1) -> float:
    """Multiply and add every weight that is not zero; company: kernels computed together.

    Where loads are not shared, they take longer than the arithmetic.
    """
    how = way(kernel)
    if how == STACKED:
        return READ + WRITE + TAP * _weights(kernel)
    tap = LONE_TAP if company <= 1 else TAP if how == PLAIN else PAIRED_TAP
    return READ / max(1, min(company, TOGETHER)) + WRITE + tap * _weights(kernel)


@lru_cache(maxsize=4096)
def way(kernel: Kernel) -> int:
    """How the taps of a kernel are summed: it depends on nothing else, nor do a pixel's bits.

    Stacked are kernels that are dense along one axis that is not the last: lines above one another
    are computed together then, whose pixels are mostly the same.
    """
    single = kernel.array.astype(np.float32)
    turned = np.flip(single)
    longest = max(single.shape[:-1], default=1)
    if 1 < single.size == longest and 2 * _weights(kernel) >= single.size:
        return STACKED
    if single.size > 1 and np.array_equal(single, turned):
        return EVEN
    return ODD if np.array_equal(single, -turned) else PLAIN


def alike(kernel: Kernel) -> object:
    """What kernels agree on that can be computed together: even and odd ones share pairs."""
    return kernel.shape, kernel.origin, min(way(kernel), EVEN)


@lru_cache(maxsize=4096)
def _weights(kernel: Kernel) -> int:
    return int(np.count_nonzero(kernel.array))


def box(kernel: Kernel) -> float:
    """Running sums along the one axis of a kernel."""
    return BOX_LAST if kernel.shape[-1] > 1 else BOX


def overlap(shape: Ints) -> float:
    """Points that are transformed for each pixel, for kernels of this shape."""
    long = [n for n in shape if n > 1]
    sides = [max(SIDES[min(len(long), 3)], 2 * n) for n in long]
    return prod(side / (side - n + 1) for side, n in zip(sides, long, strict=True))


def mix(terms: int) -> float:
    """A weighted sum."""
    return WRITE + TERM * terms


def cost(node: Node, company: int) -> float:
    """One node without what it is computed from; company: nodes of its step."""
    if isinstance(node, Conv):
        return taps(node.kernel, company)
    if isinstance(node, Box):
        return box(node.kernel)
    if isinstance(node, Mix):
        return mix(len(node.of))
    if isinstance(node, Blocks):
        return FORWARD * overlap(tuple(a + b + 1 for a, b in node.reach))
    if isinstance(node, Product):
        return INVERSE * overlap(tuple(a + b + 1 for a, b in node.of.reach))
    return INVERSE if isinstance(node, Spectrum | Spectral) else POINTWISE

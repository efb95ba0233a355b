"""Moments and extremes of responses, in one walk."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.fused.reductions import Reduction
from pipeline.fused.source import Template
from pipeline.statistics.sums import tree

_TEMPLATE = Template(
    pointers=("moments_ptr",),
    begin="""\
c@ = tl.zeros([BLOCK], tl.float32)
s1@ = tl.zeros([BLOCK], tl.float64)
s2@ = tl.zeros([BLOCK], tl.float64)
s3@ = tl.zeros([BLOCK], tl.float64)
s4@ = tl.zeros([BLOCK], tl.float64)
low@ = tl.full([BLOCK], float("inf"), tl.float32)
high@ = tl.full([BLOCK], float("-inf"), tl.float32)
""",
    each="""\
c@ = tl.where(y == top, a@, c@)
d = a@.to(tl.float64) - c@.to(tl.float64)
d2 = d * d
s1@ += d
s2@ += d2
s3@ += d2 * d
s4@ += d2 * d2
low@ = tl.minimum(low@, a@, propagate_nan=tl.PropagateNan.ALL)
high@ = tl.maximum(high@, a@, propagate_nan=tl.PropagateNan.ALL)
""",
    end="""\
n = (bottom - top).to(tl.float64)
c = tl.sum(tl.where(lane == 0, c@, 0.0), 0).to(tl.float64)
d = c@.to(tl.float64) - c
s4 = s4@ + d * (4.0 * s3@ + d * (6.0 * s2@ + d * (4.0 * s1@ + d * n)))
s3 = s3@ + d * (3.0 * s2@ + d * (3.0 * s1@ + d * n))
s2 = s2@ + d * (2.0 * s1@ + d * n)
s1 = s1@ + d * n
to = moments_ptr + ((q + @) * tiles + tile) * 8
tl.store(to, tl.sum(tl.where(ok, n, 0.0), 0))
tl.store(to + 1, c)
tl.store(to + 2, tl.sum(tl.where(ok, s1, 0.0), 0))
tl.store(to + 3, tl.sum(tl.where(ok, s2, 0.0), 0))
tl.store(to + 4, tl.sum(tl.where(ok, s3, 0.0), 0))
tl.store(to + 5, tl.sum(tl.where(ok, s4, 0.0), 0))
lost = tl.sum((high@ != high@).to(tl.int32), 0) > 0
tl.store(to + 6, tl.where(lost, float("nan"), tl.min(low@, 0)).to(tl.float64))
tl.store(to + 7, tl.where(lost, float("nan"), tl.max(high@, 0)).to(tl.float64))
""",
)


def moments() -> Reduction:
    """Moments of the cells, (P, *cells, 7), and least and greatest value, (P, 2).

    Powers are those of distances from the first pixel of each lane, moved to the first one of the
    tile, of the cell, at last to the mean. Sums over n pixels about one of them lose a factor of
    some n at most of float64's digits when they move to the mean, wherever that pixel lies; and a
    constant plane has no spread at all.
    """
    return Reduction(_TEMPLATE, _answer, sums=8)


def _answer(partials: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Move the sums of a cell to the pixel of its first tile, add up, move to the mean.

    partials: of each tile n, a pixel c, sums of the first four powers of x - c, extremes.
    """
    n, c, s1, s2, s3, s4, low, high = partials.unbind(-1)
    first = c[..., :1]
    d = torch.where(n > 0, c - first, 0.0)
    sums = (
        n.clone(),
        s1 + d * n,
        s2 + d * (2.0 * s1 + d * n),
        s3 + d * (3.0 * s2 + d * (3.0 * s1 + d * n)),
        s4 + d * (4.0 * s3 + d * (6.0 * s2 + d * (4.0 * s1 + d * n))),
    )
    n, s1, s2, s3, s4 = map(tree, sums)
    first = first[..., 0]
    e = s1 / n.clamp(min=1.0)
    found = (
        n,
        first + e,
        s2 - s1 * e,
        s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e),
        s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e),
        n * first + s1,
        s2 + first * (2.0 * s1 + n * first),
    )
    # -0 + 0 = +0: the two zeros are equal, so either may have been found
    extremes = torch.stack((low.flatten(1).amin(1), high.flatten(1).amax(1)), 1) + 0.0
    return torch.stack(found, -1).cpu().numpy(), extremes.cpu().numpy()

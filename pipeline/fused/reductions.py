"""What one walk over the pixels finds out: how it is written in Triton, and what its results say.

Sums are taken in float64: of a lane's rows, then of the lanes of a tile, then of the tiles of a
cell, in an order that is written down. Counts are of integers, in any order. More of them stand in
`moments`, `keys` and `ranks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.fused.source import Template
from pipeline.statistics.base import Floats
from pipeline.statistics.sums import tree
from pipeline.types import Ints


@dataclass(frozen=True)
class Reduction:
    """One of the things that a walk finds out.

    answer: what the results say, or, where another walk has to go on, what that one finds out;
    given: what all pointers of the template but the last point to. Results are that many float64
    `sums` of each tile, (P, *cells, tiles, sums), or int32 `counters` from 0 on, (P, *counters).
    """

    template: Template
    answer: Callable[[Tensor], Any]
    given: tuple[Tensor, ...] = ()
    sums: int = 0
    counters: Ints = ()

    def room(self, planes: int, tiles: Ints, device: torch.device) -> Tensor:
        """Where the results go. tiles: cells along each axis, and tiles of a cell."""
        if self.sums:
            return torch.empty((planes, *tiles, self.sums), dtype=torch.float64, device=device)
        return torch.zeros((planes, *self.counters), dtype=torch.int32, device=device)


_DEVIATIONS = Template(
    pointers=("centres_ptr", "deviations_ptr"),
    begin="""\
one@ = tl.load(centres_ptr + 2 * (q + @))
other@ = tl.load(centres_ptr + 2 * (q + @) + 1)
d1@ = tl.zeros([BLOCK], tl.float64)
d2@ = tl.zeros([BLOCK], tl.float64)
""",
    each="""\
x = a@.to(tl.float64)
d1@ += tl.abs(x - one@)
d2@ += tl.abs(x - other@)
""",
    end="""\
to = deviations_ptr + ((q + @) * tiles + tile) * 2
tl.store(to, tl.sum(tl.where(ok, d1@, 0.0), 0))
tl.store(to + 1, tl.sum(tl.where(ok, d2@, 0.0), 0))
""",
)

_WITHIN = Template(
    pointers=("limits_ptr", "within_ptr"),
    begin="""\
from@ = tl.load(limits_ptr + 3 * (q + @))
till@ = tl.load(limits_ptr + 3 * (q + @) + 1)
middle@ = tl.load(limits_ptr + 3 * (q + @) + 2)
w1@ = tl.zeros([BLOCK], tl.int32)
w2@ = tl.zeros([BLOCK], tl.float64)
w3@ = tl.zeros([BLOCK], tl.float64)
""",
    each="""\
x = a@.to(tl.float64)
inside = (from@ <= x) & (x <= till@)
w1@ += inside.to(tl.int32)
w2@ += tl.where(inside, x, 0.0)
w3@ += tl.where(inside, tl.abs(x - middle@), 0.0)
""",
    end="""\
to = within_ptr + ((q + @) * tiles + tile) * 3
tl.store(to, tl.sum(tl.where(ok, w1@, 0), 0).to(tl.float64))
tl.store(to + 1, tl.sum(tl.where(ok, w2@, 0.0), 0))
tl.store(to + 2, tl.sum(tl.where(ok, w3@, 0.0), 0))
""",
)


def deviations(centres: Floats, device: torch.device) -> Reduction:
    """Sums of |x - centre|, (P, *cells, 2), for two centres, (P, 2)."""
    return Reduction(_DEVIATIONS, _added, (_moved(centres, device),), sums=2)


def within(ends: Floats, centres: Floats, device: torch.device) -> Reduction:
    """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3).

    ends (P, 2), both included; centres (P,).
    """
    limits = _moved(np.column_stack((ends, centres)), device)
    return Reduction(_WITHIN, _added, (limits,), sums=3)


def bins(extremes: Floats, count: int, device: torch.device) -> Reduction:
    """Count equal bins on [min, max], (P, count); nothing where these are not finite.

    extremes (P, 2). A tile counts for itself first: pixels side by side would wait for the same
    counter. Triton wants a power of two of counters.
    """
    room = 1 << (count - 1).bit_length()
    template = Template(
        pointers=("extents_ptr", "bins_ptr"),
        begin=f"""\
floor@ = tl.load(extents_ptr + 2 * (q + @))
wide@ = tl.load(extents_ptr + 2 * (q + @) + 1)
bins@ = tl.zeros([{room}], tl.int32)
""",
        each=f"""\
place = ((a@.to(tl.float64) - floor@) * {float(count)!r} / wide@).to(tl.int32)
place = tl.minimum(tl.maximum(place, 0), {count - 1})
bins@ += tl.histogram(place, {room}, mask=ok)
""",
        end=f"""\
to = bins_ptr + (q + @) * {room} + tl.arange(0, {room})
tl.atomic_add(to, bins@, sem="relaxed")
""",
    )
    finite = np.isfinite(extremes).all(axis=1, keepdims=True)
    low, high = np.where(finite, extremes, 0.0).T
    extents = np.column_stack((low, np.where(high > low, high - low, 1.0)))

    def answer(counts: Tensor) -> np.ndarray:
        return np.where(finite, counts[:, :count].long().cpu().numpy(), 0)

    return Reduction(template, answer, (_moved(extents, device),), counters=(room,))


def _moved(numbers: Floats, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers)).to(device)


def _added(partials: Tensor) -> np.ndarray:
    """Add the tiles of each cell up: (P, *cells, tiles, K) to (P, *cells, K)."""
    return tree(partials.movedim(-2, -1).contiguous()).cpu().numpy()

"""What one walk over the pixels finds out: how it is written in Triton, and what its results say.

Sums are taken in float64: of a lane's rows, then of the lanes of a tile, then of the tiles of a
cell, in an order that is written down. Counts are of integers, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.fused.source import Template
from pipeline.statistics.base import Floats
from pipeline.statistics.sums import tree
from pipeline.types import Ints

_NAN = 0x7FC00000


@dataclass(frozen=True, slots=True)
class Frame:
    """Where results go: planes of all filters, cells, and tiles of each cell."""

    device: torch.device
    planes: int
    cells: Ints
    tiles: int

    def partials(self, count: int) -> Tensor:
        """Room for some numbers of each tile: (P, *cells, tiles, count)."""
        shape = (self.planes, *self.cells, self.tiles, count)
        return torch.empty(shape, dtype=torch.float64, device=self.device)

    def counts(self, *shape: int) -> Tensor:
        """Counters at 0: (P, *shape)."""
        return torch.zeros((self.planes, *shape), dtype=torch.int32, device=self.device)

    def given(self, numbers: Floats) -> Tensor:
        """Numbers, moved to where they are needed."""
        return torch.from_numpy(np.ascontiguousarray(numbers)).to(self.device)


class Reduction(Protocol):
    """One of the things that a walk finds out."""

    @property
    def template(self) -> Template:
        """How it is written."""
        ...

    def buffers(self, frame: Frame) -> list[Tensor]:
        """What the template's pointers point to."""
        ...

    def answer(self, buffers: list[Tensor]) -> tuple[Any, ...]:
        """What the results say."""
        ...


@dataclass(frozen=True)
class Moments:
    """Moments of the cells, (P, *cells, 7), and least and greatest value, (P, 2).

    Powers are those of distances from the first pixel of each lane, moved to the first one of the
    tile, of the cell, at last to the mean. Sums over n pixels about one of them lose a factor of
    some n at most of float64's digits when they move to the mean, wherever that pixel lies; and a
    constant plane has no spread at all.
    """

    template: ClassVar[Template] = Template(
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

    def buffers(self, frame: Frame) -> list[Tensor]:
        """Of each tile: n, a pixel c, sums of the first four powers of x - c, extremes."""
        return [frame.partials(8)]

    def answer(self, buffers: list[Tensor]) -> tuple[np.ndarray, ...]:
        """Move the sums of a cell to the pixel of its first tile, add up, move to the mean."""
        (partials,) = buffers
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


@dataclass(frozen=True)
class Deviations:
    """Sums of |x - centre|, (P, *cells, 2), for two centres, (P, 2)."""

    centres: Floats
    template: ClassVar[Template] = Template(
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

    def buffers(self, frame: Frame) -> list[Tensor]:
        """The centres, and both sums of each tile."""
        return [frame.given(self.centres), frame.partials(2)]

    def answer(self, buffers: list[Tensor]) -> tuple[np.ndarray, ...]:
        """Add the tiles of each cell up."""
        return (_added(buffers[1]),)


@dataclass(frozen=True)
class Within:
    """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3).

    ends (P, 2), both included; centres (P,).
    """

    ends: Floats
    centres: Floats
    template: ClassVar[Template] = Template(
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

    def buffers(self, frame: Frame) -> list[Tensor]:
        """Ends and centre, and the three sums of each tile."""
        return [frame.given(np.column_stack((self.ends, self.centres))), frame.partials(3)]

    def answer(self, buffers: list[Tensor]) -> tuple[np.ndarray, ...]:
        """Add the tiles of each cell up."""
        return (_added(buffers[1]),)


@dataclass(frozen=True)
class Bins:
    """Count equal bins on [min, max], (P, count); extremes (P, 2)."""

    extremes: Floats
    count: int

    @property
    def template(self) -> Template:
        """A tile counts for itself first: pixels side by side would wait for the same counter."""
        return Template(
            pointers=("extents_ptr", "bins_ptr"),
            begin=f"""\
floor@ = tl.load(extents_ptr + 2 * (q + @))
wide@ = tl.load(extents_ptr + 2 * (q + @) + 1)
bins@ = tl.zeros([{self._room}], tl.int32)
""",
            each=f"""\
place = ((a@.to(tl.float64) - floor@) * {float(self.count)!r} / wide@).to(tl.int32)
place = tl.minimum(tl.maximum(place, 0), {self.count - 1})
bins@ += tl.histogram(place, {self._room}, mask=ok)
""",
            end=f"""\
to = bins_ptr + (q + @) * {self._room} + tl.arange(0, {self._room})
tl.atomic_add(to, bins@, sem="relaxed")
""",
        )

    @property
    def _room(self) -> int:
        """Counters, of which Triton wants a power of two."""
        return 1 << (self.count - 1).bit_length()

    def buffers(self, frame: Frame) -> list[Tensor]:
        """Least value and width, and the counters."""
        low, high = np.where(self._finite, self.extremes, 0.0).T
        extents = np.column_stack((low, np.where(high > low, high - low, 1.0)))
        return [frame.given(extents), frame.counts(self._room)]

    def answer(self, buffers: list[Tensor]) -> tuple[np.ndarray, ...]:
        """Nothing is counted where the extremes are not finite."""
        counts = buffers[1][:, : self.count].long().cpu().numpy()
        return (np.where(self._finite, counts, 0),)

    @property
    def _finite(self) -> npt.NDArray[np.bool_]:
        return np.logical_and.reduce(np.isfinite(self.extremes), axis=1, keepdims=True)


@dataclass(frozen=True)
class Keys:
    """Count the next bits of the keys that begin with given bits: (P, slots, 2^steps[-1]) int32.

    leading (P, slots): as in `statistics.base.Pixels`, on the device, where the counts stay. Its
    bits, step by step, are a tree, in which a key is followed down from node to node until it is
    in a slot or nowhere.
    """

    leading: Tensor
    steps: Ints

    @property
    def template(self) -> Template:
        """Down the tree by tables of nodes, -1 where there is none."""
        slots, levels = self.leading.shape[1], len(self.steps) - 1
        pointers = (*(f"nodes{level}_ptr" for level in range(levels)), "keys_ptr")
        places = []
        for level, (bits, done) in enumerate(zip(self.steps, accumulate(self.steps), strict=True)):
            more = f"((key >> {32 - done}) & {(1 << bits) - 1}).to(tl.int32)"
            size = (slots if level else 1) << bits
            places.append(
                f"{pointers[level]} + q * {size} + (@ * {size} + (node << {bits}) + {more})"
            )
        return Template(
            pointers=pointers,
            each="\n".join(
                [
                    "bits = (a@ + 0.0).to(tl.int32, bitcast=True)",  # one zero, no -0.0
                    f"bits = tl.where(a@ != a@, {_NAN}, bits)",
                    "key = (bits ^ ((bits >> 31) | -2147483648)).to(tl.uint32, bitcast=True)",
                    "node = tl.where(ok, 0, -1)",
                    *(
                        f"node = tl.load({place}, mask=node >= 0, other=-1).to(tl.int32)"
                        for place in places[:-1]
                    ),
                    f'tl.atomic_add({places[-1]}, 1, mask=node >= 0, sem="relaxed")',
                ]
            ),
        )

    def buffers(self, frame: Frame) -> list[Tensor]:
        """A table of nodes for each step but the last, and the counters."""
        slots = self.leading.shape[1]
        tables, parent = [], torch.zeros_like(self.leading)
        for level, bits in enumerate(self.steps[:-1]):
            begin = self.leading >> sum(self.steps[level + 1 : -1])
            shape = frame.planes, (slots if level else 1) << bits
            table = begin.new_full(shape, -1, dtype=torch.int8)
            place = (parent << bits) + (begin & ((1 << bits) - 1))
            parent = first_alike(begin)
            tables.append(table.scatter_(1, place, parent.to(torch.int8)))
        return [*tables, frame.counts(slots, 1 << self.steps[-1])]

    def answer(self, buffers: list[Tensor]) -> tuple[Tensor]:
        """Counts, where they are."""
        return (buffers[-1],)


def first_alike(x: Tensor) -> Tensor:
    """The first position, in each row of (P, n), of a number equal to the one that is there."""
    places = torch.arange(x.shape[1], device=x.device)
    return torch.where(x[:, :, None] == x[:, None, :], places, x.shape[1]).amin(2)


def _added(partials: Tensor) -> np.ndarray:
    """Add the tiles of each cell up: (P, *cells, tiles, K) to (P, *cells, K)."""
    return tree(partials.movedim(-2, -1).contiguous()).cpu().numpy()

"""What one walk over the pixels finds out: how it is written in Triton, and what its results say.

Sums are taken in float64: of a lane's rows, then of the lanes of a tile, then of the tiles of a
cell, in an order that is written down. Counts are of integers, in any order. More of them stand in
`moments` and `keys`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.fused.source import Template
from pipeline.statistics.base import Floats
from pipeline.statistics.sums import tree
from pipeline.types import Ints


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


def _added(partials: Tensor) -> np.ndarray:
    """Add the tiles of each cell up: (P, *cells, tiles, K) to (P, *cells, K)."""
    return tree(partials.movedim(-2, -1).contiguous()).cpu().numpy()

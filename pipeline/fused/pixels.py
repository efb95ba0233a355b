"""Pixels of responses that are nowhere: each walk computes them again, for all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.fused.keys import Keys
from pipeline.fused.launch import Tiles, cells_of, reduce
from pipeline.fused.moments import Moments
from pipeline.fused.ranks import Ranked
from pipeline.fused.reductions import Bins, Deviations, Reduction, Within
from pipeline.statistics.base import Counts, Floats
from pipeline.types import Ints, Reach, Region

Mark: TypeAlias = tuple[object, ...]
"""A question: its name, and the bytes of what is given with it."""

_Known = TypeVar("_Known")
_TILES = Tiles()


@dataclass
class Recomputed:
    """Pixels in a box of the responses to some kernels: `statistics.base.Pixels`.

    inputs: (P, *shape) with `margin` around the image. Planes are those of all kernels for the
    first input, then those for the second, and so on. A question that is new is answered by zeros,
    which `guesses` counts; after the next `walk`, by what is true. So one walk answers all.
    """

    inputs: Tensor
    box: Region
    kernels: Sequence[Kernel]
    margin: Reach
    tiles: Tiles = _TILES
    guesses: int = 0
    asked: dict[Mark, Reduction] = field(default_factory=dict, repr=False)
    known: dict[Mark, tuple[Any, ...]] = field(default_factory=dict, repr=False)
    searches: dict[Mark, Ranked] = field(default_factory=dict, repr=False)

    @property
    def planes(self) -> int:
        """Planes of all responses."""
        return len(self.kernels) * len(self.inputs)

    def walk(self) -> None:
        """Find out what was asked, one question of each kind."""
        first = {type(one): mark for mark, one in reversed(self.asked.items())}
        chosen = {mark: self.asked.pop(mark) for mark in first.values()}
        reductions = list(chosen.values())
        found = reduce(self.inputs, self.box, self.kernels, self.margin, reductions, self.tiles)
        for mark, answer in zip(chosen, found, strict=True):
            if mark in self.searches:
                self.searches[mark] = self.searches[mark].descend(*answer)
            else:
                self.known[mark] = answer

    def counts(self) -> Counts:
        """How many there are: (P,)."""
        return np.full(self.planes, self.box.size)

    def extremes(self) -> Floats:
        """Least and greatest value: (P, 2)."""
        return self._find(("moments",), Moments(), np.zeros((self.planes, 2)), which=1)

    def totals(self) -> Floats:
        """Sums of x: (P, *cells, 1)."""
        return self.moments()[..., 5:6]

    def moments(self) -> Floats:
        """Moments of the cells: (P, *cells, 7)."""
        return self._find(("moments",), Moments(), self._blank(7))

    def deviations(self, centres: Floats) -> Floats:
        """Sums of |x - centre|: (P, *cells, 2)."""
        mark = "deviations", centres.tobytes()
        return self._find(mark, Deviations(centres), self._blank(2))

    def within(self, ends: Floats, centres: Floats) -> Floats:
        """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3)."""
        mark = "within", ends.tobytes(), centres.tobytes()
        return self._find(mark, Within(ends, centres), self._blank(3))

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins: (P, count)."""
        mark = "bins", extremes.tobytes(), count
        return self._find(mark, Bins(extremes, count), np.zeros((self.planes, count), np.int64))

    def keys(self, leading: Counts, steps: Ints) -> Counts:
        """Count the bits that follow: (P, slots, 2^steps[-1])."""
        mark = "keys", leading.tobytes(), steps
        blank = torch.zeros((*leading.shape, 1 << steps[-1]), dtype=torch.int32)
        keys = Keys(torch.from_numpy(leading).to(self.inputs.device), steps)
        return self._find(mark, keys, blank).long().cpu().numpy()

    def ranked(self, ranks: Counts) -> Floats:
        """The pixels at ascending ranks of each plane: (P, R); several walks find them."""
        mark = "ranked", ranks.tobytes()
        if mark not in self.searches:
            self.searches[mark] = Ranked.begin(ranks, self.inputs.device)
        search = self.searches[mark]
        if search.complete:
            return search.values()
        return self._find(mark, search.keys, np.zeros(ranks.shape))

    def _blank(self, count: int) -> Floats:
        return np.zeros((self.planes, *cells_of(self.box), count))

    def _find(self, mark: Mark, reduction: Reduction, blank: _Known, which: int = 0) -> _Known:
        if mark in self.known:
            return cast("_Known", self.known[mark][which])
        self.asked[mark] = reduction
        self.guesses += 1
        return blank

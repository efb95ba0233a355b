"""Pixels of responses that are nowhere: each walk computes them again, for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from torch import Tensor

from pipeline.fused.launch import cells_of, reduce
from pipeline.fused.moments import moments
from pipeline.fused.ranks import ranked
from pipeline.fused.reductions import Reduction, bins, deviations, within
from pipeline.fused.source import Stencil
from pipeline.statistics.base import Counts, Floats
from pipeline.types import Region

Mark: TypeAlias = tuple[object, ...]
"""A question: its name, and the bytes of what is given with it."""

_Known = TypeVar("_Known")


@dataclass
class Recomputed:
    """Pixels in a box of the responses to a stencil: `statistics.base.Pixels`.

    inputs: (P, *shape) with the margin around the image. Planes are those of all kernels for the
    first input, then those for the second, and so on. A question that is new is answered by zeros,
    and `guessed` says so; after one `walk` or more, by what is true. So one walk answers all.
    """

    inputs: Tensor
    box: Region
    stencil: Stencil
    guessed: bool = False
    asked: dict[Mark, Reduction] = field(default_factory=dict, repr=False)
    known: dict[Mark, Any] = field(default_factory=dict, repr=False)

    @property
    def planes(self) -> int:
        """Planes of all responses."""
        return len(self.stencil.kernels) * len(self.inputs)

    def walk(self) -> None:
        """Find out what was asked, one question of each kind."""
        kinds = {one.template.pointers[-1]: mark for mark, one in reversed(self.asked.items())}
        chosen = {mark: self.asked.pop(mark) for mark in kinds.values()}
        found = reduce(self.inputs, self.box, self.stencil, tuple(chosen.values()))
        for mark, answer in zip(chosen, found, strict=True):
            (self.asked if isinstance(answer, Reduction) else self.known)[mark] = answer

    def counts(self) -> Counts:
        """How many there are: (P,)."""
        return np.full(self.planes, self.box.size)

    def extremes(self) -> Floats:
        """Least and greatest value: (P, 2)."""
        return self._moments()[1]

    def totals(self) -> Floats:
        """Sums of x: (P, *cells, 1)."""
        return self.moments()[..., 5:6]

    def moments(self) -> Floats:
        """Moments of the cells: (P, *cells, 7)."""
        return self._moments()[0]

    def deviations(self, centres: Floats) -> Floats:
        """Sums of |x - centre|: (P, *cells, 2)."""
        mark = "deviations", centres.tobytes()
        return self._find(mark, lambda: deviations(centres, self.inputs.device), self._blank(2))

    def within(self, ends: Floats, centres: Floats) -> Floats:
        """Count, and sums of x and of |x - centre|, of the x between two ends: (P, *cells, 3)."""
        mark = "within", ends.tobytes(), centres.tobytes()
        return self._find(mark, lambda: within(ends, centres, self.inputs.device), self._blank(3))

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins: (P, count)."""
        mark = "bins", extremes.tobytes(), count
        blank = np.zeros((self.planes, count), np.int64)
        return self._find(mark, lambda: bins(extremes, count, self.inputs.device), blank)

    def ranked(self, ranks: Counts) -> Floats:
        """The pixels at ascending ranks of each plane: (P, R); several walks find them."""
        mark = "ranked", ranks.tobytes()
        return self._find(mark, lambda: ranked(ranks, self.inputs.device), np.zeros(ranks.shape))

    def _moments(self) -> tuple[Floats, Floats]:
        return self._find(("moments",), moments, (self._blank(7), np.zeros((self.planes, 2))))

    def _blank(self, count: int) -> Floats:
        return np.zeros((self.planes, *cells_of(self.box), count))

    def _find(self, mark: Mark, ask: Callable[[], Reduction], blank: _Known) -> _Known:
        if mark in self.known:
            return cast("_Known", self.known[mark])
        if mark not in self.asked:
            self.asked[mark] = ask()
        self.guessed = True
        return blank

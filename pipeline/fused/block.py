"""A block whose pixels are nowhere, and how statistics get along with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.fused.launch import cells_of
from pipeline.fused.pixels import Recomputed
from pipeline.statistics.base import Block, Counts, Floats, Statistic
from pipeline.statistics.cells import sides_of
from pipeline.types import Ints


@dataclass(frozen=True)
class Unwritten(Block):
    """A block that is all of some responses; only the shape of its values is known."""

    computed: Recomputed = field(kw_only=True)

    @classmethod
    def of(cls, computed: Recomputed, shape: Ints) -> Unwritten:
        """All cells that a box touches. shape: of the image."""
        box, sides = computed.box, sides_of(shape)
        origin = tuple(a // side * side for a, side in zip(box.start, sides, strict=True))
        ends = zip(origin, cells_of(box), sides, shape, strict=True)
        extents = (min(count * side, n - a) for a, count, side, n in ends)
        values = torch.empty((computed.planes, *extents), device="meta")
        return cls(values, None, origin, shape, alone=True, computed=computed)

    @property
    def pixels(self) -> Recomputed:
        """What knows about them."""
        return self.computed

    def ranked(self, ranks: Counts) -> Floats:
        """The pixels at ascending ranks of each plane, (P, R), as float64."""
        return self.computed.ranked(ranks)


def states(block: Unwritten, statistics: Sequence[Statistic]) -> tuple[Any, ...]:
    """The last state of each statistic, after as few walks as they need together.

    Each goes as far as it can with what is known, from the start, which is cheap.
    """
    while True:
        found = tuple(_advanced(block, statistic) for statistic in statistics)
        if not block.computed.asked:
            return found
        block.computed.walk()


def _advanced(block: Unwritten, statistic: Statistic) -> Any:
    """The last state of a statistic; None where it had to guess."""
    brief = None
    while True:
        guesses = block.computed.guesses
        state = statistic.start(block, brief)
        if block.computed.guesses > guesses:
            return None
        brief = statistic.next(state)
        if brief is None:
            return state

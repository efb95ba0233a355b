"""A block whose pixels are seen by walks over them, and how statistics share those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from pipeline.bank.expr import Kernel
from pipeline.fused.launch import cells_of
from pipeline.fused.pixels import Recomputed
from pipeline.fused.source import Stencil
from pipeline.statistics.base import Block, Counts, Floats, Statistic
from pipeline.statistics.cells import sides_of
from pipeline.types import Ints, Region


@dataclass(frozen=True)
class Walked(Block):
    """A block that is all of some responses; of its values only the shape is there."""

    computed: Recomputed = field(kw_only=True)

    @classmethod
    def of(cls, computed: Recomputed, shape: Ints) -> Walked:
        """All cells that a box touches. shape: of the image."""
        box, sides = computed.box, sides_of(shape)
        origin = tuple(a // side * side for a, side in zip(box.start, sides, strict=True))
        ends = zip(origin, cells_of(box), sides, shape, strict=True)
        extents = (min(count * side, n - a) for a, count, side, n in ends)
        values = torch.empty((computed.planes, *extents), device="meta")
        return cls(values, None, origin, shape, alone=True, computed=computed)

    @classmethod
    def stored(cls, block: Block) -> Walked:
        """A block that is all of an image and misses no pixel, where it lies on a GPU."""
        whole = Region.whole(block.shape)
        return cls.of(Recomputed(block.values, whole, _itself(len(block.shape))), block.shape)

    @property
    def pixels(self) -> Recomputed:
        """What knows about them."""
        return self.computed

    def ranked(self, ranks: Counts) -> Floats:
        """The pixels at ascending ranks of each plane, (P, R), as float64."""
        return self.computed.ranked(ranks)


@cache
def _itself(ndim: int) -> Stencil:
    """One tap of 1."""
    return Stencil((Kernel.of(np.ones((1,) * ndim)),), ((0, 0),) * ndim)


def walked(block: Walked, statistics: Sequence[Statistic]) -> tuple[Any, ...]:
    """The last state of each statistic, after as few walks as they need together.

    Each goes as far as it can with what is known, from the start, which is cheap.
    """
    found = [_advanced(block, statistic) for statistic in statistics]
    while block.computed.asked:
        block.computed.walk()
        found = [_advanced(block, statistic) for statistic in statistics]
    return tuple(found)


def _advanced(block: Walked, statistic: Statistic) -> Any:
    """The last state of a statistic; None where it had to guess."""
    brief, block.computed.guessed = None, False
    while True:
        state = statistic.start(block, brief)
        if block.computed.guessed:
            return None
        brief = statistic.next(state)
        if brief is None:
            return state

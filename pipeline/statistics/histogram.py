"""Histogram: entropy over equal bins between a plane's least and greatest value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from pipeline.statistics.base import STATISTICS, Block, Column, Counts, Floats
from pipeline.statistics.extremes import widen

if TYPE_CHECKING:
    from pipeline.statistics.census import Census

BINS = 64


@dataclass(frozen=True, slots=True)
class Numbers:
    """First pass over few whole numbers: least and greatest, (P, 2), and how often each occurs."""

    extremes: Floats
    census: Census


@dataclass(frozen=True, slots=True)
class Bins:
    """Second pass: valid pixels in each bin, (P, 64) int64."""

    counts: Counts


State: TypeAlias = Floats | Numbers | Bins
"""The first pass over anything else finds least and greatest value, (P, 2) float64."""


@STATISTICS.register("histogram")
@dataclass(frozen=True)
class Histogram:
    """Shannon entropy of a plane's values in 64 equal bins on [min, max].

    bin = floor((x - min) * 64 / (max - min)) in float64, exact for integers; the last bin is
    closed. A plane of one value has entropy 0, one that fills all bins alike has 6 bits.

    References
    ----------
    IBSI reference manual, sections 2.7 (fixed bin number) and 3.5 (intensity histogram, TLU2).

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> histogram, block = Histogram(), Block.whole(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    >>> state = histogram.start(block, histogram.next(histogram.start(block, None)))
    >>> histogram.finish(state)["entropy"].item()
    2.0
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "entropy": Column("bit", f"-sum(p log2(p)), {BINS} equal bins on [min, max]", "TLU2"),
    }
    passes: ClassVar[int] = 2

    def start(self, block: Block, brief: Floats | None) -> State:
        """Find the extremes of a block; count its pixels once those of the whole are known."""
        if brief is None:
            extremes, census = block.pixels.extremes(), block.numbers
            return extremes if census is None else Numbers(extremes, census)
        return Bins(block.pixels.bins(brief, BINS))

    def merge(self, a: State, b: State) -> State:
        """Widen the extremes, or add the counts."""
        if isinstance(a, Bins) and isinstance(b, Bins):
            return Bins(a.counts + b.counts)
        if isinstance(a, Bins) or isinstance(b, Bins):
            message = "states of two different passes cannot be merged"
            raise TypeError(message)
        extremes = widen(_extremes(a), _extremes(b))
        if isinstance(a, Numbers) and isinstance(b, Numbers):
            from pipeline.statistics.census import KEPT

            census = a.census.merge(b.census)
            return Numbers(extremes, census) if census.most <= KEPT else extremes
        return extremes

    def next(self, state: State) -> Floats | None:
        """Ask for a second pass, with the extremes as brief."""
        return state if isinstance(state, np.ndarray) else None

    def finish(self, state: Numbers | Bins) -> Mapping[str, Floats]:
        """Turn counts into bits."""
        from pipeline.statistics.finish import entropies

        if isinstance(state, Numbers):
            from pipeline.statistics.whole import Whole

            counts = Whole.from_census(state.census).bins(state.extremes, BINS)
        else:
            counts = state.counts
        out = np.empty(len(counts))
        entropies(counts, out)
        return {"entropy": out}


def _extremes(state: Floats | Numbers) -> Floats:
    return state.extremes if isinstance(state, Numbers) else state

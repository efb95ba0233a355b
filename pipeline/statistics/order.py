"""Order: quantiles, found without sorting all pixels.

The block that is all of a response finds them itself. Else they are found by keys: a float32 has
one, an unsigned integer that sorts as the float does. The first pass counts the leading bits of all
keys; each further pass counts the next bits of those keys that begin like a wanted one, until all
32 are known. The state stays small whatever a plane measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeAlias

import numpy as np

from pipeline.statistics.base import LARGE, STATISTICS, Block, Column, Counts, Floats
from pipeline.types import Ints

_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_SHARES = np.array([percent / 100 for percent in _PERCENTS])
_CODES = {10: "QG58", 50: "Y12H", 90: "8DWT"}

_STEPS = {"large": (14, 9, 9), "small": (12, 7, 7, 6)}
"""Bits of a key that a pass counts; which way is cheaper depends on the pixels of an image."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of the wanted pixels of each plane, which come in ascending order.

    n: valid pixels, (P,); wanted: ranks from 0, (P, 18); leading: first bits
    of their keys, found in `done` of the `steps`; ranks: those among the pixels whose keys begin
    alike.
    """

    n: Counts
    wanted: Counts
    leading: Counts
    ranks: Counts
    steps: Ints
    done: int

    @classmethod
    def begin(cls, n: Counts, size: str) -> Search:
        """Want the pixels that percentiles lie between; size: of the image, large or small."""
        ranks = _ranks(n)
        return cls(n, ranks, np.zeros_like(ranks), ranks, _STEPS[size], 0)

    def descend(self, counts: Counts) -> Search:
        """Follow the ranks through the counts of the bits that come next."""
        from pipeline.statistics.finish import descend

        leading, ranks = self.leading.copy(), self.ranks.copy()
        descend(counts, leading, ranks)
        done = self.done + 1
        return Search(self.n, self.wanted, leading, ranks, self.steps, done)

    def found(self) -> Found:
        """The pixels, when all bits are known."""
        from pipeline.statistics.finish import numbers

        values = np.empty(self.leading.shape)
        numbers(self.leading, values)
        return Found(self.n, self.wanted, values)


@dataclass(frozen=True, slots=True)
class Found:
    """The wanted pixels, (P, 18), at ascending ranks of n valid ones, (P,)."""

    n: Counts
    ranks: Counts
    values: Floats

    def between(self) -> Floats:
        """Interpolate between neighbours: (9, P)."""
        from pipeline.statistics.finish import quantiles

        out = np.empty((len(_SHARES), len(self.n)))
        quantiles(self.values, self.ranks, self.n, _SHARES, out)
        return out


def _ranks(n: Counts) -> Counts:
    """The ranks that percentiles lie between, ascending: (P, 18)."""
    from pipeline.statistics.finish import begin

    ranks = np.empty((len(n), 2 * len(_SHARES)), np.int64)
    begin(n, _SHARES, ranks)
    return ranks


@dataclass(frozen=True, slots=True)
class Start:
    """First pass: valid pixels, (P,), and leading bits of all keys, (P, 1, 2^bits).

    size: of the image, large or small.
    """

    n: Counts
    counts: Counts
    size: str

    def descend(self) -> Search:
        """What is known after it."""
        return Search.begin(self.n, self.size).descend(self.counts)


@dataclass(frozen=True, slots=True)
class Further:
    """Some pass after it: the bits that follow, (P, 18, 2^bits)."""

    search: Search
    counts: Counts

    @property
    def n(self) -> Counts:
        """Valid pixels: (P,)."""
        return self.search.n

    def descend(self) -> Search:
        """What is known after it."""
        return self.search.descend(self.counts)


State: TypeAlias = Start | Further | Found


@STATISTICS.register("order")
@dataclass(frozen=True)
class Order:
    """Percentiles of a plane's values.

    They interpolate linearly between the two nearest ranks, position (n - 1) * p / 100 from 0
    (numpy's default, type 7 of Hyndman and Fan).

    References
    ----------
    IBSI reference manual, section 3.4 (UHIW); R. J. Hyndman, Y. Fan, "Sample quantiles in
    statistical packages", The American Statistician 50 (1996), 361-365.

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> order, block = Order(), Block.whole(torch.tensor([[4.0, 1.0, 2.0]]))
    >>> state = order.start(block, None)
    >>> while brief := order.next(state):
    ...     state = order.start(block, brief)
    >>> columns = order.finish(state)
    >>> columns["p50"].item(), columns["p75"].item(), columns["iqr"].item()
    (2.0, 3.0, 1.5)
    """

    columns: ClassVar[Mapping[str, Column]] = {
        **{
            f"p{percent:02}": Column(
                "response", f"percentile {percent}, linear", _CODES.get(percent, ""), level=True
            )
            for percent in _PERCENTS
        },
        "iqr": Column("response", "p75 - p25", "SALO"),
    }
    passes: ClassVar[int] = len(_STEPS["large"])

    def start(self, block: Block, brief: Search | None) -> State:
        """Count bits of keys, unless the block knows the pixels."""
        pixels = block.pixels
        if brief is None:
            n = pixels.counts()
            values = block.ranked(ranks := _ranks(n))
            if values is not None:
                return Found(n, ranks, values)
            leading = np.zeros((len(n), 1), np.int64)
            size = "large" if prod(block.shape) > LARGE else "small"
            return Start(n, pixels.keys(leading, _STEPS[size][:1]), size)
        return Further(brief, pixels.keys(brief.leading, brief.steps[: brief.done + 1]))

    def merge(self, a: State, b: State) -> State:
        """Add the counts."""
        if isinstance(a, Start) and isinstance(b, Start):
            return Start(a.n + b.n, a.counts + b.counts, a.size)
        if isinstance(a, Further) and isinstance(b, Further):
            return Further(a.search, a.counts + b.counts)
        message = "states of two different passes cannot be merged"
        raise TypeError(message)

    def next(self, state: State) -> Search | None:
        """Ask for the bits that follow."""
        if isinstance(state, Found):
            return None
        search = state.descend()
        return search if search.done < len(search.steps) else None

    def values(self, state: State) -> Floats:
        """The percentiles, (9, P), when all bits are known; NaN where nothing is valid."""
        found = state if isinstance(state, Found) else state.descend().found()
        return found.between()

    def finish(self, state: State) -> Mapping[str, Floats]:
        """Name the percentiles."""
        names = [f"p{percent:02}" for percent in _PERCENTS]
        found = dict(zip(names, self.values(state), strict=True))
        with np.errstate(invalid="ignore"):  # inf - inf
            return {**found, "iqr": found["p75"] - found["p25"]}

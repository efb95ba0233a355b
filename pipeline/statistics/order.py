"""Order: quantiles, found without sorting all pixels.

The block that is all of a response finds them itself. Else they are found by keys: a float32 has
one, an unsigned integer that sorts as the float does. The first pass counts the leading bits of all
keys; each further pass counts the next bits of those keys that begin like a wanted one, until all
32 are known. The state stays small whatever a plane measures: a scene takes two passes, of 18 bits
and of 14, or one where it measures few whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np

from pipeline.statistics.base import STATISTICS, Block, Column, Counts, Floats
from pipeline.types import Ints

if TYPE_CHECKING:
    from pipeline.statistics.census import Census

_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_SHARES = np.array([percent / 100 for percent in _PERCENTS])
_CODES = {10: "QG58", 50: "Y12H", 90: "8DWT"}


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
    def begin(cls, n: Counts, steps: Ints) -> Search:
        """Want the pixels that percentiles lie between; steps: bits that each pass finds."""
        ranks = _ranks(n)
        return cls(n, ranks, np.zeros_like(ranks), ranks, steps, 0)

    def descend(self, census: Census) -> Search:
        """Follow the ranks through the counts of the bits that come next."""
        from pipeline.statistics.finish import descend

        leading, ranks = self.leading.copy(), self.ranks.copy()
        counted = census.places, census.weights, census.bounds
        descend(counted, self.steps[self.done], leading, ranks)
        return replace(self, leading=leading, ranks=ranks, done=self.done + 1)

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
    """First pass: valid pixels, (P,), and leading bits of all keys; steps: of this and the next."""

    n: Counts
    census: Census
    steps: Ints

    def merge(self, other: Start) -> Start:
        """What two parts say; as much of the keys as both know, and is kept of so many."""
        from pipeline.statistics.census import AT_ONCE, IN_TWO, KEPT

        steps = max(self.steps, other.steps, key=len)
        census = self._counted(steps).merge(other._counted(steps))
        found = Start(self.n + other.n, census, steps)
        if steps == AT_ONCE and census.most > KEPT:
            return Start(found.n, found._counted(IN_TWO), IN_TWO)
        return found

    def _counted(self, steps: Ints) -> Census:
        return self.census if steps == self.steps else self.census.leading(steps[0])

    def descend(self) -> Search:
        """What is known after it."""
        return Search.begin(self.n, self.steps).descend(self.census)


@dataclass(frozen=True, slots=True)
class Further:
    """Some pass after it: the bits that follow."""

    search: Search
    census: Census

    @property
    def n(self) -> Counts:
        """Valid pixels: (P,)."""
        return self.search.n

    def descend(self) -> Search:
        """What is known after it."""
        return self.search.descend(self.census)


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
    passes: ClassVar[int] = 2

    def start(self, block: Block, brief: Search | None) -> State:
        """Count bits of keys, unless the block knows the pixels."""
        if brief is not None:
            steps = brief.steps[: brief.done + 1]
            return Further(brief, block.searched.census(brief.leading, steps))
        n = block.pixels.counts()
        values = block.ranked(ranks := _ranks(n))
        if values is not None:
            return Found(n, ranks, values)
        steps = block.searched.steps
        return Start(n, block.searched.census(np.zeros((len(n), 1), np.int64), steps[:1]), steps)

    def merge(self, a: State, b: State) -> State:
        """Add the counts."""
        if isinstance(a, Start) and isinstance(b, Start):
            return a.merge(b)
        if isinstance(a, Further) and isinstance(b, Further):
            return Further(a.search, a.census.merge(b.census))
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

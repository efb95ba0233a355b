"""Order: quantiles and absolute deviations, found by counting bits of keys, without a sort.

A float32 has a key, an unsigned integer that sorts as the float does. The first pass counts the
leading bits of all keys; each further pass counts the next bits of those keys that begin like a
wanted one, until all 32 are known. The state stays small whatever a plane measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar, TypeAlias

import numpy as np

from pipeline.statistics.base import LARGE, STATISTICS, Block, Column, Counts, Floats
from pipeline.statistics.cells import Cells
from pipeline.types import Ints

_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_MEDIAN = _PERCENTS.index(50)
_SHARES = np.array([percent / 100 for percent in _PERCENTS])
_CODES = {10: "QG58", 50: "Y12H", 90: "8DWT"}

_FIRST = 12
_THEN = {"large": (10, 10), "small": (7, 7, 6)}
"""Bits of a key that a pass counts; which way is cheaper depends on the pixels of an image."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of the wanted pixels of each plane, which come in ascending order.

    n: valid pixels, (P,); mean: theirs, (P,); wanted: ranks from 0, (P, 18); leading: first bits
    of their keys, found in `done` of the `steps`; ranks: those among the pixels whose keys begin
    alike.
    """

    n: Counts
    mean: Floats
    wanted: Counts
    leading: Counts
    ranks: Counts
    steps: Ints
    done: int

    @classmethod
    def begin(cls, n: Counts, mean: Floats, size: str) -> Search:
        """Want the pixels that percentiles lie between; size: of the image, large or small."""
        from pipeline.statistics.finish import begin

        ranks = np.empty((len(n), 2 * len(_SHARES)), np.int64)
        begin(n, _SHARES, ranks)
        steps = (_FIRST, *_THEN[size])
        return cls(n, mean, ranks, np.zeros_like(ranks), ranks, steps, 0)

    def descend(self, counts: Counts) -> Search:
        """Follow the ranks through the counts of the bits that come next."""
        from pipeline.statistics.finish import descend

        leading, ranks = self.leading.copy(), self.ranks.copy()
        descend(counts, leading, ranks)
        done = self.done + 1
        return Search(self.n, self.mean, self.wanted, leading, ranks, self.steps, done)

    def end(self) -> Centres:
        """Interpolate between the pixels that were found."""
        from pipeline.statistics.finish import quantiles

        values = np.empty((len(_SHARES), len(self.n)))
        quantiles(self.leading, self.wanted, self.n, _SHARES, values)
        return Centres(self.n, self.mean, values)


@dataclass(frozen=True, slots=True)
class Centres:
    """What deviations are about: mean, (P,), and one of the percentiles, (9, P), of n pixels."""

    n: Counts
    mean: Floats
    values: Floats


@dataclass(frozen=True, slots=True)
class Start:
    """First pass: valid pixels, (P,), their sums, and leading bits of all keys, (P, 1, 4096).

    size: of the image, large or small.
    """

    n: Counts
    totals: Cells
    counts: Counts
    size: str


@dataclass(frozen=True, slots=True)
class Further:
    """Some pass after it: the bits that follow, (P, 18, 2^bits)."""

    search: Search
    counts: Counts


@dataclass(frozen=True, slots=True)
class Last:
    """Last pass: sums of deviations from mean and median."""

    centres: Centres
    sums: Cells


Brief: TypeAlias = Search | Centres | None
State: TypeAlias = Start | Further | Last


@STATISTICS.register("order")
@dataclass(frozen=True)
class Order:
    """Percentiles and mean absolute deviations of a plane's values.

    Percentiles interpolate linearly between the two nearest ranks, position (n - 1) * p / 100
    from 0 (numpy's default, type 7 of Hyndman and Fan). `medad` is IBSI's "median absolute
    deviation": the mean, not the median, of the deviations from the median.

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
        "mad": Column("response", "sum(|x - mean|) / n", "4FUA"),
        "medad": Column("response", "sum(|x - p50|) / n", "N72L"),
    }
    passes: ClassVar[int] = 2 + len(_THEN["large"])

    def start(self, block: Block, brief: Brief) -> State:
        """Count bits of keys, or add up deviations once the percentiles are known."""
        pixels = block.pixels
        if brief is None:
            n = pixels.counts()
            leading = np.zeros((len(n), 1), np.int64)
            totals = Cells.of(block, pixels.totals())
            size = "large" if prod(block.shape) > LARGE else "small"
            return Start(n, totals, pixels.keys(leading, (_FIRST,)), size)
        if isinstance(brief, Search):
            return Further(brief, pixels.keys(brief.leading, brief.steps[: brief.done + 1]))
        centres = np.stack((brief.mean, brief.values[_MEDIAN]), 1)
        return Last(brief, Cells.of(block, pixels.deviations(centres)))

    def merge(self, a: State, b: State) -> State:
        """Add the counts, keep the sums of both."""
        if isinstance(a, Start) and isinstance(b, Start):
            return Start(a.n + b.n, a.totals.merge(b.totals), a.counts + b.counts, a.size)
        if isinstance(a, Further) and isinstance(b, Further):
            return Further(a.search, a.counts + b.counts)
        if isinstance(a, Last) and isinstance(b, Last):
            return Last(a.centres, a.sums.merge(b.sums))
        message = "states of two different passes cannot be merged"
        raise TypeError(message)

    def next(self, state: State) -> Brief:
        """Ask for the bits that follow; when all are known, for the deviations."""
        if isinstance(state, Last):
            return None
        if isinstance(state, Start):
            with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
                mean = state.totals.total()[:, 0] / state.n
            search = Search.begin(state.n, mean, state.size)
        else:
            search = state.search
        search = search.descend(state.counts)
        return search if search.done < len(search.steps) else search.end()

    def finish(self, state: Last) -> Mapping[str, Floats]:
        """Divide the deviations."""
        centres = state.centres
        found = {f"p{percent:02}": x for percent, x in zip(_PERCENTS, centres.values, strict=True)}
        with np.errstate(invalid="ignore"):  # inf - inf; 0 / 0 where nothing is valid
            mad, medad = state.sums.total().T / centres.n
            return {**found, "iqr": found["p75"] - found["p25"], "mad": mad, "medad": medad}

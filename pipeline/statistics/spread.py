"""Spread: how far values lie from their mean and from their median."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from pipeline.statistics import order
from pipeline.statistics.base import STATISTICS, Block, Column, Counts, Floats
from pipeline.statistics.cells import Cells

_ORDER = order.Order()
_MEDIAN = list(_ORDER.columns).index("p50")


@dataclass(frozen=True, slots=True)
class Search:
    """A search for the median; mean: of each plane, (P,)."""

    search: order.Search
    mean: Floats


@dataclass(frozen=True, slots=True)
class Looking:
    """A pass of it; totals: sums of the values, of the first pass; mean: of the others."""

    found: order.State
    totals: Cells | None
    mean: Floats | None


@dataclass(frozen=True, slots=True)
class Centres:
    """What deviations are from, (P, 2): mean and median of n pixels, (P,)."""

    values: Floats
    n: Counts


@dataclass(frozen=True, slots=True)
class Last:
    """Last pass: sums of deviations from both."""

    centres: Centres
    sums: Cells


Brief: TypeAlias = Search | Centres | None
State: TypeAlias = Looking | Last


@STATISTICS.register("spread")
@dataclass(frozen=True)
class Spread:
    """Mean absolute deviations of a plane's values from their mean and their median.

    The median is that of `order`. `medad` is IBSI's "median absolute deviation": the mean, not the
    median, of the deviations from the median.

    References
    ----------
    IBSI reference manual, section 3.4 (UHIW).

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> spread, block = Spread(), Block.whole(torch.tensor([[1.0, 2.0, 6.0]]))
    >>> state = spread.start(block, None)
    >>> while brief := spread.next(state):
    ...     state = spread.start(block, brief)
    >>> {name: round(column.item(), 3) for name, column in spread.finish(state).items()}
    {'mad': 2.0, 'medad': 1.667}
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "mad": Column("response", "sum(|x - mean|) / n", "4FUA"),
        "medad": Column("response", "sum(|x - p50|) / n", "N72L"),
    }
    passes: ClassVar[int] = order.Order.passes + 1

    def start(self, block: Block, brief: Brief) -> State:
        """Look for the median, then add up deviations."""
        if brief is None:
            totals = Cells.of(block, block.pixels.totals())
            return Looking(_ORDER.start(block, None), totals, None)
        if isinstance(brief, Search):
            return Looking(_ORDER.start(block, brief.search), None, brief.mean)
        return Last(brief, Cells.of(block, block.pixels.deviations(brief.values)))

    def merge(self, a: State, b: State) -> State:
        """Add the counts, keep the sums of both."""
        if isinstance(a, Last) and isinstance(b, Last):
            return Last(a.centres, a.sums.merge(b.sums))
        if isinstance(a, Last) or isinstance(b, Last):
            message = "states of two different passes cannot be merged"
            raise TypeError(message)
        both = None if a.totals is None or b.totals is None else a.totals.merge(b.totals)
        return Looking(_ORDER.merge(a.found, b.found), both, a.mean)

    def next(self, state: State) -> Brief:
        """Ask for the median's bits; when all are known, for the deviations."""
        if isinstance(state, Last):
            return None
        mean = state.mean
        if mean is None:
            assert state.totals is not None
            with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
                mean = state.totals.total()[:, 0] / state.found.n
        search = _ORDER.next(state.found)
        if search is not None:
            return Search(search, mean)
        median = _ORDER.values(state.found)[_MEDIAN]
        return Centres(np.stack((mean, median), 1), state.found.n)

    def finish(self, state: Last) -> Mapping[str, Floats]:
        """Divide the deviations."""
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
            mad, medad = state.sums.total().T / state.centres.n
        return {"mad": mad, "medad": medad}

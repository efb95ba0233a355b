"""Robust: the spread of what lies between two percentiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from pipeline.statistics import order
from pipeline.statistics.base import STATISTICS, Block, Column, Floats
from pipeline.statistics.cells import Cells

_ORDER = order.Order()
_ENDS = [list(_ORDER.columns).index(name) for name in ("p10", "p90")]


@dataclass(frozen=True, slots=True)
class Between:
    """What counts: x between two ends, (P, 2); centre: their mean, (P,), once it is known."""

    ends: Floats
    centre: Floats | None


@dataclass(frozen=True, slots=True)
class Within:
    """A pass over what counts: how many, sums of x and of |x - centre|."""

    between: Between
    sums: Cells


Brief: TypeAlias = order.Search | Between | None
State: TypeAlias = order.State | Within


@STATISTICS.register("robust")
@dataclass(frozen=True)
class Robust:
    """Mean absolute deviation of the values from p10 to p90, both included, from their mean.

    The percentiles are those of `order`. Between those of two values there is none.

    References
    ----------
    IBSI reference manual, section 3.4 (UHIW).

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> robust, block = Robust(), Block.whole(torch.tensor([[-90.0, 1.0, 2.0, 6.0, 90.0]]))
    >>> state = robust.start(block, None)
    >>> while brief := robust.next(state):
    ...     state = robust.start(block, brief)
    >>> robust.finish(state)["rmad"].item()
    2.0
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "rmad": Column("response", "sum(|x - mean(x)|) / n, of p10 <= x <= p90", "1128"),
    }
    passes: ClassVar[int] = order.Order.passes + 2

    def start(self, block: Block, brief: Brief) -> State:
        """Look for the percentiles; add up what lies between them, then its deviations."""
        if not isinstance(brief, Between):
            return _ORDER.start(block, brief)
        centre = np.zeros(len(brief.ends)) if brief.centre is None else brief.centre
        return Within(brief, Cells.of(block, block.pixels.within(brief.ends, centre)))

    def merge(self, a: State, b: State) -> State:
        """Add the counts, keep the sums of both."""
        if isinstance(a, Within) and isinstance(b, Within):
            return Within(a.between, a.sums.merge(b.sums))
        if isinstance(a, Within) or isinstance(b, Within):
            message = "states of two different passes cannot be merged"
            raise TypeError(message)
        return _ORDER.merge(a, b)

    def next(self, state: State) -> Brief:
        """Ask for what lies between the percentiles, then for its deviations from its mean."""
        if not isinstance(state, Within):
            search = _ORDER.next(state)
            if search is not None:
                return search
            return Between(_ORDER.values(state)[_ENDS].T.copy(), None)
        if state.between.centre is not None:
            return None
        n, total, _ = state.sums.total().T
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid, inf - inf
            return Between(state.between.ends, total / n)

    def finish(self, state: Within) -> Mapping[str, Floats]:
        """Divide the deviations."""
        n, _, apart = state.sums.total().T
        with np.errstate(invalid="ignore"):
            return {"rmad": apart / n}

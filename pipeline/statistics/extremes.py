"""Extremes: least and greatest value, which need no sorting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.statistics.base import STATISTICS, Block, Column, Floats


def widen(a: Floats, b: Floats) -> Floats:
    """The extremes (P, 2) of two sets of pixels together."""
    return np.stack((np.minimum(a[:, 0], b[:, 0]), np.maximum(a[:, 1], b[:, 1])), 1)


@STATISTICS.register("extremes")
@dataclass(frozen=True)
class Extremes:
    """Least and greatest value of a plane.

    References
    ----------
    IBSI reference manual, section 3.4 (UHIW).

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> extremes = Extremes()
    >>> columns = extremes.finish(extremes.start(Block.whole(torch.tensor([[4.0, 1.0]])), None))
    >>> {name: column.item() for name, column in columns.items()}
    {'min': 1.0, 'max': 4.0, 'range': 3.0}
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "min": Column("response", "min(x)", "1GSF", level=True),
        "max": Column("response", "max(x)", "84IY", level=True),
        "range": Column("response", "max(x) - min(x)", "2OJQ"),
    }
    passes: ClassVar[int] = 1

    def start(self, block: Block, brief: None) -> Floats:  # noqa: ARG002 - the protocol's signature
        """Find the extremes of a block."""
        return block.pixels.extremes()

    def merge(self, a: Floats, b: Floats) -> Floats:
        """Take the lesser and the greater."""
        return widen(a, b)

    def next(self, state: Floats) -> None:
        """One pass is enough."""

    def finish(self, state: Floats) -> Mapping[str, Floats]:
        """Read the extremes off."""
        low, high = np.where(state[:, :1] > state[:, 1:], np.nan, state).T
        with np.errstate(invalid="ignore"):  # inf - inf
            return {"min": low, "max": high, "range": high - low}

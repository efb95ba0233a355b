"""Extremes: least and greatest value, which need no sorting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipeline.statistics.base import STATISTICS, Block, Column

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Extent:
    """Least and greatest valid value of each plane, (P,) float64; inf and -inf where none is."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, block: Block) -> Extent:
        """Look at every valid pixel. Comparisons are exact, so their order is free."""
        import torch

        low = high = block.values.flatten(1)
        if block.valid is not None:
            valid = block.valid.flatten(1)
            low, high = (torch.where(valid, low, end) for end in (float("inf"), -float("inf")))
        # -0 + 0 = +0: the two zeros are equal, so either may have been found
        return cls(low.amin(1).double() + 0.0, high.amax(1).double() + 0.0)

    def widen(self, other: Extent) -> Extent:
        """The extent of both."""
        import torch

        return Extent(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


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

    def start(self, block: Block, brief: None) -> Extent:  # noqa: ARG002 - the protocol's signature
        """Find the extent of a block."""
        return Extent.of(block)

    def merge(self, a: Extent, b: Extent) -> Extent:
        """Widen the extent."""
        return a.widen(b)

    def next(self, state: Extent) -> None:
        """One pass is enough."""

    def finish(self, state: Extent) -> Mapping[str, Tensor]:
        """Read the extent off."""
        low, high = state.low.cpu(), state.high.cpu()
        empty = low > high
        columns = {"min": low, "max": high, "range": high - low}
        return {name: column.masked_fill(empty, float("nan")) for name, column in columns.items()}

"""Histogram: entropy over equal bins between a plane's least and greatest value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from pipeline.statistics.base import STATISTICS, Block, Column
from pipeline.statistics.extremes import Extent
from pipeline.statistics.sums import chunks, tree

if TYPE_CHECKING:
    from torch import Tensor

BINS = 64


@dataclass(frozen=True, slots=True)
class Counts:
    """Second pass: valid pixels in each bin, (P, 64) int64."""

    counts: Tensor


State: TypeAlias = Extent | Counts


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

    def start(self, block: Block, brief: Extent | None) -> State:
        """Find the extent of a block; count its pixels once the extent of the whole is known."""
        if brief is None:
            return Extent.of(block)
        valid = None if block.valid is None else block.valid.flatten(1)
        return Counts(_counts(block.values.flatten(1), valid, brief))

    def merge(self, a: State, b: State) -> State:
        """Widen the extent, or add the counts."""
        if isinstance(a, Extent) and isinstance(b, Extent):
            return a.widen(b)
        if isinstance(a, Counts) and isinstance(b, Counts):
            return Counts(a.counts + b.counts)
        message = "states of two different passes cannot be merged"
        raise TypeError(message)

    def next(self, state: State) -> Extent | None:
        """Ask for a second pass, with the extent as brief."""
        return state if isinstance(state, Extent) else None

    def finish(self, state: Counts) -> Mapping[str, Tensor]:
        """Turn counts into bits."""
        counts = state.counts.cpu().double()
        p = counts / tree(counts.clone())[:, None]
        return {"entropy": 0.0 - tree(p * log2(p.masked_fill(p == 0.0, 1.0)))}


def _counts(values: Tensor, valid: Tensor | None, extent: Extent) -> Tensor:
    """Count (P, pixels) into (P, 64) int64; nothing where a response ran out of range."""
    import torch

    counts = torch.zeros((values.shape[0], BINS), dtype=torch.int64, device=values.device)
    span = extent.high - extent.low
    wide = torch.where(span > 0.0, span, 1.0)
    for rows, pixels in chunks(values):
        x = values[rows, pixels].to(torch.float64, copy=True)
        x.sub_(extent.low[rows, None]).mul_(BINS).div_(wide[rows, None])
        bins = x.to(torch.int64).clamp_(0, BINS - 1)
        outside = bins.shape[0] * BINS
        bins += torch.arange(0, outside, BINS, device=bins.device)[:, None]
        if valid is not None:
            bins.masked_fill_(~valid[rows, pixels], outside)
        found = torch.bincount(bins.flatten(), minlength=outside + 1)
        counts[rows] += found[:outside].view(-1, BINS)
    return counts.masked_fill_(~torch.isfinite(span)[:, None], 0)


def log2(x: Tensor) -> Tensor:
    """Take logarithms of positive numbers with exactly rounded operations alone.

    Library logarithms differ in the last bit between vector and scalar code, and between
    processors. x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln(m) = 2 artanh(s), s = (m-1)/(m+1).
    The series ends below 2^-56. Powers of two are exact.
    """
    import torch

    mantissa, exponent = torch.frexp(x)
    low = mantissa < sqrt(0.5)
    mantissa = torch.where(low, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    series = torch.zeros_like(x)
    for odd in range(23, 0, -2):
        series = series * s2 + 1.0 / odd
    return (exponent - low.to(exponent.dtype)).double() + series * s * (2.0 / log(2.0))

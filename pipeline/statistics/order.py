"""Order: quantiles and absolute deviations, from all valid values of a plane, sorted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipeline.statistics.base import STATISTICS, Block, Column
from pipeline.statistics.sums import row_sums

if TYPE_CHECKING:
    from torch import Tensor

_PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99)
_CODES = {10: "QG58", 50: "Y12H", 90: "8DWT"}


@dataclass(frozen=True, slots=True)
class Values:
    """All pixels of some blocks.

    parts: (P, pixels) each, invalid pixels NaN; n: valid pixels, (P,) int64; masked: whether some
    may be invalid.
    """

    parts: tuple[Tensor, ...]
    n: Tensor
    masked: bool


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
    >>> order = Order()
    >>> columns = order.finish(order.start(Block.whole(torch.tensor([[4.0, 1.0, 2.0]])), None))
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

    def start(self, block: Block, brief: None) -> Values:  # noqa: ARG002 - the protocol's signature
        """Copy a block's pixels, marking the invalid ones."""
        import torch

        # -0 + 0 = +0: the two zeros are equal, so a sort may leave them in any order
        pixels = block.values.flatten(1) + 0.0
        if block.valid is None:
            n = torch.full_like(pixels[:, 0], pixels.shape[1], dtype=torch.int64)
            return Values((pixels,), n, masked=False)
        valid = block.valid.flatten(1)
        return Values((torch.where(valid, pixels, float("nan")),), valid.sum(-1), masked=True)

    def merge(self, a: Values, b: Values) -> Values:
        """Keep the pixels of both."""
        return Values(a.parts + b.parts, a.n + b.n, a.masked or b.masked)

    def next(self, state: Values) -> None:
        """One pass is enough."""

    def finish(self, state: Values) -> Mapping[str, Tensor]:
        """Sort, and read the values off."""
        values = _sorted(state.parts)
        percentiles = dict(zip(_PERCENTS, _percentiles(values, state.n).unbind(1), strict=True))
        mad, medad = _deviations(values, state.n, percentiles[50], masked=state.masked)
        columns = {
            **{f"p{percent:02}": column for percent, column in percentiles.items()},
            "iqr": percentiles[75] - percentiles[25],
            "mad": mad,
            "medad": medad,
        }
        return {name: column.cpu() for name, column in columns.items()}


def _sorted(parts: tuple[Tensor, ...]) -> Tensor:
    """Sort each plane of (P, pixels), NaN last; numpy is several times faster on CPUs."""
    import torch

    values = torch.cat(parts, 1).contiguous()
    if values.device.type != "cpu":
        return values.sort(-1).values
    values.numpy().sort(-1)  # cat has made a copy: it is ours
    return values


def _percentiles(values: Tensor, n: Tensor) -> Tensor:
    """Percentiles of sorted planes (P, pixels) with n valid values each: (P, 9) float64."""
    import torch

    last = (n - 1).clamp(min=0)[:, None]
    quantiles = torch.tensor([p / 100 for p in _PERCENTS], dtype=torch.float64)
    position = last * quantiles.to(values.device)
    rank = position.floor()
    t = position - rank
    a = values.gather(1, rank.long()).double()
    b = values.gather(1, torch.minimum(rank.long() + 1, last)).double()
    step = b - a
    return torch.where(t < 0.5, a + step * t, b - step * (1.0 - t))  # numpy's, bit for bit


def _deviations(
    values: Tensor, n: Tensor, median: Tensor, *, masked: bool
) -> tuple[Tensor, Tensor]:
    """Mean absolute deviations from the mean and from the median, (P,) each, of sorted planes."""
    import torch

    count = n.double()  # 0 / 0 makes NaN where nothing is valid
    rank = torch.arange(values.shape[1], device=values.device) if masked else None

    def kept(x: Tensor, rows: slice, pixels: slice) -> Tensor:
        return x if rank is None else torch.where(rank[pixels] < n[rows, None], x, 0.0)

    def about(centre: Tensor) -> Tensor:
        def deviation(x: Tensor, rows: slice, pixels: slice) -> Tensor:
            return kept(x.sub_(centre[rows, None]).abs_(), rows, pixels)

        return row_sums(values, deviation) / count

    return about(row_sums(values, kept) / count), about(median)

"""Moments: two passes inside canonical cells of 256 pixels, then exact-order merges of cells.

Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance",
The American Statistician 37 (1983), 242-247 (two passes with correction); P. Pebay, "Formulas for
robust, one-pass parallel computation of covariances and arbitrary-order statistical moments",
Sandia report SAND2008-6212 (2008) (merges); names and formulas: IBSI reference manual 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from pipeline.statistics.base import STATISTICS, Block, Column
from pipeline.statistics.cells import boxes, counts_of, split
from pipeline.statistics.sums import chunks, tree
from pipeline.types import Ints

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 7  # n, mean, M2, M3, M4 about that mean; and the plain sums of x and of x * x


@dataclass(frozen=True, slots=True)
class Cells:
    """Moments of the cells seen so far.

    pieces: (index of the first cell, (7, P, *counts) float64); grid: cells in the whole response.
    """

    pieces: tuple[tuple[Ints, Tensor], ...]
    grid: Ints


@STATISTICS.register("moments")
@dataclass(frozen=True)
class Moments:
    """Mean, spread and shape of the distribution of a plane's values.

    Population moments: divided by N. A plane of one value has skewness 0 and kurtosis 0, as IBSI
    says. The sum and the sum of squares are plain sums, so the mean and the energy of integers
    are exact.

    References
    ----------
    IBSI reference manual, section 3.4 (UHIW).

    Examples
    --------
    >>> import torch
    >>> from pipeline.statistics.base import Block
    >>> moments = Moments()
    >>> state = moments.start(Block.whole(torch.tensor([[1.0, 2.0, 6.0]])), None)
    >>> {name: round(column.item(), 3) for name, column in moments.finish(state).items()}
    {'mean': 3.0, 'std': 2.16, 'variance': 4.667, 'skewness': 0.595, 'kurtosis': -1.5, \
'energy': 41.0, 'rms': 3.697}
    """

    columns: ClassVar[Mapping[str, Column]] = {
        "mean": Column("response", "sum(x) / n", "Q4LE", level=True),
        "std": Column("response", "sqrt(variance)"),
        "variance": Column("response^2", "sum((x - mean)^2) / n", "ECT3"),
        "skewness": Column("1", "sum((x - mean)^3) / n / variance^1.5; 0 if variance = 0", "KE2A"),
        "kurtosis": Column(
            "1", "sum((x - mean)^4) / n / variance^2 - 3; 0 if variance = 0", "IPH6"
        ),
        "energy": Column("response^2", "sum(x^2)", "N8CA"),
        "rms": Column("response", "sqrt(sum(x^2) / n)", "5ZWQ"),
    }

    def start(self, block: Block, brief: None) -> Cells:  # noqa: ARG002 - the protocol's signature
        """Reduce a block to its cells.

        Raises
        ------
        ValueError
            Where the block is cut through a cell.
        """
        pieces = []
        for box in boxes(block):
            values = split(block.values, box)
            valid = None if block.valid is None else split(block.valid, box).flatten(0, -2)
            rows = _moments(values.flatten(0, -2), valid)
            pieces.append((box.at, rows.view(_ROWS, *values.shape[:-1])))
        return Cells(tuple(pieces), counts_of(block.shape))

    def merge(self, a: Cells, b: Cells) -> Cells:
        """Keep the cells of both."""
        return Cells(a.pieces + b.pieces, a.grid)

    def next(self, state: Cells) -> None:
        """One pass is enough."""

    def finish(self, state: Cells) -> Mapping[str, Tensor]:
        """Merge the cells in the order of their position and divide.

        Raises
        ------
        ValueError
            Where the blocks did not cover the response exactly once.
        """
        n, _, m2, m3, m4, total, squares = _merged(_assembled(state)).unbind(0)
        variance = m2 / n
        flat = variance == 0.0
        safe = variance.masked_fill(flat, 1.0)
        return {
            "mean": total / n,
            "std": variance.sqrt(),
            "variance": variance,
            "skewness": (m3 / n / (safe * safe.sqrt())).masked_fill(flat, 0.0),
            "kurtosis": (m4 / n / (safe * safe) - 3.0).masked_fill(flat, 0.0),
            "energy": squares.masked_fill(n == 0.0, float("nan")),
            "rms": (squares / n).sqrt(),
        }


def _moments(values: Tensor, valid: Tensor | None) -> Tensor:
    """Reduce each row of (L, pixels) to the seven numbers: (7, L)."""
    import torch

    out = torch.empty((_ROWS, values.shape[0]), dtype=torch.float64, device=values.device)
    for rows, _ in chunks(values):  # a cell is never longer than a segment
        x = values[rows].to(torch.float64)
        inside = None if valid is None else valid[rows]
        _two_pass(x, inside, out[:, rows])
    return out


def _two_pass(x: Tensor, valid: Tensor | None, out: Tensor) -> None:
    """Fill out (7, L) with the moments of x (L, pixels) float64, about a mean that is corrected."""
    import torch

    if valid is None:
        n = torch.full_like(out[0], x.shape[-1])
    else:
        x = torch.where(valid, x, 0.0)
        n = valid.sum(-1).to(torch.float64)  # integers: exact in any order
    total, squares = tree(torch.stack((x, x * x)))
    divisor = n.clamp(min=1.0)
    mean = total / divisor
    powers = x.new_empty((4, *x.shape))
    d = torch.sub(x, mean[:, None], out=powers[0])
    if valid is not None:
        d.masked_fill_(~valid, 0.0)
    d2 = torch.mul(d, d, out=powers[1])
    torch.mul(d2, d, out=powers[2])
    torch.mul(d2, d2, out=powers[3])
    s1, s2, s3, s4 = tree(powers)
    e = s1 / divisor  # what rounding left of the mean
    out[0], out[1], out[5], out[6] = n, mean + e, total, squares
    out[2] = s2 - s1 * e
    out[3] = s3 - 3.0 * e * s2 + 2.0 * n * (e * e * e)
    out[4] = s4 - 4.0 * e * s3 + 6.0 * (e * e) * s2 - 3.0 * n * (e * e * e * e)


def _assembled(state: Cells) -> Tensor:
    """Put every cell in its place: (7, P, cells) on the CPU, cells in C order."""
    import torch

    planes = state.pieces[0][1].shape[1]
    grid = torch.zeros((_ROWS, planes, *state.grid), dtype=torch.float64)
    seen = torch.zeros(state.grid, dtype=torch.int64)
    for at, rows in state.pieces:
        where = tuple(slice(a, a + k) for a, k in zip(at, rows.shape[2:], strict=True))
        grid[(slice(None), slice(None), *where)] = rows.cpu()
        seen[where] += 1
    if not bool((seen == 1).all()):
        message = f"blocks cover {int(seen.sum())} of {prod(state.grid)} cells; cover each once"
        raise ValueError(message)
    return grid.flatten(2)


def _merged(cells: Tensor) -> Tensor:
    """Merge (7, P, cells) to (7, P) by halves, as `tree` does."""
    import torch

    while cells.shape[-1] > 1:
        half = (cells.shape[-1] + 1) // 2
        pairs = cells.shape[-1] - half
        both = _pebay(cells[..., :pairs], cells[..., half:])
        cells = torch.cat((both, cells[..., pairs:half]), -1)
    return cells[..., 0]


def _pebay(left: Tensor, right: Tensor) -> Tensor:
    """Moments of two disjoint sets together, (7, ...) each; an empty set changes nothing."""
    import torch

    na, mean_a, a2, a3, a4, *sums_a = left.unbind(0)
    nb, mean_b, b2, b3, b4, *sums_b = right.unbind(0)
    n = na + nb
    fa, fb = na / n.clamp(min=1.0), nb / n.clamp(min=1.0)
    d = mean_b - mean_a
    d2 = d * d
    return torch.stack(
        (
            n,
            mean_a + d * fb,
            a2 + b2 + d2 * (na * fb),
            a3 + b3 + d2 * d * (na * fb) * (fa - fb) + 3.0 * d * (fa * b2 - fb * a2),
            a4
            + b4
            + d2 * d2 * (na * fb) * (fa * fa - fa * fb + fb * fb)
            + 6.0 * d2 * (fa * fa * b2 + fb * fb * a2)
            + 4.0 * d * (fa * b3 - fb * a3),
            *(a + b for a, b in zip(sums_a, sums_b, strict=True)),
        )
    )

"""Moments: two passes inside canonical cells of 256 pixels, then exact-order merges of cells.

Source: T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the sample variance",
The American Statistician 37 (1983), 242-247 (two passes with correction); P. Pebay, "Formulas for
robust, one-pass parallel computation of covariances and arbitrary-order statistical moments",
Sandia report SAND2008-6212 (2008) (merges); names and formulas: IBSI reference manual 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.statistics.base import STATISTICS, Block, Column, Floats
from pipeline.statistics.cells import Cells


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
    passes: ClassVar[int] = 1

    def start(self, block: Block, brief: None) -> Cells:  # noqa: ARG002 - the protocol's signature
        """Reduce a block to its cells.

        Raises
        ------
        ValueError
            Where the block is cut through a cell.
        """
        return Cells.of(block, block.pixels.moments())

    def merge(self, a: Cells, b: Cells) -> Cells:
        """Keep the cells of both."""
        return a.merge(b)

    def next(self, state: Cells) -> None:
        """One pass is enough."""

    def finish(self, state: Cells) -> Mapping[str, Floats]:
        """Merge the cells in the order of their position and divide.

        Raises
        ------
        ValueError
            Where blocks lie on one another.
        """
        from pipeline.statistics.finish import describe

        cells = state.whole()
        out = np.empty((len(self.columns), len(cells)))
        describe(cells, out)
        return dict(zip(self.columns, out, strict=True))

"""Responses -> statistics: one row per image, band and response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.statistics import COLUMNS, Block, Statistic
from pipeline.statistics.cells import Cells
from pipeline.types import Response

Plane: TypeAlias = npt.NDArray[np.float64]
Columns: TypeAlias = dict[str, Plane]

_PIXELS = 1 << 20
_PLANES = 16
"""Pixels and planes that a CPU reduces at a time; how many changes no bit."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Statistics of one response: `columns` and `n_valid`, `support` are (N, C)."""

    n_pixels: int
    n_valid: npt.NDArray[np.int64]
    support: npt.NDArray[np.float64]
    columns: Columns


def measure(statistics: Sequence[Statistic], wanted: Sequence[str], response: Response) -> Measured:
    """Reduce a response on the device it was computed on; NaN where nothing is valid."""
    shape = tuple(response.residual.shape[:2])
    n_pixels = response.region.size
    if n_pixels == 0:
        nothing: Columns = {name: np.full(shape, np.nan) for name in wanted}
        return Measured(0, np.zeros(shape, np.int64), np.full(shape, np.nan), nothing)
    parts = [_reduced(statistics, *part) for part in _parts(response)]
    whole = parts[0] if len(parts) == 1 else _joined(parts)
    found = {name: column.reshape(shape) for name, column in whole.items()}
    n_valid, support = found.pop("n_valid").astype(np.int64), found.pop("support")
    if response.base is not None:
        found |= _raised(found, response.base.cpu().numpy(), n_valid)
    return Measured(n_pixels, n_valid, support, {name: found[name] for name in wanted})


def _parts(response: Response) -> Iterator[tuple[Block, Tensor | None]]:
    """Planes that are reduced together, and their support; on a CPU as many as its cache holds."""
    values = response.residual.flatten(0, 1)
    valid, support = (
        None if x is None else x.flatten(0, 1) for x in (response.valid, response.support)
    )
    many = len(values)
    if values.device.type == "cpu":
        many = max(1, min(_PLANES, _PIXELS // response.region.size))
    for first in range(0, len(values), many):
        rows = slice(first, first + many)
        block = Block.whole(values[rows], None if valid is None else valid[rows])
        yield block, None if support is None else support[rows]


def _reduced(
    statistics: Sequence[Statistic], block: Block, support: Tensor | None
) -> dict[str, Plane]:
    """All columns, how many pixels of each plane are valid, and their mean support."""
    if block.valid is None:
        count = np.full(len(block.values), prod(block.shape))
    else:
        count = block.pixels.counts()
    mean = np.where(count > 0, 1.0, np.nan)
    if block.valid is not None and support is not None:
        backing = Block.whole(support, block.valid)
        total = Cells.of(backing, backing.pixels.totals()).total()[:, 0]
        mean *= total / np.maximum(count, 1)
    found: dict[str, Plane] = {"n_valid": count.astype(np.float64), "support": mean}
    for statistic in statistics:
        state = statistic.start(block, None)
        while (brief := statistic.next(state)) is not None:
            state = statistic.start(block, brief)
        found |= statistic.finish(state)
    return found


def _joined(parts: Sequence[Mapping[str, Plane]]) -> dict[str, Plane]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _raised(
    found: Mapping[str, Plane], base: Plane, count: npt.NDArray[np.int64]
) -> dict[str, Plane]:
    """The columns that change when the base is added to every pixel, in float64.

    What was measured without the base has all its digits, also where the mean is so large that
    float32 does not tell neighbouring values apart.
    """
    moved = {name: column + base for name, column in found.items() if COLUMNS[name].level}
    if "energy" in found:
        cross = 2.0 * base * (found["mean"] * count) + base * base * count
        energy = np.where(base == 0.0, found["energy"], found["energy"] + cross)
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
            moved |= {"energy": energy, "rms": np.sqrt(energy / count)}
    return moved

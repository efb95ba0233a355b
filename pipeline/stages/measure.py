"""Responses -> statistics: one row per image, band and response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.statistics import COLUMNS, Block, Statistic
from pipeline.types import Response

Plane: TypeAlias = npt.NDArray[np.float64]
Columns: TypeAlias = dict[str, Plane]


@dataclass(frozen=True, slots=True)
class Measured:
    """Statistics of one response: `columns` and `n_valid`, `support` are (N, C)."""

    n_pixels: int
    n_valid: npt.NDArray[np.int64]
    support: npt.NDArray[np.float64]
    columns: Columns


def measure(statistics: Sequence[Statistic], wanted: Sequence[str], response: Response) -> Measured:
    """Reduce a response on the device it was computed on; NaN where nothing is valid."""
    shape = response.residual.shape[:2]
    n_pixels = response.region.size
    n_valid, support = _counts(response)
    columns: Columns = {name: np.full(shape, np.nan) for name in wanted}
    if n_pixels:
        found = _reduce(statistics, response)
        found = {name: column.reshape(shape) for name, column in found.items()}
        if response.base is not None:
            found |= _raised(found, response.base.cpu().numpy(), n_valid)
        columns = {name: found[name] for name in wanted}
    return Measured(n_pixels, n_valid, support, columns)


def _reduce(statistics: Sequence[Statistic], response: Response) -> Mapping[str, np.ndarray]:
    values = response.residual.flatten(0, 1)
    valid = None if response.valid is None else response.valid.flatten(0, 1)
    spatial = tuple(values.shape[1:])
    block = Block(values, valid, (0,) * len(spatial), spatial)
    found: dict[str, np.ndarray] = {}
    for statistic in statistics:
        state = statistic.start(block, None)
        while (brief := statistic.next(state)) is not None:
            state = statistic.start(block, brief)
        found |= {name: column.numpy() for name, column in statistic.finish(state).items()}
    return found


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


def _counts(response: Response) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """How many pixels are valid, and the mean support over those."""
    shape = tuple(response.residual.shape[:2])
    size = response.region.size
    if response.valid is None:
        full = np.full(shape, 1.0 if size else np.nan)
        return np.full(shape, size, np.int64), full
    valid = response.valid.flatten(2).cpu().numpy()
    count = valid.sum(-1, dtype=np.int64)
    if response.support is None:
        return count, np.where(count > 0, 1.0, np.nan)
    support = response.support.flatten(2).double().cpu().numpy()
    mean = np.empty(shape)
    for at in np.ndindex(*shape):  # plane by plane: numpy sums a row of a batch in another order
        chosen = support[at][valid[at]]
        mean[at] = chosen.sum() / chosen.size if chosen.size else np.nan
    return count, mean

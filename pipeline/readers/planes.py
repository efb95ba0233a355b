"""Which planes of a TIFF file make a stack, and how far apart their pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import numpy.typing as npt

from pipeline.types import Grid
from pipeline.units import METRES

# Names of units beyond those of METRES, as OME-XML and ImageJ write them: how many of which.
UNITS = {
    **dict.fromkeys(("µm", "μm", "micron", "microns", "micrometer"), (1.0, "um")),
    "inch": (25.4, "mm"),
    "Å": (0.1, "nm"),
}
NO_LENGTH = ("", "pixel", "pixels", "reference frame")


@dataclass(frozen=True, slots=True)
class Stack:
    """The planes of a stack.

    pages: (frame, slice, channel), numbers of TIFF directories from 0; names: of the channels,
    empty where they have none; grid: of a volume; one: all planes stand behind the first directory,
    of which `pages` counts them.
    """

    pages: npt.NDArray[np.int64]
    names: tuple[str, ...]
    grid: Grid
    one: bool = False


def grid_of(steps: Sequence[float], units: Sequence[str], depth: int) -> Grid:
    """Grid of (z, y, x) steps in the unit of x; without a spacing where an axis lacks it.

    depth: slices; of one, nothing is measured along z.
    """
    lengths = [_metric(step, unit) for step, unit in zip(steps, units, strict=True)]
    if depth == 1:
        lengths[0] = lengths[1]
    if not all(isfinite(step) and step > 0 and unit for step, unit in lengths):
        return Grid((1.0,) * 3)
    unit = lengths[2][1]
    if any(other != unit for _, other in lengths):
        if not all(other in METRES for _, other in lengths):
            return Grid((1.0,) * 3)
        lengths = [(step * METRES[other] / METRES[unit], unit) for step, other in lengths]
    return Grid(tuple(float(f"{step:.12g}") for step, _ in lengths), unit)


def _metric(step: float, unit: str) -> tuple[float, str]:
    """A length in a unit that is known; the unit is empty for what is none, else `unknown`."""
    if unit in NO_LENGTH:
        return step, ""
    factor, name = UNITS.get(unit, (1.0, unit if unit in METRES else "unknown"))
    return step * factor, name

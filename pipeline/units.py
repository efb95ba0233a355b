"""Units of length: which are known, and a grid's spacing in another one."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import PlanError
from pipeline.types import Grid

METRES = {"nm": 1e-9, "um": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
DEFAULT = "mm"


def in_unit(grid: Grid, unit: str) -> Grid:
    """The same grid with its spacing in another unit.

    Raises
    ------
    PlanError
        Where the grid has no spacing, or one that is no length.

    Examples
    --------
    >>> in_unit(Grid((0.003, 0.0005), "m"), "mm").spacing
    (3.0, 0.5)
    """
    if grid.unit is None:
        message = (
            f"lengths in {unit} need images with a spacing, this one has none; "
            "give input.spacing and input.unit, or lengths in pixels (units: pixels)"
        )
        raise PlanError(message)
    if grid.unit not in METRES:
        message = (
            f"lengths in {unit} need a spacing in one of {', '.join(METRES)}, this image's is in "
            f"{grid.unit!r}; give input.unit, reproject it, or give lengths in pixels"
        )
        raise PlanError(message)
    if grid.unit == unit:
        return grid
    factor = METRES[grid.unit] / METRES[unit]
    # 12 digits: what binary fractions add to them is no part of a spacing
    spacing = tuple(float(f"{step * factor:.12g}") for step in grid.spacing)
    return replace(grid, spacing=spacing, unit=unit)

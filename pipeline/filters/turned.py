"""Pooling over right-angle rotations, for families with a direction."""

from __future__ import annotations

from math import isclose

from pipeline.bank.expr import Responses
from pipeline.bank.rotations import Pooling, pool_rotations
from pipeline.errors import PlanError
from pipeline.types import Grid


def turned(family: str, found: Responses, how: Pooling, grid: Grid) -> Responses:
    """Each response's maximum or mean over the rotations of its filter: 4 in 2-D, 24 in 3-D.

    Raises
    ------
    PlanError
        Where the pixels' edges differ: turned on them, a filter is not turned in space.
    """
    if how == "none":
        return found
    if not isclose(min(grid.spacing), max(grid.spacing), rel_tol=1e-3):
        message = (
            f"{family}: a rotation needs pixels of equal edges (got spacing {grid.spacing}); "
            "resample, filter fewer axes (rank: 2), or give lengths in pixels"
        )
        raise PlanError(message)
    return {suffix: pool_rotations(node, grid.ndim, how) for suffix, node in found.items()}


def refuse_turning(what: str, reason: str, how: Pooling) -> None:
    """Raise ValueError for a pooling that would change nothing, or mean nothing."""
    if how != "none":
        message = f"{what} cannot be pooled over rotations: {reason}; leave rotation_invariant out"
        raise ValueError(message)

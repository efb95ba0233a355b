"""Directions of a filter: how they are counted, pooled, and written as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, radians, sin
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo

from pipeline.bank.expr import Join, Node
from pipeline.bank.rotations import Pooling
from pipeline.errors import PlanError
from pipeline.filters.base import RotationInvariant
from pipeline.filters.turned import refuse_turning

Orientation: TypeAlias = Annotated[
    float,
    Field(
        description="direction the wave runs in, clockwise from +x; with pool, the first's; degrees"
    ),
]
Orientations: TypeAlias = Annotated[
    int | None,
    Field(ge=1, le=360, description="a count N, short for orientation: [0, 180/N, ...]"),
]


def _with_a_count(pool: str, info: ValidationInfo) -> str:
    """Refuse a pool without a count of orientations, and a count without a pool."""
    if "orientations" not in info.data:  # refused itself
        return pool
    count = info.data["orientations"]
    if pool != "none" and count is None:
        message = f"{pool!r} needs a number of directions; add orientations: 8"
        raise ValueError(message)
    if pool == "none" and count is not None:
        message = f"orientations={count} without a pool: list degrees in orientation"
        raise ValueError(message)
    return pool


OrientationPool: TypeAlias = Annotated[
    Literal["none", "mean", "max"],
    AfterValidator(_with_a_count),
    Field(
        description="one response from all `orientations`, in place of one each",
        validate_default=True,
    ),
]
"""The field after `orientations`, which it is compared with."""


def _or_pooled(how: Pooling, info: ValidationInfo) -> Pooling:
    """Refuse to turn what is pooled over orientations already."""
    if info.data.get("pool", "none") != "none":
        reason = f"pool: {info.data['pool']} takes all directions already"
        refuse_turning("orientations", reason, how)
    return how


TurnedOrPooled: TypeAlias = Annotated[RotationInvariant, AfterValidator(_or_pooled)]
"""The field after `pool`, which it is compared with."""


def spread_orientations(given: dict[str, Any]) -> dict[str, Any]:
    """Turn a count of orientations into the list of them, unless they are to be pooled."""
    rest = dict(given)
    count = rest.pop("orientations", None)
    if count is None:
        return rest
    if rest.get("pool", "none") != "none":
        return given
    if "orientation" in rest:
        message = "orientations is a count and orientation a list of degrees; give one of them"
        raise ValueError(message)
    if type(count) is not int or not 1 <= count <= 360:
        message = (
            f"orientations is a count from 1 to 360 (got {count!r}); "
            "for angles in degrees write orientation"
        )
        raise ValueError(message)
    return rest | {"orientation": half_turn(0.0, count)}


def half_turn(first: float, count: int | None) -> list[float]:
    """Directions spread evenly over 180 degrees; a count of None is one."""
    return [first + 180.0 * k / (count or 1) for k in range(count or 1)]


def pooled(parts: Sequence[Node], how: Literal["none", "mean", "max"]) -> Node:
    """One response of many; the only one stays as it is."""
    if how == "none" or len(parts) == 1:
        (only,) = parts
        return only
    return Join(tuple(parts), how)


def direction(family: str, orientation: float, elevation: float, ndim: int) -> tuple[float, ...]:
    """A unit vector in numpy's axis order, from degrees clockwise from +x and towards +z.

    Raises
    ------
    PlanError
        Where the rank is neither 2 nor 3, and for an elevation in 2-D.
    """
    across, up = radians(orientation), radians(elevation)
    if ndim == 2 and not elevation:
        return (sin(across), cos(across))
    if ndim == 3:
        return (sin(up), cos(up) * sin(across), cos(up) * cos(across))
    if ndim == 2:
        message = f"{family}: elevation={elevation:g} needs volumes (got 2 axes); leave it out"
    else:
        message = f"{family} needs 2 or 3 axes (got {ndim}); set rank: 2"
    raise PlanError(message)

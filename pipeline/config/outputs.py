"""Which maps become files that other software opens, in the section `output`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, ValidationInfo
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")

Globs: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(min_length=1, description="globs of the names of the responses that are written"),
]


@dataclass(frozen=True, config=_STRICT)
class GeoTiffs:
    """Which responses to two-dimensional images become GeoTIFF files."""

    filters: Globs = ("*",)
    dtype: Annotated[
        Literal["float32", "float16"],
        Field(description="how values are stored; beyond 65504 float16 is infinite"),
    ] = "float32"


@dataclass(frozen=True, config=_STRICT)
class Niftis:
    """Which responses become NIfTI files."""

    filters: Globs = ("*",)


def switched(kind: type[object]) -> Callable[[object], object]:
    """Let a section be true, for its defaults, or false, for none of it."""

    def read(value: object) -> object:
        if isinstance(value, bool):
            return kind() if value else None
        if value is None or isinstance(value, kind):
            return value
        if not isinstance(value, dict):
            message = "must be true, false or a mapping; write true for everything"
            raise ValueError(message)
        # behind a validator of our own, pydantic's strict mode takes tuples only
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}

    return read


def placed(stac: bool, info: ValidationInfo) -> bool:
    """Refuse items that would describe no maps; a key that is wrong itself says so."""
    if stac and info.data.get("maps") == "none" and info.data.get("geotiff", True) is None:
        message = "has no maps to describe; add geotiff: true, or maps: float32"
        raise ValueError(message)
    return stac

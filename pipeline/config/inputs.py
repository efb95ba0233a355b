"""What belongs to an image besides its own file, in the section `input`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.dataclasses import dataclass

from pipeline.config.nodes import Node, problem
from pipeline.config.table import APPLIED
from pipeline.errors import ConfigError
from pipeline.patterns import Pattern, fields_of
from pipeline.registry import nearest

if TYPE_CHECKING:
    from pipeline.config.schema import Input

_STRICT = ConfigDict(extra="forbid")

TAKEN = frozenset(
    {
        "image",
        "files",
        "status",
        "kind",
        "error",
        "reader",
        "shape",
        "bands",
        "dtype",
        "spacing",
        "value_unit",
        "crs",
        "transform",
        "bytes",
        "mtime_ns",
        "fingerprint",
        "version",
        "device",
        "region",
    }
)
"""Columns of the tables that fields are joined to; upper case is no other name in SQL."""

Named: TypeAlias = tuple[tuple[str, str], ...]
"""(label in the mask file, name of the region)."""


def _pattern(text: str) -> str:
    for field in Pattern(text).fields:
        if field.casefold() in TAKEN:
            message = f"field {field!r} is called like a column of images; write {{{field}_}}"
            raise ValueError(message)
    return text


def _labels(value: object) -> Literal["all"] | Named:
    if value == "all":
        return "all"
    if isinstance(value, tuple):
        return value
    if (
        not isinstance(value, Mapping)
        or not value
        or not all(isinstance(name, str) and name and name.isprintable() for name in value.values())
        or len(set(value.values())) < len(value)
    ):
        message = "must be all, or a name for each label; write {1: GTV, 2: edema}"
        raise ValueError(message)
    return tuple((str(label), name) for label, name in value.items())


PathPattern: TypeAlias = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
MaskLabels: TypeAlias = Annotated[
    Literal["all"] | Named,
    PlainValidator(_labels),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "all"},
                {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
            ]
        }
    ),
]


@dataclass(frozen=True, config=_STRICT)
class Masks:
    """Which files say where an image is measured."""

    path: Annotated[
        PathPattern | None,
        Field(description="pattern of their paths; null: the table's column mask says it"),
    ] = None
    labels: Annotated[
        MaskLabels,
        Field(
            description="all, or a region's name for each label that counts",
            json_schema_extra={"default": "all"},
        ),
    ] = "all"
    missing: Annotated[
        Literal["fail", "skip", "image"],
        Field(description="an image without: a failed row, no row, or measured as a whole"),
    ] = "fail"


@dataclass(frozen=True, config=_STRICT)
class Quality:
    """Which files say what the pixels of a scene show, and what of that is invalid."""

    path: Annotated[PathPattern, Field(description="pattern of their paths")]
    invalid: Annotated[
        Annotated[tuple[int, ...], Field(min_length=1)],
        Field(description="classes whose pixels are invalid in all bands"),
    ]


def checked_input(found: Input, node: Node) -> Input:
    """Raise ConfigError where keys of the section contradict each other."""
    problems = tuple(
        line for key, text in _contradictions(found) for line in _at(node, key, text).problems
    )
    if problems:
        raise ConfigError(problems)
    return found


def _at(node: Node, key: str, text: str) -> ConfigError:
    names: Any = tuple(key.split("."))
    _, place = node.walk(names)
    return problem(place.place, f"input.{key}", text)


def _contradictions(found: Input) -> Iterator[tuple[str, str]]:
    fields = fields_of(found.include or ())
    yield from _of_join(found, fields)
    paths = (("mask", found.mask and found.mask.path), ("qa", found.qa and found.qa.path))
    for key, path in paths:
        own = [f for f in fields_of((path,)) if f not in found.fields] if path else []
        if found.join in own:
            yield f"{key}.path", f"holds {{{found.join}}}, in which the joined files differ; use *"
        elif len(own) > (key == "mask"):
            named = ", ".join(f"{{{field}}}" for field in own)
            text = f"holds {named} that no include pattern has"
            yield f"{key}.path", f"{text}; a mask may add one field, a qa layer none"
    yield from _of_table(found)


def _of_join(found: Input, fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if found.join is not None and found.join not in fields:
        wish = f"; write include: ['*_{{{found.join}}}.tif']"
        hint = nearest(found.join, fields) if fields else wish
        yield "join", f"{found.join!r} is no field of an include pattern{hint}"


def _of_table(found: Input) -> Iterator[tuple[str, str]]:
    table = found.table
    if found.mask and not found.mask.path and "mask" not in (table.columns if table else ()):
        yield "mask", "has no path; give one, or a table with a column mask"
    if table is None:
        return
    if not table.joined_on(found.fields):
        known = ", ".join((*found.fields, "image"))
        named = ", ".join(table.columns)
        yield "table", f"has no column to join on (got {named}); give it one of: {known}"
        return
    if "mask" in table.columns and found.mask is None:
        yield "table", "has a column mask; add mask: {labels: all}, or rename the column"
    lower = {field.casefold(): field for field in found.fields}
    for column in table.copied(found.fields):
        if column.casefold() in TAKEN | {*lower, *APPLIED}:
            yield "table", f"has a column {column!r}, a name that is taken; rename it"
    try:
        table.index(found.fields)
    except ValueError as error:
        yield "table", str(error)

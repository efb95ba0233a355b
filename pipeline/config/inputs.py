"""The section `input`: which files are read, and what belongs to an image besides its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.dataclasses import dataclass

from pipeline.config.quantities import Duration, Labels, Length, Paths, Text
from pipeline.config.table import CaseTable
from pipeline.patterns import Pattern, fields_of
from pipeline.readers.dicom_metadata import text_keyword

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

Bands: TypeAlias = Literal["all", "luminance"] | Labels
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


Keyword: TypeAlias = Annotated[str, AfterValidator(text_keyword)]
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


@dataclass(frozen=True, config=_STRICT)
class Input:
    """Which files are read, and how."""

    path: Annotated[
        Paths, Field(description="folder, file or glob, or a list of them; URLs of a store")
    ]
    include: Annotated[
        tuple[PathPattern, ...] | None,
        Field(description="globs below the root, {field} becomes a column; null: every image"),
    ] = None
    exclude: Annotated[tuple[Text, ...], Field(description="globs below the root")] = ()
    join: Annotated[
        Text | None, Field(description="the field by which the files of one image's bands differ")
    ] = None
    bands: Annotated[
        Bands, Field(description="all, luminance, or labels; numbers count from 1")
    ] = "all"
    mask: Annotated[
        Masks | None, Field(description="where images are measured; null: everywhere")
    ] = None
    qa: Annotated[
        Quality | None, Field(description="classes of pixels that are invalid; null: none")
    ] = None
    table: Annotated[CaseTable, Field(description="a CSV file that says more about each image")] = (
        None
    )
    sha256: Annotated[
        Text | None,
        Field(description="a list of sha256sum that the files must agree with; null: none"),
    ] = None
    metadata: Annotated[
        tuple[Keyword, ...],
        Field(description="DICOM keywords whose values become columns, as [Modality, PatientAge]"),
    ] = ()
    nodata: Annotated[
        float | None, Field(description="the value of invalid pixels; null: as the file says")
    ] = None
    jpeg: Annotated[
        Literal["libjpeg", "nvjpeg"],
        Field(description="what decodes JPEG: libjpeg on CPUs, or nvjpeg on the GPU"),
    ] = "libjpeg"
    pages: Annotated[
        Literal["auto", "sources", "bands", "volume"],
        Field(description="what the pages of one file are"),
    ] = "auto"
    spacing: Annotated[
        Length | Annotated[tuple[Length, ...], Field(min_length=2, max_length=3)] | None,
        Field(description="pixel size where the file has none; a number or (z, y, x)"),
    ] = None
    unit: Annotated[
        Text | None,
        Field(description="of spacing where the file names none, and of physical lengths"),
    ] = None
    min_age: Annotated[
        Duration,
        Field(
            description="leave files that changed more recently for the next run",
            json_schema_extra={"default": "0s"},
        ),
    ] = 0.0

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the include patterns that say something of a whole image."""
        return tuple(field for field in fields_of(self.include or ()) if field != self.join)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the table of images has besides its own, all of text."""
        copied = self.table.copied(self.fields) if self.table else ()
        return (*self.fields, *copied, *self.metadata)

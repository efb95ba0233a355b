"""The table beside a folder of images: what it says of each, by fields of the names."""

from __future__ import annotations

import csv
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import PlainValidator, WithJsonSchema

from pipeline.config.nodes import shown

APPLIED = ("scale", "offset", "spacing", "unit", "mask")
"""Columns that apply to their source; the others are copied to the table of images."""

Cells: TypeAlias = Mapping[str, str]
"""What a row says by column, or what is asked for; empty cells are left out."""


@dataclass(frozen=True)
class Table:
    """A CSV file as text. rows: line number in the file, cells in the order of the columns."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]

    def joined_on(self, fields: Iterable[str]) -> tuple[str, ...]:
        """Its columns that say which source a row is about."""
        known = {*fields, "image"}
        return tuple(column for column in self.columns if column in known)

    def copied(self, fields: Iterable[str]) -> tuple[str, ...]:
        """Its columns that become columns of the images, in one order wherever they stand."""
        known = {*self.joined_on(fields), *APPLIED}
        return tuple(sorted(column for column in self.columns if column not in known))

    def index(self, fields: Iterable[str]) -> Callable[[Cells], Cells]:
        """What looks up the row of a source by its fields and `image`; nothing where none is.

        Letters that look alike are alike, however a file system spells their accents. Raises
        ValueError for two rows about one source.
        """
        on = self.joined_on(fields)
        key_of = self._key(on)
        rows: dict[tuple[str, ...], Cells] = {}
        lines: dict[tuple[str, ...], int] = {}
        for line, cells in self.rows:
            row = dict(zip(self.columns, cells, strict=True))
            key = key_of(row)
            if key in rows:
                same = ", ".join(f"{c}={v!r}" for c, v in zip(on, key, strict=True))
                message = f"{self.name}:{line}: repeats {same} of line {lines[key]}; remove one"
                raise ValueError(message)
            lines[key] = line
            rows[key] = {column: cell for column, cell in row.items() if cell and column not in on}

        return lambda source: rows.get(key_of(source), {})

    def lines_without(self, fields: Iterable[str], sources: Iterable[Cells]) -> tuple[int, ...]:
        """The lines of rows that are about none of some sources, given by fields and `image`."""
        key_of = self._key(self.joined_on(fields))
        known = set(map(key_of, sources))
        rows = ((line, dict(zip(self.columns, cells, strict=True))) for line, cells in self.rows)
        return tuple(line for line, row in rows if key_of(row) not in known)

    @staticmethod
    def _key(on: Sequence[str]) -> Callable[[Cells], tuple[str, ...]]:
        return lambda cells: tuple(composed(cells.get(column, "")) for column in on)


def spacing_of(cell: str) -> tuple[float, ...]:
    """A pixel size: one number, or one per axis, (z, y, x). Raises ValueError.

    >>> spacing_of("3 0.5 0.5")
    (3.0, 0.5, 0.5)
    """
    steps = tuple(map(float, cell.split()))
    if not 1 <= len(steps) <= 3 or not all(0 < step < math.inf for step in steps):
        raise ValueError(cell)
    return steps


def _slope(cell: str) -> float:
    if (slope := _number(cell)) == 0:
        raise ValueError(cell)
    return slope


def _number(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


_CHECKS: Mapping[str, tuple[Callable[[str], object], str]] = {
    "scale": (_slope, "a number other than 0"),
    "offset": (_number, "a number"),
    "spacing": (spacing_of, "a pixel size, '0.65' or '3 0.5 0.5' (z y x)"),
}


def read_table(value: object) -> Table | None:
    """Read a CSV file with a header: UTF-8, commas. Raises ValueError saying what is wrong."""
    if value is None or isinstance(value, Table):
        return value
    if not isinstance(value, str) or not value:
        message = "must be a path; write table: cases.csv"
        raise ValueError(message)
    name = Path(value).name
    try:
        with Path(value).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = tuple(next(reader, []))
            _check_columns(name, columns)
            rows = tuple((reader.line_num, tuple(row)) for row in reader if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        message = f"cannot be read: {why}; give a CSV file, UTF-8, with a header"
        raise ValueError(message) from error
    for line, row in rows:
        _check_row(f"{name}:{line}", columns, row)
    return Table(name, columns, rows)


def _check_columns(name: str, columns: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for column in columns:
        if not column.isprintable() or not column.strip() or column.casefold() in seen:
            got = shown(list(columns))
            message = f"{name}:1: has a column {column!r} (got {got}); give each a name of its own"
            raise ValueError(message)
        seen.add(column.casefold())
    if not columns:
        message = f"{name} is empty (got no line); give it a header"
        raise ValueError(message)


def _check_row(place: str, columns: tuple[str, ...], row: tuple[str, ...]) -> None:
    if len(row) != len(columns):
        got = shown(list(row))
        message = f"{place}: has {len(row)} cells, the header {len(columns)} (got {got})"
        message += "; make them alike"
        raise ValueError(message)
    for column, cell in zip(columns, row, strict=True):
        if column in _CHECKS and cell:
            check, wanted = _CHECKS[column]
            try:
                check(cell)
            except ValueError as error:
                message = f"{place}: {column} must be {wanted} (got {cell!r}); correct it"
                raise ValueError(message) from error


def composed(text: str) -> str:
    """Text in which an accent is part of its letter: one spelling of what looks alike."""
    return unicodedata.normalize("NFC", text)


CaseTable: TypeAlias = Annotated[
    Table | None,
    PlainValidator(read_table),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]

"""What the keys of the section `input` say together: contradictions, with their lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.config.inputs import TAKEN, Input
from pipeline.config.nodes import Node, problem
from pipeline.config.table import APPLIED, Table
from pipeline.errors import ConfigError
from pipeline.patterns import fields_of
from pipeline.registry import nearest


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
    alike = Counter(field.casefold() for field in found.fields)
    if twice := [field for field in found.fields if alike[field.casefold()] > 1]:
        named = " and ".join(f"{{{field}}}" for field in twice)
        yield "include", f"holds {named}, one name in SQL; spell them alike, or rename one"
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
    yield from _of_metadata(found)


def _of_join(found: Input, fields: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if found.join is not None and found.join not in fields:
        wish = f"; write include: ['*_{{{found.join}}}.tif']"
        hint = nearest(found.join, fields) if fields else wish
        yield "join", f"{found.join!r} is no field of an include pattern{hint}"


def _of_metadata(found: Input) -> Iterator[tuple[str, str]]:
    columns = [name.casefold() for name in (*TAKEN, *found.columns, found.join or "")]
    for keyword in dict.fromkeys(found.metadata):
        if columns.count(keyword.casefold()) > 1:
            text = f"holds {keyword!r}, which another keyword, field or column is called"
            yield "metadata", f"{text}; remove or rename one"


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
    if {"image", "mask"} <= {*table.columns} and (line := _line_of_part(table)):
        text = f"{table.name}:{line}: names the mask of a page or series (image=...#...)"
        yield "table", f"{text}; masks belong to files: join them on fields"
    lower = {field.casefold(): field for field in found.fields}
    for column in table.copied(found.fields):
        if column.casefold() in TAKEN | {*lower, *APPLIED}:
            yield "table", f"has a column {column!r}, a name that is taken; rename it"
    try:
        table.index(found.fields)
    except ValueError as error:
        yield "table", str(error)


def _line_of_part(table: Table) -> int | None:
    """The first line that gives a mask to a part of a file, or to a series of files."""
    image, mask = map(table.columns.index, ("image", "mask"))
    return next((line for line, cells in table.rows if "#" in cells[image] and cells[mask]), None)

"""pydantic's errors in the words of the config file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipeline.config.nodes import Location, Node, join_key, problem, shown
from pipeline.config.parse import scalar
from pipeline.errors import ConfigError
from pipeline.registry import nearest

T = TypeVar("T")

_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_WISHES = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}

LENGTHS = ("; a length", "; lengths")


def build(cls: type[T], node: Node, key: str) -> T:
    """Validate a mapping as a pydantic dataclass, strictly: text is no number, 1 is not true.

    Raises
    ------
    ConfigError
        With every problem below this node.
    """
    if not isinstance(node.value, dict):
        raise problem(node.place, key, f"must be a mapping (got {shown(node.plain)})")
    try:
        # JSON, because there strict mode still reads lists as tuples
        text = json.dumps(node.plain, default=lambda value: value.dump())
        found: T = adapter(cls).validate_json(text, strict=True)
    except ValidationError as error:
        raise explain(error, cls, node, key) from None
    return found


def adapter(cls: Any) -> TypeAdapter[Any]:
    """The validator of a dataclass or another type, built once."""
    return _adapter(cls)


def known_words(cls: Any) -> tuple[str, ...]:
    """What may stand in a mapping: fields as config files spell them, and shorthand.

    A family adds its shorthand to its JSON schema.
    """
    return _known_words(cls)


def lengths(cls: Any) -> tuple[str, ...]:
    """The fields that count in the unit of lengths: so their descriptions end."""
    fields_ = adapter(cls).json_schema().get("properties", {}).items()
    return tuple(n for n, f in fields_ if f.get("description", "").endswith(LENGTHS))


@lru_cache(maxsize=256)
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@lru_cache(maxsize=256)
def _known_words(cls: Any) -> tuple[str, ...]:
    return tuple(adapter(cls).json_schema().get("properties", ()))


def refuse_unknown(node: Node, known: Iterable[str], key: str) -> None:
    """Raise ConfigError for the keys of a mapping that nobody reads."""
    words = tuple(known)
    wrong = [unknown_key(node, k, words, key, (k,)) for k in node.entries if k not in words]
    if wrong:
        raise ConfigError(tuple(line for error in wrong for line in error.problems))


def unknown_key(
    parent: Node, name: str, known: Iterable[str], key: str, loc: Location
) -> ConfigError:
    """Refuse a key of a mapping that nobody reads, with the nearest word."""
    text = f"unknown key{nearest(name, known)}"
    return problem(parent.entries[name].place, join_key(key, loc), text)


def explain(error: ValidationError, cls: type, node: Node, key: str) -> ConfigError:
    """Say all that pydantic found, one line per value, in the order of the file."""
    found: dict[Location, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        real, _ = node.walk(detail["loc"])
        if detail["type"] in _MISSING and detail["loc"]:
            real = (*real, detail["loc"][-1])
        found.setdefault(real, []).append(detail)
    # a union's other members did not look inside the value: what they miss is no news
    deepest = [loc for loc in found if not any(o[: len(loc)] == loc != o for o in found)]
    lines = [_line(loc, found[loc], cls, node, key) for loc in deepest]
    return ConfigError(tuple(line for error in lines for line in error.problems))


def _line(
    loc: Location, details: list[ErrorDetails], cls: type, node: Node, key: str
) -> ConfigError:
    if details[0]["type"] in _UNKNOWN:
        return unknown_key(node.walk(loc[:-1])[1], str(loc[-1]), _fields(cls, loc[:-1]), key, loc)
    if details[0]["type"] in _MISSING:
        return _missing(loc, node, key)
    _, value = node.walk(loc)
    return problem(value.place, join_key(key, loc), _text(details, value.plain))


def _fields(cls: type, loc: Location) -> tuple[str, ...]:
    """What may stand in the mapping at a location, as config files spell it."""
    for part in loc:
        if isinstance(part, str):  # a number counts items of one class
            cls = next(_dataclasses(get_type_hints(cls)[part]))
    return known_words(cls)


def _dataclasses(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _dataclasses(inner)


def _missing(loc: Location, node: Node, key: str) -> ConfigError:
    parent = node.walk(loc[:-1])[1]
    if isinstance(loc[-1], int):
        text = f"has too few values (got {shown(parent.plain)}); give {loc[-1] + 1}"
        return problem(parent.place, join_key(key, loc[:-1]), text)
    return problem(parent.place, join_key(key, loc), f"is missing; add '{loc[-1]}: ...'")


def _text(details: list[ErrorDetails], value: Any) -> str:
    """What is wrong (got X); what to do."""
    got = f" (got {shown(value)})"
    for detail in details:
        if detail["type"] in ("value_error", "assertion_error"):
            what, _, advice = str(detail["ctx"]["error"]).partition("; ")
            told = "(got " in what or repr(value) in what or isinstance(value, dict)
            quote = "" if told else got
            return f"{what}{quote}; {advice}" if advice else f"{what}{quote}"
    wishes = dict.fromkeys(_wish(detail) for detail in details)
    return f"must be {' or '.join(wishes)}{got}{_hint(list(wishes), value)}"


def _wish(detail: ErrorDetails) -> str:
    pattern = _WISHES.get(detail["type"])
    if pattern is None:
        return re.sub("^Input should be ", "", detail["msg"])
    return pattern.format(**detail.get("ctx", {}))


def _hint(wishes: list[str], value: Any) -> str:
    if wishes == ["text"] and isinstance(value, int | float | bool):
        return "; put it in quotes"
    if {"a number", "a whole number"} & set(wishes) and _numeric(value):
        return "; remove the quotes"
    words = re.findall(r"'([^']+)'", " ".join(wishes))
    near = difflib.get_close_matches(str(value), words, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _numeric(value: Any) -> bool:
    """Whether it is text that spells a number."""
    return isinstance(value, str) and isinstance(scalar(value), int | float)

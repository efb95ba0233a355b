"""Kinds of values, some with a notation of their own: times, sizes, shares, boundaries, ranges.

Each parser takes what it returns as well, so that `dataclasses.replace` works on the sections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema

from pipeline.boundary import MODES, Boundary
from pipeline.registry import nearest

Ranges: TypeAlias = tuple[tuple[str, float, float], ...]
"""(glob, low, high) of response names, first match wins; empty where nothing is fixed."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([smhd])")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|TiB)")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+):[0-9]{1,5}")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%")


def parse_paths(value: object) -> tuple[str, ...]:
    """One path, or a list of them."""
    paths = (value,) if isinstance(value, str) else value
    if (
        not isinstance(paths, list | tuple)
        or not paths
        or not all(isinstance(path, str) and path and "\0" not in path for path in paths)
    ):
        message = "must be a path or a list of paths; write 'data/samples'"
        raise ValueError(message)
    return tuple(paths)


def parse_duration(value: object) -> float:
    """Seconds of a time like '90s', '10m', '1h' or '2d'; a plain number is seconds.

    >>> parse_duration("10m")
    600.0
    """
    if type(value) in (int, float) and 0 <= value < float("inf"):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        message = "must be a time; write '90s', '10m', '1h' or '2d'"
        raise ValueError(message)
    return float(match[1]) * _SECONDS[match[2]]


def parse_seconds(value: object) -> float:
    """Seconds of a time that is not zero.

    >>> parse_seconds("2m")
    120.0
    """
    seconds = parse_duration(value)
    if not seconds:
        message = "must be longer than 0; write '2m', or null for any time"
        raise ValueError(message)
    return seconds


def parse_size(value: object) -> int:
    """Bytes of a size like '2GiB'; a plain number is bytes.

    >>> parse_size("1.5KiB")
    1536
    """
    if type(value) is int and value > 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    size = int(float(match[1]) * _BYTES[match[2]]) if match else 0
    if size < 1:
        message = "must be a size; write '500MiB' or '2GiB'"
        raise ValueError(message)
    return size


def written_size(size: int) -> str:
    """Write bytes for people, in the largest unit of which there is one.

    >>> written_size(1536)
    '1.5 KiB'
    """
    unit, scale = max((u for u in _BYTES.items() if u[1] <= max(size, 1)), key=lambda u: u[1])
    return f"{size / scale:.1f} {unit}" if scale > 1 else f"{size} B"


def parse_memory(value: object) -> int | Literal["auto"]:
    """`auto`, or bytes."""
    if value == "auto":
        return "auto"
    try:
        return parse_size(value)
    except ValueError as error:
        message = "must be auto or a size; write '4GiB'"
        raise ValueError(message) from error


def parse_budget(value: object) -> int | str | None:
    """How many sources may fail: a number, a share like '10%', or None for any."""
    if value is None or (type(value) is int and value >= 0):
        return value
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        message = "must be a number of images or a share of them; write 20 or '10%'"
        raise ValueError(message)
    return f"{float(match[1]):g}%"


_LARGEST = 3.4028234663852886e38
"""The largest float32."""


def parse_boundary(value: object) -> Boundary:
    """`reflect`, or `{constant: 5}`."""
    if isinstance(value, Boundary):
        return value
    if isinstance(value, Mapping) and list(value) == ["constant"]:
        fill = value["constant"]
        if type(fill) not in (int, float) or not abs(fill) <= _LARGEST:
            message = f"needs a number that float32 holds (got {fill!r}); write {{constant: 0}}"
            raise ValueError(message)
        return Boundary("constant", float(fill))
    if isinstance(value, str):
        if value in MODES:
            return Boundary(value)
        message = f"is not a boundary{nearest(value, MODES)}"
        raise ValueError(message)
    message = f"must be one word or {{constant: value}}; choose from: {', '.join(MODES)}"
    raise ValueError(message)


def parse_ranges(value: object) -> Ranges:
    """`auto`, `[low, high]`, or `{"log(*": [low, high]}`."""
    if value == "auto":
        return ()
    if isinstance(value, tuple) and all(isinstance(item, tuple) for item in value):
        return value
    if isinstance(value, Mapping):
        return tuple((str(glob), *_interval(pair)) for glob, pair in value.items())
    return (("*", *_interval(value)),)


def _interval(value: object) -> tuple[float, float]:
    pair: Any = value if isinstance(value, list | tuple) and len(value) == 2 else (None, None)
    if not all(type(number) in (int, float) for number in pair) or not _ordered(*pair):
        message = "must be auto or [low, high]; give two numbers, the lower first"
        raise ValueError(message)
    return float(pair[0]), float(pair[1])


def _ordered(low: Any, high: Any) -> bool:
    return bool(-float("inf") < low < high < float("inf"))


def _written(pattern: re.Pattern[str]) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern.pattern}$"}


_NUMBER = {"type": "number", "minimum": 0}
_BYTE_COUNT = {"type": "integer", "minimum": 1}
_FILL = {"type": "object", "properties": {"constant": {"type": "number"}}}


def parse_address(text: str) -> str:
    """Where a Ray cluster is: `local`, or host and port of its head.

    >>> parse_address("head.example:6379")
    'head.example:6379'
    """
    if text != "local" and _ADDRESS.fullmatch(text) is None:
        message = "must be local, or host:port of the cluster's head; write head.example:6379"
        raise ValueError(message)
    return text


_PAIR = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}

Text: TypeAlias = Annotated[str, Field(min_length=1)]
Address: TypeAlias = Annotated[str, AfterValidator(parse_address)]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Length: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Labels: TypeAlias = Annotated[tuple[Count | Text, ...], Field(min_length=1)]
Paths: TypeAlias = Annotated[
    tuple[str, ...],
    PlainValidator(parse_paths),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Duration: TypeAlias = Annotated[
    float,
    PlainValidator(parse_duration),
    WithJsonSchema({"anyOf": [_NUMBER, _written(_TIME)]}),
]
Seconds: TypeAlias = Annotated[
    float,
    PlainValidator(parse_seconds),
    WithJsonSchema({"anyOf": [_NUMBER, _written(_TIME)]}),
]
Size: TypeAlias = Annotated[
    int,
    PlainValidator(parse_size),
    WithJsonSchema({"anyOf": [_BYTE_COUNT, _written(_SIZE)]}),
]
Memory: TypeAlias = Annotated[
    int | Literal["auto"],
    PlainValidator(parse_memory),
    WithJsonSchema({"anyOf": [{"const": "auto"}, _BYTE_COUNT, _written(_SIZE)]}),
]
Budget: TypeAlias = Annotated[
    int | str | None,
    PlainValidator(parse_budget),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0}, _written(_PERCENT), {"type": "null"}]}
    ),
]
BoundaryRule: TypeAlias = Annotated[
    Boundary,
    PlainValidator(parse_boundary),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(MODES)},
                {**_FILL, "required": ["constant"], "additionalProperties": False},
            ]
        }
    ),
]
PreviewRange: TypeAlias = Annotated[
    Ranges,
    PlainValidator(parse_ranges),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "auto"},
                _PAIR,
                {"type": "object", "additionalProperties": _PAIR},
            ]
        }
    ),
]

"""The language described to editors (JSON schema) and to people (`filterbank list`)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

from pipeline.bank.expr import MIN_SUPPORT
from pipeline.config.inputs import Masks, Quality
from pipeline.config.learning import Learn
from pipeline.config.load import ALWAYS
from pipeline.config.outputs import GeoTiffs, Niftis
from pipeline.config.quantities import BoundaryRule
from pipeline.config.regions import MAPPINGS, WORDS
from pipeline.config.schema import VERSION, Common, Input, Limits, Output, Png, Run
from pipeline.config.sweep import needs_name, swept_fields
from pipeline.config.words import adapter
from pipeline.filters.base import FILTERS
from pipeline.readers.base import READERS
from pipeline.statistics import COLUMNS, GROUPS
from pipeline.steps.base import STEPS

Kind: TypeAlias = Literal["filters", "statistics", "steps", "readers", "sections"]
Json: TypeAlias = dict[str, Any]

_SECTIONS: Mapping[str, type[Any]] = {
    "input": Input,
    "input.mask": Masks,
    "input.qa": Quality,
    "output": Output,
    "output.png": Png,
    "output.geotiff": GeoTiffs,
    "output.nifti": Niftis,
    "limits": Limits,
    "run": Run,
    "learn": Learn,
    "filters": Common,
    **{f"regions: {word}": cls for word, cls in MAPPINGS.items()},
}
_DERIVE = "bands made of others after prepare, as {ndvi: '(nir - red) / (nir + red)'}"
_MIN_SUPPORT = "share of a kernel's weight on valid pixels below which a response is invalid"
_STRICT = "keep to engines whose bits do not depend on how images are cut into tiles"
_BOUNDARY = "what lies beyond the edge; auto: reflect, of georeferenced images nodata"
_REGIONS = "where responses are measured; default: mask where input.mask is given, else image"
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
_TYPES = {
    "number": "number",
    "integer": "whole number",
    "string": "text",
    "boolean": "true | false",
    "null": "null",
    "object": "mapping",
}


def schema() -> Json:
    """The JSON schema of the whole language; editors complete and check with it."""
    sections = {"input": Input, "output": Output, "limits": Limits, "run": Run, "learn": Learn}
    families = {name: _family(cls) for name, cls in FILTERS.items()}
    steps = {name: _or_value(_plugin(cls)) for name, cls in STEPS.items()}
    bank = {"type": "string", "description": "a file with version and filters only"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "filterbank config",
        "type": "object",
        "additionalProperties": False,
        "required": ["version", "input", "filters", "output"],
        "properties": {
            "version": {"const": VERSION},
            **{key: _inlined(adapter(cls).json_schema()) for key, cls in sections.items()},
            "prepare": _choices(steps, {}),
            "derive": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "default": {},
                "description": _DERIVE,
            },
            "boundary": {
                "anyOf": [{"const": "auto"}, *adapter(BoundaryRule).json_schema()["anyOf"]],
                "default": "auto",
                "description": _BOUNDARY,
            },
            "min_support": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 1,
                "default": MIN_SUPPORT,
                "description": _MIN_SUPPORT,
            },
            "strict": {"type": "boolean", "default": False, "description": _STRICT},
            "filters": {**_choices(families, {"bank": bank}), "minItems": 1},
            "regions": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "anyOf": [
                        {"enum": list(WORDS)},
                        *(_inlined(adapter(cls).json_schema()) for cls in MAPPINGS.values()),
                    ]
                },
                "description": _REGIONS,
            },
            "statistics": {
                "type": "array",
                "items": {"enum": [*GROUPS, *ALWAYS, *COLUMNS]},
                "default": ["all"],
            },
        },
    }


def describe(kind: Kind) -> list[dict[str, str]]:
    """Rows of text for `filterbank list` and the reference; all rows have the same keys.

    A filter, step or section has one row that describes it, with no parameter, then one per
    parameter. The section `filters` holds what every filter takes.
    """
    if kind == "statistics":
        return [_column(name) for name in COLUMNS]
    if kind == "readers":
        return [
            {"reader": name, "suffixes": " ".join(cls.suffixes), "description": summary(cls)}
            for name, cls in READERS.items()
        ]
    kinds: dict[str, Mapping[str, type[Any]]] = {
        "filters": FILTERS,
        "steps": STEPS,
        "sections": _SECTIONS,
    }
    rows = (row for name, cls in kinds[kind].items() for row in _parameters(name, cls))
    return [{kind.removesuffix("s"): name, **row} for name, row in rows]


def summary(cls: type) -> str:
    """The first sentence of a plug-in's docstring."""
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ")


def _column(name: str) -> dict[str, str]:
    column = COLUMNS[name]
    groups = " ".join(group for group, names in GROUPS.items() if name in names)
    return {
        "statistic": name,
        "unit": column.unit,
        "formula": column.formula,
        "ibsi": column.ibsi,
        "groups": groups,
    }


def _parameters(name: str, cls: type) -> Iterator[tuple[str, dict[str, str]]]:
    yield name, {"parameter": "", "type": "", "default": "", "description": summary(cls)}
    described = adapter(cls).json_schema()
    for parameter, field in described.get("properties", {}).items():
        optional = json.dumps(field["default"]) if "default" in field else ""
        required = parameter in described.get("required", ())
        yield (
            name,
            {
                "parameter": parameter,
                "type": _type(field),
                "default": "required" if required else optional.strip('"'),
                "description": field.get("description", ""),
            },
        )


def _type(field: Json) -> str:
    """A JSON schema's type in words.

    >>> _type({"type": "integer", "minimum": 1}), _type({"enum": ["y", "x"]})
    ('whole number >= 1', 'y | x')
    """
    if "anyOf" in field:
        return " | ".join(_type(one) for one in field["anyOf"])
    if "$ref" in field:
        return "mapping"
    if "enum" in field or "const" in field:
        return " | ".join(str(word) for word in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        items = field.get("items") or next(iter(field.get("prefixItems", [])), None)
        return f"list of {_type(items)}" if items else "list"
    bounds = [f" {sign} {field[key]:.15g}" for key, sign in _BOUNDS.items() if key in field]
    return _TYPES.get(field.get("type", ""), "value") + ",".join(bounds)


def _family(cls: type[Any]) -> Json:
    """A filter's parameters, one or a list of each that sweeps, and what every filter takes."""
    described = _plugin(cls)
    swept = swept_fields(cls)
    properties = {
        name: _one_or_more(field) if name in swept else field
        for name, field in described["properties"].items()
    }
    common = _inlined(adapter(Common).json_schema())["properties"]
    required = [*described.get("required", ()), *(["name"] if needs_name(cls) else [])]
    return {**described, "properties": {**properties, **common}, "required": required}


def _plugin(cls: type[Any]) -> Json:
    described = {"properties": {}, **_inlined(adapter(cls).json_schema())}
    return {**described, "description": summary(cls), "additionalProperties": False}


def _or_value(body: Json) -> Json:
    """The same, or of one with a single parameter that one's value as it stands."""
    properties = list(body["properties"].values())
    if len(properties) != 1:
        return body
    rest = {key: value for key, value in body.items() if key != "type"}  # they bind mappings alone
    return {**rest, "anyOf": [{"type": "object"}, *properties]}


def _one_or_more(field: Json) -> Json:
    outer: Json = {key: field[key] for key in ("description", "default") if key in field}
    inner = {key: value for key, value in field.items() if key not in outer}
    return {**outer, "anyOf": [inner, {"type": "array", "items": inner, "minItems": 1}]}


def _choices(bodies: Mapping[str, Json], more: Json) -> Json:
    """A list of bare words, for those that need no parameter, and of one-key mappings."""
    words = [name for name, body in bodies.items() if not body.get("required")]
    entries = {
        name: body if body.get("required") else {"anyOf": [body, {"type": "null"}]}
        for name, body in bodies.items()
    }
    one = {
        "type": "object",
        "properties": {**entries, **more},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"type": "array", "items": {"anyOf": [{"enum": words}, one] if words else [one]}}


def _inlined(described: Json) -> Json:
    """The same schema without `$defs` and without titles, which only repeat the names."""
    definitions = described.get("$defs", {})

    def visit(part: Any, *, named: bool) -> Any:
        if isinstance(part, list):
            return [visit(item, named=False) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            target = definitions[part["$ref"].rpartition("/")[2]]
            part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
        return {
            key: visit(value, named=key in ("properties", "$defs") and not named)
            for key, value in part.items()
            if named or key not in ("title", "$defs")
        }

    inlined: Json = visit(described, named=False)
    return inlined

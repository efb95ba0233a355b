"""What of a config decides results, as plain JSON: for the digest, run.json and part footers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from pydantic.fields import FieldInfo

from pipeline.boundary import Boundary
from pipeline.config.regions import Regions
from pipeline.config.schema import Config, Input, NamedFilter
from pipeline.filters.base import Filter
from pipeline.filters.weights import Weights
from pipeline.steps.base import STEPS, Step

LARGEST = 1_000
"""Arrays of more numbers than this stand as their hash and shape."""

_WHERE = frozenset({"path", "include", "exclude", "min_age", "table", "sha256"})
"""Keys of `input` and `output` that say where, not what."""


def expanded(config: Config) -> dict[str, Any]:
    """Everything that decides results, with every default and every sweep written out.

    Without input.path, include, exclude, table, sha256 and min_age, output.path, limits and run.
    Two configs with equal answers, and equal columns of fields and tables, give equal results.
    Infinite numbers and NaN are text.
    """
    return {
        "version": config.version,
        "input": _input(config.input),
        "prepare": [{STEPS.name_of(step): parameters(step)} for step in config.prepare],
        "derive": {band.label: band.text for band in config.derive},
        "boundary": _canonical(config.boundary),
        "min_support": config.min_support,
        "strict": config.strict,
        "filters": [_filter(named) for named in config.filters],
        "regions": _regions(config.regions),
        "statistics": list(config.statistics),
        "output": _section(config.output),
    }


def parameters(plugin: Filter | Step) -> dict[str, Any]:
    """The parameters of one filter or step by the names that config files use, as plain JSON."""
    known: Mapping[str, FieldInfo] = vars(type(plugin))["__pydantic_fields__"]
    return {info.alias or name: _canonical(getattr(plugin, name)) for name, info in known.items()}


def _filter(named: NamedFilter) -> dict[str, Any]:
    around = {key: _canonical(getattr(named, key)) for key in ("bands", "boundary", "rank")}
    return {
        "name": named.name,
        "family": named.family,
        "parameters": parameters(named.filter),
        "units": "physical" if named.unit else "pixels",
        **around,
    }


def _regions(regions: Regions) -> list[Any]:
    """The regions as a config says them; zones by the content of their file."""
    found: list[Any] = [word for word in ("image", "mask") if getattr(regions, word)]
    if regions.tiles:
        found.append({"tiles": regions.tiles})
    if regions.zones:
        found.append({"zones": {"sha256": regions.zones.sha256}, "id": regions.zones.column})
    return found


def _input(config: Input) -> dict[str, Any]:
    found = _section(config)
    if config.jpeg == "libjpeg":  # younger than results that are stored
        del found["jpeg"]
    if config.mask is not None and config.mask.labels != "all":
        found["mask"]["labels"] = dict(config.mask.labels)
    return found


def _section(section: Any) -> dict[str, Any]:
    names = (field.name for field in fields(section) if field.name not in _WHERE)
    return {name: _canonical(getattr(section, name)) for name in names}


def _canonical(value: Any) -> Any:
    """Plain JSON for any value that a config holds."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Weights):
        return _array(value)
    if isinstance(value, Boundary):
        return {value.mode: value.value} if value.mode == "constant" else value.mode
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return _section(value)
    return value


def _array(weights: Weights) -> Any:
    if weights.array.size <= LARGEST:
        return weights.array.tolist()
    content = hashlib.sha256(weights.data).hexdigest()
    return {"sha256": content, "shape": list(weights.shape)}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two expanded configs, a line each, as `key: old -> new`."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value:
        for i, part in enumerate(value):
            yield from _leaves(part, f"{key}[{i}]")
    else:
        yield key, json.dumps(value)

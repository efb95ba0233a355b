"""What responses are called: readable names from parameters, and safe forms for files."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from pathlib import PurePath
from typing import Any

from pipeline.boundary import Boundary
from pipeline.filters.base import Filter

_MINUS = re.compile(r"(?<![a-z0-9])-(?=[0-9])|(?<=[0-9]e)-(?=[0-9])")
_POINT = re.compile(r"(?<=[0-9])\.(?=[0-9])")


def response_name(
    family: str,
    filter_: Filter,
    swept: Iterable[str],
    name: str | None,
    around: dict[str, Any],
    unit: str | None = None,
) -> str:
    """Name a filter by what it sweeps, then by what is off its default: `log(sigma=2,mm,rank=2)`.

    A given `name` stands for family and settings; only what it sweeps is added. `around`: rank,
    bands and boundary as set on the filter, None where not; unit: of its lengths, None for pixels.
    """
    swept = tuple(swept)
    shown = [f for f in fields(filter_) if f.name in swept]  # type: ignore[arg-type]
    extra: list[str] = []
    if name is None:
        shown += [f for f in fields(filter_) if f not in shown and _is_set(f, filter_)]  # type: ignore[arg-type]
        extra = [f"{key}={written(value)}" for key, value in around.items() if value is not None]
        extra = [unit, *extra] if unit else extra
    inner = ",".join([*(f"{f.name}={written(getattr(filter_, f.name))}" for f in shown), *extra])
    return f"{name or family}({inner})" if inner else name or family


def written(value: Any) -> str:
    """A parameter's value in a name: the shortest text that is still exact, without spaces.

    >>> [written(v) for v in (2.0, 0.1, True, (1, 3), "L5E5", None)]
    ['2', '0.1', 'true', '1+3', 'L5E5', 'none']
    """
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, list | tuple):
        return "+".join(written(item) for item in value)
    if isinstance(value, Boundary) and value.value:
        return f"{value.mode}:{written(value.value)}"
    if isinstance(value, PurePath):
        return value.name
    return re.sub(r"\s+", "_", str(value))


def response_id(name: str) -> str:
    """The safe form of a response name, `[a-z][a-z0-9_]*`: names files and wide columns.

    Not one-to-one: the plan refuses two responses with one id.

    >>> response_id("gabor(wavelength=4,orientation=-22.5)")
    'gabor_wavelength_4_orientation_m22p5'
    >>> response_id("conv1[3]"), response_id("3x3 Kante")
    ('conv1_3', 'f_3x3_kante')
    """
    plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    text = _POINT.sub("p", _MINUS.sub("m", plain))
    words = re.findall(r"[a-z0-9]+", text)
    if not words:
        return f"f_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    joined = "_".join(words)
    return joined if joined[0].isalpha() else f"f_{joined}"


def _is_set(field: Field[Any], filter_: Filter) -> bool:
    """Whether a parameter is off its default; one without a default always is."""
    value = getattr(filter_, field.name)
    if field.default is not MISSING:
        return bool(value != field.default)
    return field.default_factory is MISSING or bool(value != field.default_factory())

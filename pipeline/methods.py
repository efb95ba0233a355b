"""What was computed, in sentences for a paper: `methods.md`, from the plan and versions alone."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.boundary import Boundary
from pipeline.config.expanded import parameters
from pipeline.config.reference import summary
from pipeline.config.table import APPLIED
from pipeline.filters.base import FILTERS
from pipeline.plan import Plan
from pipeline.statistics import COLUMNS
from pipeline.steps import STEPS
from pipeline.version import versions

_EDGE = {
    "reflect": "was mirrored with the pixel at the edge repeated (numpy's symmetric)",
    "mirror": "was mirrored without repeating the pixel at the edge (numpy's reflect)",
    "nearest": "was continued by the pixel at the edge",
    "wrap": "was continued periodically",
    "constant": "was continued by the constant {value:g}",
    "nodata": "was taken as unknown",
    "valid": "was not filtered where a kernel reaches beyond its edge",
}
_CODE = re.compile(r"IBSI 2[^()]*\(([0-9A-Z]{4})\)")
"""Where a family's docstring says its identifier in the IBSI 2 reference manual."""
_NAMES = {"torch": "PyTorch", "numpy": "NumPy", "python": "Python"}


def methods(plan: Plan) -> str:
    """Markdown that tells a reader of a paper what was computed. The same plan gives the same text.

    Plain words come from the classes themselves: their first sentence and their parameters.
    """
    parts = [
        ("Software", _software(plan)),
        ("Images", _images(plan)),
        ("Preparation", _preparation(plan)),
        ("Filters", _filters(plan)),
        ("Statistics", _statistics(plan)),
    ]
    sections = ("\n".join((f"## {title}", "", *lines)) for title, lines in parts)
    return "\n\n".join(("# Methods", *sections)) + "\n"


def _software(plan: Plan) -> Iterator[str]:
    found = dict(versions())
    mine = found.pop("filterbank")
    others = ", ".join(f"{_NAMES.get(name, name)} {number}" for name, number in found.items())
    device = {"cpu": "CPU", "cuda": "CUDA device"}[plan.device]
    yield f"Everything was computed with filterbank {mine} on a {device} ({others})."
    yield f"The digest of its configuration is `{plan.digest[:16]}`."


def _images(plan: Plan) -> Iterator[str]:
    given = plan.config.input
    if isinstance(given.bands, str):
        yield {
            "all": "All bands of each image were used.",
            "luminance": "Colour images were reduced to their luminance.",
        }[given.bands]
    else:
        yield f"Of each image the bands {_listed(given.bands)} were used."
    yield from _sizes(plan)
    if given.nodata is not None:
        yield f"Pixels equal to {given.nodata:g} were taken as missing."
    if given.qa is not None:
        yield f"Pixels of the quality classes {_listed(given.qa.invalid)} were taken as missing."
    if given.mask is not None and given.mask.missing == "skip":
        yield "Images without a mask were left out."
    if given.metadata:
        yield f"With each image its DICOM header's {_listed(given.metadata)} were noted."
    if plan.config.derive:
        made = (f"{band.label} = {band.text}" for band in plan.config.derive)
        yield f"After preparation, bands were derived from others: {_listed(made)}."


def _sizes(plan: Plan) -> Iterator[str]:
    """What the config or a table told of images that their files do not say, or say otherwise."""
    given, told = plan.config.input, _told(plan)
    unit = f" {given.unit}" if given.unit else ""
    if given.spacing is not None:
        size = _plain(given.spacing)
        yield f"Where a file says no pixel size, it was taken as {size}{unit}."
    if given.unit is not None:
        yield f"Pixel sizes that a file gives without a unit were taken in {given.unit}."
    if told and given.table is not None:
        yield f"The table {given.table.name} gave images their {_listed(told)}."


def _told(plan: Plan) -> list[str]:
    """What a table may say of an image's pixels and their size."""
    table = plan.config.input.table
    return [name for name in APPLIED if table and name != "mask" and name in table.columns]


def _preparation(plan: Plan) -> Iterator[str]:
    if not plan.config.prepare:
        given = plan.config.input
        stored = not (_told(plan) or given.spacing or given.unit)
        yield (
            "Images were filtered as they are stored, in their own spacing."
            if stored
            else "Images were not prepared further before filtering."
        )
        return
    yield "Before filtering, in this order:"
    yield ""
    for number, step in enumerate(plan.config.prepare, 1):
        name = STEPS.name_of(step)
        yield f"{number}. {name}{_said(parameters(step))}. {summary(type(step))}"


def _filters(plan: Plan) -> Iterator[str]:
    boundary, least = plan.config.boundary, 100 * plan.config.min_support
    if isinstance(boundary, Boundary):
        yield f"Beyond its edge an image {_edge(boundary)}."
    else:
        scene, other = (_edge(Boundary(mode)) for mode in ("nodata", "reflect"))
        yield f"Beyond its edge a georeferenced image {scene}; any other {other}."
    yield (
        "Missing pixels were left out by normalised convolution; a response is valid where its own "
        f"pixel is and kernels have at least {least:g}% of their weight on valid pixels."
    )
    yield "Responses were computed in 32-bit floating point, statistics in 64-bit."
    for family in dict.fromkeys(response.filter.family for response in plan.responses):
        yield from _family(plan, family)


def _family(plan: Plan, family: str) -> Iterator[str]:
    yield ""
    code = _CODE.search(inspect.getdoc(FILTERS[family]) or "")
    tag = f" (IBSI {code[1]})" if code else ""
    yield f"**{family}**{tag}: {summary(FILTERS[family])}"
    yield ""
    for named in (named for named in plan.config.filters if named.family == family):
        names = [f"`{r.name}`" for r in plan.responses if r.filter is named]
        around = {
            "lengths in": named.unit,
            "rank": named.rank,
            "bands": None if named.bands is None else list(named.bands),
            "boundary": None if named.boundary is None else str(named.boundary),
        }
        given = {key: value for key, value in around.items() if value is not None}
        yield f"- {', '.join(names)}{_said({**parameters(named.filter), **given})}"


def _statistics(plan: Plan) -> Iterator[str]:
    yield f"Responses were measured in {_listed(_regions(plan))}."
    yield "Missing pixels and those outside are left out; variances are those of a population."
    yield ""
    for name in plan.config.statistics:
        column = COLUMNS[name]
        code = f" (IBSI {column.ibsi})" if column.ibsi else ""
        yield f"- {name}{code}: {column.formula}"


def _regions(plan: Plan) -> Iterator[str]:
    regions, mask = plan.config.regions, plan.config.input.mask
    if regions.image:
        yield "the whole image"
    if regions.mask:
        named = "" if mask is None or mask.labels == "all" else _listed(n for _, n in mask.labels)
        where = f"the regions {named} of its masks" if named else "each label of its masks"
        alone = mask is not None and mask.missing == "image" and not regions.image
        yield f"{where} (all of an image without a mask)" if alone else where
    if regions.tiles:
        yield f"squares of {regions.tiles} pixels from the first pixel on"
    if regions.zones:
        yield (
            f"{len(regions.zones.zones)} zones by the pixels whose centres lie inside (file of "
            f"SHA-256 {regions.zones.sha256[:16]})"
        )


def _edge(boundary: Boundary) -> str:
    return _EDGE[boundary.mode].format(value=boundary.value)


def _said(given: Mapping[str, Any]) -> str:
    """Parameters in brackets: long ones, weights, by their hash and shape."""
    return f" ({'; '.join(f'{key}: {_plain(value)}' for key, value in given.items())})" * bool(
        given
    )


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _listed(items: Iterable[object]) -> str:
    """A list as prose.

    >>> _listed(["a", "b", 3])
    'a, b and 3'
    """
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last

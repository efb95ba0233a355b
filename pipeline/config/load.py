"""The whole road from a config file to a Config."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.bank.expr import MIN_SUPPORT
from pipeline.boundary import Boundary
from pipeline.config.consistent import checked_input
from pipeline.config.document import Document
from pipeline.config.filterlist import named_filters, one_entry, refuse_valid
from pipeline.config.formulas import derived_bands
from pipeline.config.learning import Learn
from pipeline.config.nodes import Entry, Node, gather, problem, shown
from pipeline.config.parse import scalar
from pipeline.config.quantities import parse_boundary
from pipeline.config.regions import Regions, regions_of
from pipeline.config.schema import Config, Input, Limits, Output, Run
from pipeline.config.words import build, known_words
from pipeline.errors import ConfigError
from pipeline.registry import nearest
from pipeline.statistics import COLUMNS, GROUPS, expand
from pipeline.steps.base import STEPS, Step
from pipeline.steps.zscore import Zscore
from pipeline.units import DEFAULT

ALWAYS = ("n_pixels", "n_valid", "support")
"""Columns that every row has; they may be listed."""

KEYS = tuple(field.name for field in fields(Config))
_FLAGS = {"input.path": "--input", "output.path": "--output", "learn.file": "--output"}


_UNREAD = {"filters": ["identity"], "statistics": ["mean"], "output": {"path": "."}}
"""What stands for the sections that learning does not read."""


def load(
    path: Path, overrides: Mapping[str, Any] | None = None, *, learning: bool = False
) -> Config:
    """Read, check and expand a config file.

    Parameters
    ----------
    path
        The file. Weights and banks it names are relative to its folder.
    overrides
        Values from the command line by dotted key, `{"run.device": "cuda"}`. None means the flag
        was not given. Text is read as in the file (`"4"` is a number), except for paths.
    learning
        Read what `filterbank learn` needs: `learn` must be there, while filters, which may name the
        file that is still to be learned, statistics and output are left unread.

    Raises
    ------
    ConfigError
        With every problem found, as `path:line:column: key: what is wrong (got X); what to do`,
        in the order of the file, flags first.
    """
    try:
        document = Document.open(path)
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        root = _overridden(document.root, given)
        if learning:
            root = _with(root, _UNREAD)
        return _config(Document(root, document.problems), path.parent, learning=learning)
    except ConfigError as error:
        raise ConfigError(tuple(sorted(error.problems, key=partial(_order, str(path))))) from None


def _config(document: Document, folder: Path, *, learning: bool) -> Config:
    section, required = document.section, document.required
    sections: dict[str, Callable[[], Any]] = {
        "input": lambda: _input(required("input", "input: {path: data}")),
        "prepare": lambda: _steps(_optional(document, "prepare", [])),
        "derive": lambda: derived_bands(_optional(document, "derive", {})),
        "boundary": lambda: _boundary(_optional(document, "boundary", "auto")),
        "min_support": lambda: _min_support(_optional(document, "min_support", MIN_SUPPORT)),
        "strict": lambda: _strict(_optional(document, "strict", False)),
        "filters": lambda: named_filters(
            required("filters", "filters: [sobel]"), folder, _unit(document)
        ),
        "regions": lambda: _regions(document, folder),
        "statistics": lambda: _statistics(_optional(document, "statistics", ["all"])),
        "output": lambda: build(Output, required("output", "output: {path: out}"), "output"),
        "limits": lambda: build(Limits, section("limits"), "limits"),
        "run": lambda: build(Run, section("run"), "run"),
        "learn": lambda: _learn(document, folder, required=learning),
    }
    calls: list[Callable[[], Any]] = [*document.checks(KEYS), *sections.values()]
    results = gather(calls)
    config = Config(version=1, **dict(zip(sections, results[-len(sections) :], strict=True)))
    refuse_valid(config.filters, config.boundary)
    if not config.regions.mask:
        _refuse_masked(config.prepare, _optional(document, "prepare", []))
    return config


def _input(node: Node) -> Input:
    return checked_input(build(Input, node, "input"), node)


def _overridden(root: Node, given: Mapping[str, Any]) -> Node:
    """Put the command line's values in the place of the file's."""
    for key, value in given.items():
        section, name = key.split(".")
        flag = _FLAGS.get(key, f"--{name.replace('_', '-')}")
        if isinstance(value, str) and key not in _FLAGS:
            value = scalar(value)
        old = root.entries.get(section, Entry(root.place, Node(root.place, {})))
        if isinstance(old.node.value, dict) or old.node.value is None:
            new = old.node.with_entries({name: Entry(flag, Node.of(flag, value))})
            root = root.with_entries({section: Entry(old.place, new)})
    return root


def _unit(document: Document) -> str:
    """The unit of physical lengths; what is wrong with it is said of `input`."""
    entry = document.section("input").entries.get("unit")
    given = entry.node.value if entry else None
    return given if given and isinstance(given, str) else DEFAULT


def _with(root: Node, sections: Mapping[str, Any]) -> Node:
    """The same file with other sections."""
    return root.with_entries(
        {key: Entry(root.place, Node.of(root.place, value)) for key, value in sections.items()}
    )


def _learn(document: Document, folder: Path, *, required: bool) -> Learn | None:
    if not required and "learn" not in document.root.entries:
        return None
    node = document.required("learn", "learn: {patches: pca, size: 9, file: bank.safetensors}")
    found = build(Learn, node, "learn")
    return replace(found, file=str(folder / found.file))


def _regions(document: Document, folder: Path) -> Regions:
    entry = document.root.entries.get("regions")
    mask = document.section("input").entries.get("mask")
    masked = mask is not None and mask.node.value is not None
    return regions_of(entry.node if entry else None, folder, masked=masked)


def _optional(document: Document, key: str, default: Any) -> Node:
    entry = document.root.entries.get(key)
    return entry.node if entry else Node.of(document.root.place, default)


def _strict(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise problem(node.place, "strict", "must be true or false; write strict: true")
    return node.value


def _min_support(node: Node) -> float:
    value = node.plain
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        text = f"must be above 0 and at most 1 (got {shown(value)}); write min_support: 0.75"
        raise problem(node.place, "min_support", text)
    return float(value)


def _boundary(node: Node) -> Boundary | Literal["auto"]:
    try:
        return "auto" if node.plain == "auto" else parse_boundary(node.plain)
    except ValueError as error:
        what, _, advice = str(error).partition("; ")
        got = "" if "(got " in what else f" (got {shown(node.plain)})"
        text = f"{what}{got}; {advice}"
        raise problem(node.place, "boundary", text) from error


def _steps(node: Node) -> tuple[Step, ...]:
    if not isinstance(node.value, tuple):
        text = f"must be a list of steps (got {shown(node.plain)}); write [] for none"
        raise problem(node.place, "prepare", text)
    return tuple(gather(partial(_step, item, f"prepare[{i}]") for i, item in enumerate(node.items)))


def _refuse_masked(steps: tuple[Step, ...], node: Node) -> None:
    """Refuse steps that need masks, which are read where `regions` has them."""
    for i, (step, item) in enumerate(zip(steps, node.items, strict=True)):
        if isinstance(step, Zscore) and step.within == "mask":
            text = "needs the region mask, without which no mask is read; write regions: [mask], "
            text += "with an input.mask, or within: image"
            raise problem(item.place, f"prepare[{i}].zscore.within", text)


def _step(node: Node, key: str) -> Step:
    name, entry = one_entry(node, key, "step", "rescale: {from: dtype}")
    if name not in STEPS:
        raise problem(entry.place, key, f"unknown step {name!r}{nearest(name, STEPS)}")
    return build(STEPS[name], _parameters(STEPS[name], entry.node), f"{key}.{name}")


def _parameters(cls: type[Step], node: Node) -> Node:
    """The mapping that is meant where a step of one parameter is given that one's value."""
    words = known_words(cls)
    if isinstance(node.value, dict) or len(words) != 1:
        return node
    return Node(node.place, {words[0]: Entry(node.place, node)})


def _statistics(node: Node) -> tuple[str, ...]:
    if not isinstance(node.value, tuple):
        text = f"must be a list of statistics (got {shown(node.plain)}); write [mean, std]"
        raise problem(node.place, "statistics", text)
    names = gather(partial(_statistic, n, f"statistics[{i}]") for i, n in enumerate(node.items))
    return expand(name for name in names if name not in ALWAYS)


def _statistic(node: Node, key: str) -> str:
    known = [*ALWAYS, *COLUMNS, *GROUPS]
    if not isinstance(node.value, str) or node.value not in known:
        text = f"unknown statistic {shown(node.plain)}{nearest(str(node.plain), known)}"
        raise problem(node.place, key, text)
    return node.value


def _order(main: str, text: str) -> tuple[bool, str, int, int]:
    """Sort flags first, then the config file by line, then bank files."""
    match = re.match(r"(.*?):(\d+):(\d+): ", text)
    if match is None:
        return not text.startswith("--"), "", 0, 0
    return match[1] != main, match[1], int(match[2]), int(match[3])

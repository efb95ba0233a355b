"""Write what the code knows about itself: docs/reference and docs/images, the list of families
in docs/filters.md, configs/catalogue.yaml and configs/schema.json.

`make docs` runs this. A test compares the pages with what `pages` returns.
"""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import get_args

import click
import yaml

from pipeline.bank.expr import Conv, Spectral, nodes_of
from pipeline.cli import EXIT_CODES, cli
from pipeline.config import describe, load, schema
from pipeline.filters.base import FILTERS, Topic
from pipeline.plan import Plan
from pipeline.readers.base import READERS
from pipeline.stages.render import draw_kernels
from pipeline.statistics import STATISTICS
from pipeline.steps.base import STEPS

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- Made by docs/generate.py from the code: run `make docs` instead of editing. -->"
CATALOGUE = ROOT / "configs" / "catalogue.yaml"
PICTURED = "data/samples/photos/leaf_alpha.png"
WIDTH = 96


def pages() -> dict[str, str]:
    """Every generated text by its path below the root."""
    written = {
        "cli": _cli(),
        "config": _config(),
        "filters": _filters(),
        "steps": _plugins("Prepare steps", "step", STEPS, {}),
        "statistics": _statistics(),
        "readers": _readers(),
    }
    markdown = {f"docs/reference/{name}.md": f"{MADE}\n{text}" for name, text in written.items()}
    return {
        **markdown,
        "docs/filters.md": _families(),
        CATALOGUE.relative_to(ROOT).as_posix(): _catalogue(),
        "configs/schema.json": json.dumps(schema(), indent=1) + "\n",
    }


# ---------------------------------------------------------------- pages
def _cli() -> str:
    parts = [_CLI_HEAD, _help(cli, "filterbank")]
    for name, command in sorted(cli.commands.items()):
        parts += [f"\n## filterbank {name}\n\n", _help(command, f"filterbank {name}")]
    codes = ([str(code), text] for code, text in EXIT_CODES.items())
    parts += ["\n## Exit codes\n\n", _table(("code", "meaning"), codes)]
    return "".join(parts)


_CLI_HEAD = """\
# Command line

Every option is also a variable: `FILTERBANK_RUN_OUTPUT=out/a` stands for
`run --output out/a`; several `--input` are separated by `:`.

"""


def _help(command: click.Command, name: str) -> str:
    """A command's --help, without the exit codes, which the page has once."""
    context = click.Context(command, info_name=name, terminal_width=WIDTH)
    text = command.get_help(context).partition("\n  Exit codes:")[0].rstrip()
    return f"```text\n{text}\n```\n"


def _config() -> str:
    parts = [
        "# Config keys\n\nTop level: ",
        ", ".join(f"`{key}`" for key in schema()["properties"]),
        ". What they mean together is in [the config language](../config.md); parameters of ",
        "filters are in [filters](filters.md), of prepare steps in [steps](steps.md).\n",
    ]
    for name, rows in _grouped(describe("sections"), "section").items():
        title = "every filter" if name == "filters" else f"`{name}`"
        parts += [f"\n## {title}\n\n{rows[0]['description']}\n\n", _parameters(rows[1:])]
    return "".join(parts)


def _filters() -> str:
    drawn = _with_kernels()
    shown = {
        name: f"\n```yaml\n{_entries(name)}```\n"
        + (f"\n![kernels of {name}](../images/filters/{name}.png)\n" if name in drawn else "")
        for name in FILTERS
    }
    return _plugins("Filters", "filter", FILTERS, shown)


def _topics() -> Iterator[tuple[str, list[str]]]:
    """What families are for, each with their names."""
    for topic in get_args(Topic):
        yield topic, [name for name, cls in sorted(FILTERS.items()) if cls.topic == topic]


def _families() -> str:
    """docs/filters.md with its table written anew."""
    rows = (
        [topic, ", ".join(f"[`{name}`](reference/filters.md#{name})" for name in names)]
        for topic, names in _topics()
    )
    page = (ROOT / "docs" / "filters.md").read_text()
    table = f"{MADE}\n\n{_table(('for', 'families'), rows)}\n"
    return re.sub(f"{re.escape(MADE)}.*?\\|\n\n", lambda _: table, page, flags=re.DOTALL)


def _catalogue() -> str:
    parts = [_CATALOGUE_HEAD]
    for topic, names in _topics():
        entries = "".join(_entries(name) for name in names)
        parts += [f"\n  # {topic}\n", re.sub("^", "  ", entries.rstrip(), flags=re.MULTILINE), "\n"]
    return "".join((*parts, _CATALOGUE_TAIL))


_CATALOGUE_HEAD = """\
# yaml-language-server: $schema=schema.json
# Made by docs/generate.py from the examples of each family: run `make docs` instead of editing.
# Every filter family: what there is, and how it is written. docs/reference/filters.md has the
# formulas, and pictures of these kernels.
#
#   make run CONFIG=catalogue.yaml        results in out/catalogue

version: 1
input: {path: data/samples/edges/shapes.png}
boundary: reflect
filters:"""
_CATALOGUE_TAIL = """\
statistics: [mean, std, min, max, p50, energy]
output: {path: out/catalogue, maps: none, png: true}
"""


def _entries(name: str) -> str:
    """A family's examples as they stand in the list of filters."""
    return "".join(f"- {_entry(name, example)}" for example in FILTERS[name].examples)


def _entry(name: str, example: Mapping[str, object]) -> str:
    if not example:
        return f"{name}\n"
    line = yaml.safe_dump(dict(example), default_flow_style=True, sort_keys=False, width=WIDTH - 20)
    return f"{name}: {line}".replace("\n", "\n    ").rstrip(" ")


def _plugins(
    title: str,
    kind: str,
    registry: Mapping[str, type],
    pictures: Mapping[str, str],
) -> str:
    rows = _grouped(describe("filters" if kind == "filter" else "steps"), kind)
    parts = [f"# {title}\n"]
    for name in sorted(registry):
        prose, example = _docstring(registry[name])
        parts += [f"\n## {name}\n\n{prose}\n", pictures.get(name, "")]
        if rows[name][1:]:
            parts += ["\n", _parameters(rows[name][1:])]
        if example:
            parts += [f"\n```pycon\n{example}\n```\n"]
    return "".join(parts)


def _statistics() -> str:
    rows = describe("statistics")
    table = _table(tuple(rows[0]), (list(row.values()) for row in rows))
    notes = (f"\n## {name}\n\n{_docstring(cls)[0]}\n" for name, cls in STATISTICS.items())
    head = (
        "# Statistics\n\nx are the valid values of a response in a region, n their number. Unit "
        "`response` is the\nresponse's own. `n_pixels`, `n_valid` and `support` (the mean share of "
        "kernel weight on valid\npixels) stand in every row.\n\n"
    )
    return head + table + "".join(notes)


def _readers() -> str:
    parts = ["# Readers\n\nA file belongs to the reader that its first bytes or its suffix name.\n"]
    for name, cls in sorted(READERS.items()):
        suffixes = " ".join(f"`{suffix}`" for suffix in cls.suffixes)
        parts += [f"\n## {name}\n\n{suffixes}\n\n{_docstring(cls)[0]}\n"]
    return "".join(parts)


# ---------------------------------------------------------------- pieces
def _docstring(cls: type) -> tuple[str, str]:
    """The prose and the example of a numpydoc docstring."""
    text = inspect.getdoc(cls) or ""
    prose, *sections = re.split(r"\n\n(?=(?:Examples|References)\n-)", text)
    found = {part.split("\n", 1)[0]: part.split("\n", 2)[2] for part in sections}
    plain = "`".join(  # a star outside of code is no emphasis
        part if code else part.replace("*", r"\*")
        for code, part in zip(cycle((False, True)), prose.split("`"), strict=False)
    )
    sources = f"\n\nReference: {found['References']}" if "References" in found else ""
    return plain + sources, found.get("Examples", "")


def _grouped(rows: Iterable[Mapping[str, str]], key: str) -> dict[str, list[Mapping[str, str]]]:
    groups: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _parameters(rows: Iterable[Mapping[str, str]]) -> str:
    names = ("parameter", "type", "default", "description")
    cells = ([f"`{r['parameter']}`", r["type"], r["default"], r["description"]] for r in rows)
    return _table(names, cells)


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def lines() -> Iterator[list[str]]:
        heads = list(names)
        yield heads
        yield ["---"] * len(heads)
        for row in rows:
            yield [cell.replace("|", r"\|") for cell in row]

    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines())


# ---------------------------------------------------------------- pictures
def pictures() -> dict[str, bytes]:
    """The README's config at work on one sample: its sheet, and its kernels."""
    with tempfile.TemporaryDirectory() as folder:
        config, out, kernels = (Path(folder) / name for name in ("my.yaml", "out", "kernels.png"))
        config.write_text(readme_config())
        for words in (
            ["run", config, "--input", PICTURED, "--output", out, "--workers", "0"],
            ["show", config, "--out", kernels],
        ):
            subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=ROOT, check=True)
        return {
            "docs/images/sheet.png": (out / "png" / Path(PICTURED).name / "sheet.png").read_bytes(),
            "docs/images/kernels.png": kernels.read_bytes(),
        }


def kernel_pictures() -> dict[str, bytes]:
    """What the filters in each family's examples weigh neighbours by."""
    return {
        f"docs/images/filters/{name}.png": draw_kernels(plan, name)
        for name, plan in _with_kernels().items()
    }


@cache
def _with_kernels() -> Mapping[str, Plan]:
    """A plan of the examples of each family that has kernels to draw."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / CATALOGUE.name
        written.write_text(_catalogue())
        config = load(written)
    families = dict.fromkeys(named.family for named in config.filters)
    plans = {
        family: Plan(
            replace(config, filters=tuple(n for n in config.filters if n.family == family)), "cpu"
        )
        for family in sorted(families)
    }
    return {
        family: plan
        for family, plan in plans.items()
        if any(
            isinstance(n, Conv | Spectral)
            for r in plan.responses
            for n in nodes_of(plan.example(r))
        )
    }


def readme_config() -> str:
    """The first config in the README."""
    text = (ROOT / "README.md").read_text()
    return re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]


def main() -> None:
    """Write everything that differs, and name it."""
    texts = {name: text.encode() for name, text in pages().items()}
    wanted = texts | pictures() | kernel_pictures()
    for name, data in wanted.items():
        path = ROOT / name
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()

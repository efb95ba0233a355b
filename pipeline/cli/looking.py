"""Commands that look: before a run at configs and plans, after it at what it left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pipeline.cli.exits import EPILOG
from pipeline.cli.flags import settings, where
from pipeline.cli.group import cli
from pipeline.cli.progress import complain, counted, shown, warn
from pipeline.errors import WriteError
from pipeline.storage import Place, is_url, place


@cli.command(epilog=EPILOG)
@where
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def plan(as_json: bool, **flags: Any) -> None:
    """Say what `run` would do, from headers only: images, shards, memory, halo, bytes."""
    from pipeline.describe import describe_survey
    from pipeline.discover import check_roots
    from pipeline.diskspace import refuse_small_disk
    from pipeline.survey import survey
    from pipeline.verify import beyond_repair, lost

    config, options = settings(flags)
    check_roots(config.input)
    seen = survey(config, options)
    found = describe_survey(seen)
    found["warnings"] = [*lost(seen), *beyond_repair(seen), *found["warnings"]]
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _show_plan(found)
    refuse_small_disk(seen.plan, seen.sources)


_COLUMNS = {
    "response": "filter",
    "boundary": "boundary",
    "reach": "reach",
    "engine": "engine",
    "rank": "rank",
    "ns/pixel": "ns_per_pixel",
}
"""What the table of responses shows, by heading."""


def _show_plan(found: dict[str, Any]) -> None:
    rows = found["responses"]
    for key, value in found.items():
        if key not in ("responses", "failures", "warnings"):
            click.echo(shown(f"{key.replace('_', ' '):>16}  {_written(key, value)}"))
    click.echo()
    _table([list(_COLUMNS), *([_cell(row[c]) for c in _COLUMNS.values()] for row in rows)])
    for row in found["failures"][:20]:
        click.echo(shown(f"will fail: {row['image']}: {row['kind']}: {row['error']}"))
    warn(found["warnings"])


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


def _written(key: str, value: Any) -> str:
    """A value of a plan for people: sizes in MiB, lists and counts in words."""
    if key.endswith("_bytes"):
        return f"{value / 2**20:.1f} MiB"
    if isinstance(value, list):
        return " x ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{count} {reason}" for reason, count in value.items()) or "none"
    return str(value)


def _table(rows: list[list[str]]) -> None:
    """Print rows as aligned columns; the last one is as long as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        click.echo(shown("  ".join(cells).rstrip()))


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Check a config file and name its responses."""
    from pipeline.config import load
    from pipeline.plan import Plan

    responses = Plan(load(config), "cpu").responses
    for response in responses:
        click.echo(shown(response.name))
    complain(f"{config}: {counted(len(responses), 'response')}, no problem")


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("kernels.png"),
    show_default=True,
    help="The PNG to write.",
)
def show(config: Path, out: Path) -> None:
    """Draw the kernels of a bank into a PNG."""
    from pipeline.commit import replace_file
    from pipeline.config import load
    from pipeline.plan import Plan
    from pipeline.stages.render import draw_kernels

    try:
        replace_file(out.absolute(), draw_kernels(Plan(load(config), "cpu"), config.name))
    except OSError as error:
        message = f"cannot write {out}: {error.strerror}"
        raise WriteError(message) from error
    click.echo(shown(out))


@cli.command("list")
@click.argument("kind", type=click.Choice(["filters", "statistics", "steps", "readers"]))
@click.argument("name", required=False)
def list_(kind: str, name: str | None) -> None:
    """List families, statistics, steps or readers, with parameters, defaults and units.

    NAME: this one only.
    """
    from pipeline.config import describe
    from pipeline.registry import nearest

    heading, *rows = _sorted(describe(kind))  # type: ignore[arg-type]
    chosen = [row for row in rows if name in (None, row[0])]
    if not chosen:
        message = f"unknown {heading[0]} {name!r}{nearest(str(name), {row[0] for row in rows})}"
        raise click.UsageError(message)
    _table([heading, *chosen])


def _sorted(rows: list[dict[str, str]]) -> list[list[str]]:
    """A heading and rows by their first cell; the rows of one name keep their order."""
    cells = sorted(([*row.values()] for row in rows), key=lambda row: row[0])
    return [list(rows[0]), *cells]


@cli.command()
def schema() -> None:
    """Print the JSON schema of the config language, for editors."""
    from pipeline.config import schema as describe

    click.echo(json.dumps(describe(), indent=1))


# ---------------------------------------------------------------- after a run
_FAILURES = 100
"""So many failed images `status` names; a screen holds no more."""


class _Place(click.Path):
    """A folder, or a URL, which stays as it is."""

    def convert(self, value: Any, *others: Any) -> Any:
        return place(value) if is_url(value) else super().convert(value, *others)


_OUT = click.argument("out", type=_Place(path_type=Path, file_okay=False))


@cli.command()
@_OUT
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def status(out: Place, as_json: bool) -> None:
    """Say what an output folder holds and how its last run went."""
    from pipeline.describe import describe_status

    found = describe_status(out)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for key, value in found.items():
        if not isinstance(value, list):
            click.echo(shown(f"{key.replace('_', ' '):>16}  {_cell(value)}"))
    for row in found["failures"][:_FAILURES]:
        click.echo(shown(f"  {row['image']}: {row['kind']}: {row['error']}"))
    if len(found["failures"]) > _FAILURES:
        click.echo(f"  and {len(found['failures']) - _FAILURES} more; --json names all")
    warn(found["warnings"])


@cli.command()
@_OUT
def verify(out: Place) -> None:
    """Re-read every committed file and name what is damaged; exits 9 if anything is."""
    from pipeline.output import open_output
    from pipeline.verify import verify as check_output

    open_output(out)
    found = check_output(out)
    for line in found:
        click.echo(shown(line))
    click.echo(counted(len(found), "problem") if found else "every file is as it was committed")
    if found:
        raise click.exceptions.Exit(9)


@cli.command()
@_OUT
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(out: Place, file: Path) -> None:
    """Write the wide table: a row per image, a column per response, band and statistic."""
    from pipeline.output import open_output

    click.echo(shown(f"{counted(open_output(out).export(file), 'row')} in {file}"))


@cli.command()
def doctor() -> None:
    """Say what this machine offers, and what is missing."""
    from pipeline.describe import examine_machine

    for key, value in examine_machine().items():
        click.echo(f"{key:>16}  {value}")

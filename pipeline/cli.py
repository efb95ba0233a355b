"""The command line: the only place that prints, shows progress and knows exit codes."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from pipeline import __version__
from pipeline.errors import (
    ConfigError,
    DeviceError,
    FilterbankError,
    InputError,
    Locked,
    MissingDependency,
    PlanError,
    TooManyFailed,
    WriteError,
)

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.journal import Journal
    from pipeline.survey import Options, Survey

EXIT_CODES = {
    0: "all done, or nothing to do",
    1: "internal error; the traceback is in log.jsonl",
    2: "usage or config invalid",
    3: "plan refused: another plan's results, memory or disk too small, prune guard",
    4: "no input matched, or a root is missing",
    5: "finished, and listed files have failed rows (see --fail-on)",
    6: "error budget run.max_failed used up, stopped",
    7: "output could not be written; what was committed stays",
    8: "an optional dependency that the config names is missing",
    9: "verify found damage",
    10: "device unavailable or lost",
    75: "another run holds the output folder",
    130: "stopped by SIGINT; finished shards are kept",
    143: "stopped by SIGTERM; finished shards are kept",
}
_CODES: tuple[tuple[type[FilterbankError], int], ...] = (
    (ConfigError, 2),
    (PlanError, 3),
    (InputError, 4),
    (TooManyFailed, 6),
    (WriteError, 7),
    (MissingDependency, 8),
    (DeviceError, 10),
    (Locked, 75),
)
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {n:>3}  {text}" for n, text in EXIT_CODES.items())


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main() -> None:
    """Entry point of the `filterbank` command."""
    for number in (signal.SIGINT, signal.SIGTERM):  # before torch is imported: it takes seconds
        signal.signal(number, _stop)
    try:
        sys.exit(cli(auto_envvar_prefix="FILTERBANK", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except FilterbankError as error:
        _complain(error)
        sys.exit(_code(error))
    except Stopped as stop:
        click.echo("filterbank: stopped; finished shards are kept", err=True)
        code = 128 + stop.number
    except BrokenPipeError:
        code = 0
    gc.collect()  # ends the reader processes
    os._exit(code)  # at once: a normal exit waits for every thread that still computes


_stopped = 0
"""The signal that asked this process to stop."""


def _stop(number: int, _: FrameType | None) -> None:
    global _stopped
    for again in (signal.SIGINT, signal.SIGTERM):  # a second one does not wait
        signal.signal(again, lambda n, _: os._exit(128 + n))
    _stopped = number
    sys.unraisablehook = lambda _: None  # what is cut off in the middle may complain when it goes
    raise Stopped(number)


def _check_stopped() -> None:
    """Stop here where the exception of a signal was lost, as in a callback of the interpreter."""
    if _stopped:
        raise Stopped(_stopped)


def _code(error: FilterbankError) -> int:
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def _complain(error: FilterbankError) -> None:
    lines = error.problems if isinstance(error, ConfigError) else (str(error),)
    for line in lines:
        click.echo(line if isinstance(error, ConfigError) else f"filterbank: {line}", err=True)


@click.group(epilog=_EPILOG, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="filterbank")
def cli() -> None:
    """Run a bank of convolution filters over a folder of images.

    \b
    Example: filterbank run configs/photos.yaml --input my/photos --output out/photos
    """


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9a-f]{8,64}", value):
        message = f"{value!r} is not the start of a digest: at least its first 8 digits"
        raise click.BadParameter(message)
    return value


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Flags that change where and how a run happens, never what it computes."""
    for option in reversed(
        [
            click.argument("config", type=click.Path(path_type=Path)),
            click.option("--input", "input_", multiple=True, metavar="PATH", envvar=[],
                         help="Read this folder, file or glob instead of input.path; repeatable."),
            click.option("--output", metavar="DIR", help="Write here instead of output.path."),
            click.option("--device", metavar="KIND", help="auto, cpu or cuda."),
            click.option("--workers", metavar="N", help="Reader processes; 0 reads in this one."),
            click.option("--threads", metavar="N", help="Threads that compute on a CPU."),
            click.option("--batch", metavar="N", help="Images filtered together."),
            click.option("--memory", metavar="SIZE", help="Memory the run may use, as 4GiB."),
            click.option("--max-failed", metavar="N|P%", help="Stop after so many failures."),
            click.option("--limit", type=click.IntRange(1), metavar="N",
                         help="Take only the first N new files: a trial."),
            click.option("--retry-failed", is_flag=True, help="Try every failed file again."),
            click.option("--prune", is_flag=True, help="Remove rows of files that are gone."),
            click.option("--prune-limit", type=click.FloatRange(0, 100), default=10,
                         show_default=True, metavar="PERCENT",
                         help="Refuse --prune when more than this has vanished."),
            click.option("--overwrite", metavar="DIGEST", callback=_digest,
                         help="Delete the results of the plan whose digest starts so."),
            click.option("--if-empty", type=click.Choice(["fail", "skip"]), default="fail",
                         show_default=True, help="What an existing, empty input is."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def _settings(flags: dict[str, Any]) -> tuple[Config, Options]:
    from pipeline.config import load
    from pipeline.survey import Options

    given = {
        "input.path": flags["input_"] or None,
        "output.path": flags["output"],
        **{f"run.{name}": flags[name] for name in ("device", "workers", "threads", "batch")},
        "run.memory": flags["memory"],
        "run.max_failed": flags["max_failed"],
    }
    options = Options(
        retry_failed=flags["retry_failed"],
        prune=flags["prune"],
        prune_limit=flags["prune_limit"] / 100,
        if_empty=flags["if_empty"],
        overwrite=flags["overwrite"],
        limit=flags["limit"],
    )
    return load(flags["config"], given), options


# ---------------------------------------------------------------- run
@cli.command(epilog=_EPILOG)
@_where
@click.option(
    "--fail-on",
    type=click.Choice(["any", "new", "none"]),
    default="any",
    show_default=True,
    help="Which failed rows make the exit code 5.",
)
@click.option(
    "--if-locked",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What another run on the same output means.",
)
def run(fail_on: str, if_locked: str, **flags: Any) -> None:
    """Filter every image that is not done yet. CONFIG is a YAML file.

    \b
    Example: filterbank run configs/edges.yaml
    A second run does only what is new or changed; a killed one goes on where it was.
    """
    from pipeline import store
    from pipeline.discover import check_roots
    from pipeline.survey import root_of

    config, options = _settings(flags)
    check_roots(config.input)
    try:
        with store.locked(root_of(config)):
            code = _run(config, options, fail_on)
    except Locked:
        if if_locked == "fail":
            raise
        code = 0
    raise click.exceptions.Exit(code)


def _run(config: Config, options: Options, fail_on: str) -> int:
    """Survey, run and sum up, with the record of it in run.json whatever happens."""
    from pipeline import store
    from pipeline.commit import writing
    from pipeline.describe import estimate, refuse_small_disk
    from pipeline.journal import Journal
    from pipeline.survey import root_of, survey

    root = root_of(config)
    store.clean(root)
    plan = survey(config, options)
    refuse_small_disk(plan, estimate(plan))
    with writing(root):
        journal = Journal(plan)
    try:
        if not plan.nothing_to_do:
            with writing(root):
                _execute(plan, journal)
        _check_stopped()
    except Stopped as stop:
        _end(journal, 128 + stop.number, "stopped by a signal", None)
        raise
    except FilterbankError as error:
        _end(journal, _code(error), str(error), None)
        raise
    except Exception as error:
        _end(journal, 1, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    code = _verdict(plan, journal, fail_on)
    with writing(root):
        journal.end(code)
    _say(_summary(plan, journal))
    return code


def _say(text: str) -> None:
    """Print a line; a run goes on when nobody can read it any more."""
    try:
        click.echo(text)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(journal: Journal, code: int, error: str, trace: str | None) -> None:
    """Close the record, as far as the disk still lets us."""
    try:
        journal.end(code, error, trace)
    except OSError:
        click.echo("filterbank: run.json could not be written", err=True)


def _verdict(plan: Survey, journal: Journal, fail_on: str) -> int:
    new = journal.summary.newly_failed
    everything = journal.summary.failed + len(plan.failed_before)
    return 5 if {"any": everything, "new": new, "none": 0}[fail_on] else 0


def _summary(plan: Survey, journal: Journal) -> str:
    summary = journal.summary
    if plan.nothing_to_do:
        text = f"nothing to do: {plan.todo.done} images are done or known to fail"
        return f"{text} ({len(plan.failed_before)} failed); results in {plan.plan.root}"
    rate = summary.done / max(summary.seconds, 1e-9)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.kinds.items()))
    parts = [
        f"done {summary.done}",
        f"failed {summary.failed}{f' ({kinds})' if kinds else ''}",
        f"unchanged {plan.todo.done}",
    ]
    if plan.listing.waiting:
        parts.append(f"waiting {len(plan.listing.waiting)}")
    if plan.todo.vanished:
        parts.append(f"{'pruned' if plan.pruned else 'vanished'} {len(plan.todo.vanished)}")
    speed = f"{summary.seconds:.1f} s, {rate:.1f} images/s, {summary.pixels / 1e6:.1f} Mpixel"
    return f"{', '.join(parts)}; {speed}; results in {plan.plan.root}"


def _execute(plan: Survey, journal: Journal) -> None:
    from pipeline import run as driver
    from pipeline.types import ShardReport

    show = _bar if sys.stderr.isatty() else _lines
    with_progress = show(len(plan.sources), lambda: journal.summary.failed)
    tell = next(with_progress)
    try:
        for event in driver.run(plan, journal):
            _check_stopped()
            if not isinstance(event, ShardReport):
                tell(event.images, event.pixels)
    finally:
        with_progress.close()


def _bar(
    total: int, failed: Callable[[], int]
) -> Generator[Callable[[int, int], None], None, None]:
    """A tqdm bar: images/s, Mpixel/s, failed, time left."""
    from tqdm import tqdm

    began, pixels = time.monotonic(), 0
    with tqdm(total=total, unit="image", dynamic_ncols=True) as bar:

        def tell(images: int, more: int) -> None:
            nonlocal pixels
            pixels += more
            speed = pixels / 1e6 / max(time.monotonic() - began, 1e-9)
            bar.set_postfix_str(f"{speed:.1f} Mpixel/s, failed {failed()}", refresh=False)
            bar.update(images)

        yield tell


def _lines(
    total: int, failed: Callable[[], int]
) -> Generator[Callable[[int, int], None], None, None]:
    """One plain line every 30 s, for cron and CI."""
    began = said = time.monotonic()
    images = pixels = 0

    def tell(more: int, area: int) -> None:
        nonlocal said, images, pixels
        images, pixels = images + more, pixels + area
        now = time.monotonic()
        if now - said >= 30:
            said, rate = now, images / (now - began)
            left = (total - images) / rate if rate else 0
            _say(
                f"{images}/{total} images, {rate:.1f}/s, "
                f"{pixels / 1e6 / (now - began):.1f} Mpixel/s, failed {failed()}, {left:.0f} s left"
            )

    yield tell


# ---------------------------------------------------------------- before a run
@cli.command(epilog=_EPILOG)
@_where
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def plan(as_json: bool, **flags: Any) -> None:
    """Say what `run` would do, from headers only: images, shards, memory, halo, bytes."""
    from pipeline.describe import describe_survey, estimate, refuse_small_disk
    from pipeline.discover import check_roots
    from pipeline.survey import survey

    config, options = _settings(flags)
    check_roots(config.input)
    seen = survey(config, options)
    found = describe_survey(seen)
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        _show_plan(found)
    refuse_small_disk(seen, estimate(seen))


def _show_plan(found: dict[str, Any]) -> None:
    for key, value in found.items():
        if key not in ("responses", "failures"):
            click.echo(f"{key.replace('_', ' '):>16}  {_written(key, value)}")
    click.echo()
    _table([["response", "boundary", "reach"], *([*row.values()] for row in _brief(found))])
    for row in found["failures"][:20]:
        click.echo(f"will fail: {row['image']}: {row['kind']}: {row['error']}")


def _brief(found: dict[str, Any]) -> list[dict[str, str]]:
    return [{k: row[k] for k in ("filter", "boundary", "reach")} for row in found["responses"]]


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
        click.echo("  ".join(cells).rstrip())


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
def check(config: Path) -> None:
    """Check a config file and name its responses."""
    from pipeline.config import load
    from pipeline.plan import Plan

    responses = Plan(load(config), "cpu").responses
    for response in responses:
        click.echo(response.name)
    click.echo(f"{config}: {len(responses)} responses, no problem", err=True)


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
    click.echo(out)


@cli.command("list")
@click.argument("kind", type=click.Choice(["filters", "statistics", "steps", "readers"]))
def list_(kind: str) -> None:
    """List families, statistics, steps or readers, with parameters, defaults and units."""
    from pipeline.config import describe

    rows = describe(kind)  # type: ignore[arg-type]
    _table([list(rows[0]), *([*row.values()] for row in rows)])


@cli.command()
def schema() -> None:
    """Print the JSON schema of the config language, for editors."""
    from pipeline.config import schema as describe

    click.echo(json.dumps(describe(), indent=1))


# ---------------------------------------------------------------- after a run
_OUT = click.argument("out", type=click.Path(path_type=Path, file_okay=False))


@cli.command()
@_OUT
@click.option("--json", "as_json", is_flag=True, help="Print it for a program.")
def status(out: Path, as_json: bool) -> None:
    """Say what an output folder holds and how its last run went."""
    from pipeline.describe import describe_status

    found = describe_status(out)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for key, value in found.items():
        if not isinstance(value, list):
            click.echo(f"{key.replace('_', ' '):>16}  {value}")
    for row in found["failures"]:
        click.echo(f"  {row['image']}: {row['kind']}: {row['error']}")
    for warning in found["warnings"]:
        click.echo(f"warning: {warning}", err=True)


@cli.command()
@_OUT
def verify(out: Path) -> None:
    """Re-read every committed file and name what is damaged; exits 9 if anything is."""
    from pipeline import store
    from pipeline.output import open_output

    open_output(out)
    found = store.verify(out)
    for line in found:
        click.echo(line)
    click.echo(f"{len(found)} problems" if found else "every file is as it was committed")
    if found:
        raise click.exceptions.Exit(9)


@cli.command()
@_OUT
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export(out: Path, file: Path) -> None:
    """Write the wide table: a row per image, a column per response, band and statistic."""
    from pipeline.output import open_output

    click.echo(f"{open_output(out).export(file)} rows in {file}")


@cli.command()
def doctor() -> None:
    """Say what this machine offers, and what is missing."""
    from pipeline.describe import examine_machine

    for key, value in examine_machine().items():
        click.echo(f"{key:>16}  {value}")

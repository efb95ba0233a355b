"""`filterbank run`."""

from __future__ import annotations

import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import EPILOG, Stopped, check_stopped, code_of
from pipeline.cli.flags import settings, where
from pipeline.cli.group import cli
from pipeline.cli.progress import bar, counted, lines, say, warn
from pipeline.errors import FilterbankError, Locked

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.journal import Journal
    from pipeline.survey import Options, Survey


@cli.command(epilog=EPILOG)
@where
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
    from pipeline.discover import check_roots
    from pipeline.lock import locked
    from pipeline.survey import root_of

    config, options = settings(flags)
    check_roots(config.input)
    try:
        with locked(root_of(config)):
            code = _run(config, options, fail_on)
    except Locked:
        if if_locked == "fail":
            raise
        say("another run holds the output folder; skipped")
        code = 0
    raise click.exceptions.Exit(code)


def _run(config: Config, options: Options, fail_on: str) -> int:
    """Survey, run and sum up, with the record of it in run.json whatever happens."""
    from pipeline import store
    from pipeline.commit import writing
    from pipeline.describe import estimate, refuse_small_disk, warnings_of
    from pipeline.journal import Journal, log
    from pipeline.survey import root_of, survey

    began = time.monotonic()
    root = root_of(config)
    store.clean(root)
    try:
        plan = survey(config, options)
        refuse_small_disk(plan, estimate(plan))
        warn(warnings_of(plan))
    except FilterbankError:
        raise
    except Exception as error:
        log(root, "end", exit_code=1, error=repr(error), traceback=traceback.format_exc())
        raise
    with writing(root):
        journal = Journal(plan)
    try:
        if not plan.nothing_to_do:
            with writing(root):
                _execute(plan, journal)
        check_stopped()
    except Stopped as stop:
        _end(journal, 128 + stop.number, "stopped by a signal", None)
        raise
    except FilterbankError as error:
        _end(journal, code_of(error), str(error), None)
        raise
    except Exception as error:
        _end(journal, 1, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    code = _verdict(plan, journal, fail_on)
    with writing(root):
        journal.end(code)
    say(_summary(plan, journal, time.monotonic() - began))
    return code


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


def _summary(plan: Survey, journal: Journal, seconds: float) -> str:
    """The last line. seconds: since the run began, planning included."""
    summary = journal.summary
    if plan.nothing_to_do:
        images = "1 image is" if plan.todo.done == 1 else f"{plan.todo.done} images are"
        text = f"nothing to do: {images} done or known to fail"
        gone = len(plan.todo.vanished)
        kept = f"; vanished {gone}, whose rows stay until --prune" if gone else ""
        return f"{text} ({len(plan.failed_before)} failed){kept}; results in {plan.plan.root}"
    rate = summary.done / max(seconds, 1e-9)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.kinds.items()))
    same = plan.todo.done + sum(map(len, plan.todo.touched.values()))
    parts = [
        f"done {summary.done}",
        f"failed {summary.failed}{f' ({kinds})' if kinds else ''}",
        f"unchanged {same}",
    ]
    unasked = plan.listing.skipped.total() - plan.listing.asked_out
    if unasked:
        parts.append(f"left out {counted(unasked, 'file')}")
    if plan.listing.waiting:
        parts.append(f"waiting {len(plan.listing.waiting)}")
    if plan.todo.vanished:
        parts.append(f"{'pruned' if plan.pruned else 'vanished'} {len(plan.todo.vanished)}")
    speed = f"{seconds:.1f} s, {rate:.1f} images/s, {summary.pixels / 1e6:.1f} Mpixel"
    reasons = "; filterbank status tells the reasons" if summary.failed else ""
    return f"{', '.join(parts)}; {speed}; results in {plan.plan.root}{reasons}"


def _execute(plan: Survey, journal: Journal) -> None:
    from pipeline import run as driver
    from pipeline.types import ShardReport

    show = bar if sys.stderr.isatty() else lines
    with_progress = show(len(plan.sources), lambda: journal.summary.failed)
    tell = next(with_progress)
    try:
        for event in driver.run(plan, journal):
            check_stopped()
            if not isinstance(event, ShardReport):
                tell(event.images, event.pixels)
    finally:
        with_progress.close()

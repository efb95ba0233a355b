"""`filterbank run`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.exits import EPILOG, check_stopped, ending_of
from pipeline.cli.flags import settings, where
from pipeline.cli.group import cli
from pipeline.cli.progress import bar, complain, counted, lines, say, warn
from pipeline.errors import Locked

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.journal import Journal, Summary
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
@click.option(
    "--metrics",
    metavar="FILE",
    help="Write gauges of how it went: a Prometheus textfile, *.prom.",
)
def run(fail_on: str, if_locked: str, **flags: Any) -> None:
    """Filter every image that is not done yet. CONFIG is a YAML file.

    \b
    Example: filterbank run configs/edges.yaml
    A second run does only what is new or changed; a killed one goes on where it was.
    """
    from pipeline.journal import Summary
    from pipeline.lock import locked
    from pipeline.survey import root_of

    began, summary = time.monotonic(), Summary()
    labels = {"config": str(flags["config"])}
    metrics: str | None = flags["metrics"]
    try:
        config, options = settings(flags)
        metrics = config.run.metrics
        labels["output"] = config.output.path
        with locked(root_of(config)):
            code = _recorded(config, options, fail_on, summary)
    except Locked:
        if if_locked == "fail":
            raise
        say("another run holds the output folder; skipped")
        raise click.exceptions.Exit(0) from None
    except BaseException as error:
        summary.seconds = time.monotonic() - began
        _measure(metrics, labels, ending_of(error)[0], summary)
        raise
    _measure(metrics, labels, code, summary)
    raise click.exceptions.Exit(code)


def _recorded(config: Config, options: Options, fail_on: str, summary: Summary) -> int:
    """Survey, run and sum up, with the record of it in run.json whatever happens."""
    from pipeline.commit import writing
    from pipeline.diskspace import waiting_for_space
    from pipeline.journal import Journal
    from pipeline.survey import root_of
    from pipeline.verify import beyond_repair, lost

    root = root_of(config)
    with writing(root):
        journal = Journal(root, summary)
    try:
        plan = _survey(config, options)
        left, gone, unsaid = beyond_repair(plan), lost(plan), journal.unsaid
        unsaid.lost = list(dict.fromkeys([*unsaid.lost, *gone]))
        warn([*unsaid.lost, *left])
        with writing(root):
            journal.begin(plan)
            for text in gone:
                journal.log("forgotten", reason=text)
        if not plan.nothing_to_do:
            with writing(root):
                _execute(plan, journal)
        check_stopped()
        late = waiting_for_space(plan.plan, plan.postponed) if plan.postponed else None
        journal.settle()
        verdict = _verdict(summary, fail_on)
        code = 7 if late else 9 if unsaid.lost or (options.verify and left) else verdict
        if code == 9:
            unsaid.lost = []
        elif code == verdict:
            unsaid.failed = set()
        with writing(root):
            journal.end(code, late)
    except BaseException as error:
        _end(journal, *ending_of(error))
        raise
    say(_last_line(plan, summary))
    if late:
        complain(f"filterbank: {late}")
    return code


def _survey(config: Config, options: Options) -> Survey:
    """Recover, decide everything, and refuse what cannot work."""
    from pipeline import store
    from pipeline.describe import warnings_of
    from pipeline.discover import check_roots
    from pipeline.diskspace import refuse_small_disk
    from pipeline.survey import root_of, survey

    check_roots(config.input)
    store.clean(root_of(config))
    plan = survey(config, options)
    refuse_small_disk(plan.plan, plan.sources)
    warn(warnings_of(plan))
    return plan


def _end(journal: Journal, code: int, error: str, trace: str | None) -> None:
    """Close the record, as far as the disk still lets us."""
    try:
        journal.end(code, error, trace)
    except OSError:
        complain("filterbank: run.json or log.jsonl could not be written")


def _measure(path: str | None, labels: Mapping[str, str], code: int, summary: Summary) -> None:
    """Write the gauges if they are asked for; that they cannot be written fails no run."""
    from pipeline.metrics import write_metrics

    if path is not None and path.endswith(".prom"):  # also where the config could not be read
        try:
            write_metrics(Path(path), labels, code, summary)
        except OSError as error:
            complain(f"filterbank: cannot write {path}: {error.strerror}")


def _verdict(summary: Summary, fail_on: str) -> int:
    everything = summary.failed + summary.failed_before
    return 5 if {"any": everything, "new": summary.newly_failed, "none": 0}[fail_on] else 0


def _last_line(plan: Survey, summary: Summary) -> str:
    later = {"waiting": len(plan.listing.waiting), "left undone": len(plan.postponed)}
    left = [f"{what} {count}" for what, count in later.items() if count]
    gone = len(plan.todo.vanished)
    if plan.nothing_to_do:
        stored = sum(map(len, plan.state.shards.values())) - gone
        images = "1 image is" if stored == 1 else f"{stored} images are"
        text = f"nothing to do: {images} done or known to fail ({summary.failed_before} failed)"
        kept = [f"vanished {gone}, whose rows stay until --prune"] if gone else []
        return "; ".join([text, *left, *kept, f"results in {plan.plan.root}"])
    rate = summary.done / max(summary.seconds, 1e-9)
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(summary.kinds.items()))
    parts = [
        f"done {summary.done}",
        f"failed {summary.failed}{f' ({kinds})' if kinds else ''}",
        f"unchanged {summary.skipped}",
    ]
    unasked = plan.listing.skipped.total() - plan.listing.asked_out
    if unasked:
        parts.append(f"left out {counted(unasked, 'file')}")
    parts += left
    if gone:
        parts.append(f"{'pruned' if plan.pruned else 'vanished'} {gone}")
    speed = f"{summary.seconds:.1f} s, {rate:.1f} images/s, {summary.pixels / 1e6:.1f} Mpixel"
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

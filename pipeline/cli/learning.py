"""`filterbank learn`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.exits import EPILOG, check_stopped
from pipeline.cli.group import cli
from pipeline.cli.progress import bar, complain, counted, lines, rounds, say

if TYPE_CHECKING:
    from pipeline.bank.expr import Array
    from pipeline.learn import Draw, Learned
    from pipeline.types import Failure

_ASKED_OUT = ("excluded", "not included")
"""What the config's own patterns leave out is no news."""

_SHOWN = 20
"""Failures told one by one; the summary counts them all."""


@cli.command(epilog=EPILOG)
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--input",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="Read this folder, file or glob instead of input.path; repeatable.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write this .safetensors instead of learn.file.",
)
@click.option("--workers", metavar="N", help="Reader processes; 0 reads in this one.")
def learn(
    config: Path, input: tuple[str, ...], output: Path | None, workers: str | None
) -> None:  # fmt: skip
    """Learn a bank of filters from patches of the input, as the section `learn` says.

    \b
    Example: filterbank learn my.yaml
    Writes the .safetensors that `kernel: {file: ..., tensor: weights, bias: bias}` reads. Images
    that cannot be read are skipped and counted. The same folder and config make the same bytes.
    """
    from pipeline import learn as learning
    from pipeline.config import load
    from pipeline.discover import check_roots

    began = time.monotonic()
    given = {
        "input.path": input or None,
        "learn.file": str(output.absolute()) if output else None,
        "run.workers": workers,
    }
    found = load(config, given, learning=True)
    check_roots(found.input)
    draw = learning.draw(found)
    patches: dict[str, Array] = {}
    failed = dict(draw.failed)
    with_progress = (bar if sys.stderr.isatty() else lines)(
        sum(len(shard.sources) for shard in draw.shards), lambda: len(failed)
    )
    tell = next(with_progress)
    try:
        for part in learning.cut(draw):
            check_stopped()
            part.add_to(patches)
            failed.update(part.failed)
            tell(part.images, part.pixels)
    finally:
        with_progress.close()
    for key, failure in sorted(failed.items())[:_SHOWN]:
        complain(f"failed: {key}: {failure.kind}: {failure.error}")
    done = _learned(draw, patches)
    say(_summary(draw, done, failed, time.monotonic() - began))


def _learned(draw: Draw, patches: dict[str, Array]) -> Learned:
    """Learn, and tell of the rounds where it takes many; a signal ends it between two."""
    from pipeline import learn as learning

    if draw.learn.patches != "kmeans":
        return learning.learn(draw, patches)
    counting = rounds(learning.ITERATIONS)
    tell = next(counting)

    def after_one() -> None:
        check_stopped()
        tell()

    try:
        return learning.learn(draw, patches, after_one)
    finally:
        counting.close()


def _summary(draw: Draw, done: Learned, failed: dict[str, Failure], seconds: float) -> str:
    count, *shape = done.shape
    kinds = Counter(failure.kind for failure in failed.values())
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    left_out = {why: n for why, n in sorted(draw.left_out.items()) if why not in _ASKED_OUT}
    reasons = ", ".join(f"{n} {why}" for why, n in left_out.items())
    size, method = "x".join(map(str, shape)), draw.learn.patches
    parts = [
        f"learned {count} filters of {size} ({method})",
        f"{done.patches} patches of {counted(done.images, 'image')}",
        f"failed {len(failed)}{f' ({told})' if told else ''}",
        *([f"left out {sum(left_out.values())} ({reasons})"] if reasons else []),
    ]
    return f"{', '.join(parts)}; {seconds:.1f} s; bank in {done.path}"

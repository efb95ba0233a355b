"""Flags that `run` and `plan` share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.config import Config
    from pipeline.survey import Options


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[0-9a-f]{8,64}", value):
        message = f"{value!r} is not the start of a digest: at least its first 8 digits"
        raise click.BadParameter(message)
    return value


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """Flags that change where and how a run happens, never what it computes."""
    for option in reversed(
        [
            click.argument("config", type=click.Path(path_type=Path)),
            click.option("--input", multiple=True, type=click.Path(), metavar="PATH",
                         help="Read this folder, file or glob instead of input.path; repeatable."),
            click.option("--output", metavar="DIR", help="Write here instead of output.path."),
            click.option("--device", metavar="KIND", help="auto, cpu or cuda."),
            click.option("--workers", metavar="N", help="Reader processes; 0 reads in this one."),
            click.option("--threads", metavar="N", help="Threads that compute on a CPU."),
            click.option("--batch", metavar="N", help="Images filtered together."),
            click.option("--memory", metavar="SIZE", help="Memory the run may use, as 4GiB."),
            click.option("--executor", metavar="NAME", help="local, processes or ray."),
            click.option("--address", metavar="HOST:PORT",
                         help="Head of the Ray cluster; local: a cluster of this machine alone."),
            click.option("--max-failed", metavar="N|P%", help="Stop after so many failures."),
            click.option("--limit", type=click.IntRange(1), metavar="N",
                         help="Take only the first N new files: a trial."),
            click.option("--retry-failed", is_flag=True, help="Try every failed file again."),
            click.option("--verify", is_flag=True,
                         help="Read all inputs and results again, and redo what differs."),
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


def settings(flags: dict[str, Any]) -> tuple[Config, Options]:
    """The checked config and the options that flags ask for. Raises ConfigError."""
    from pipeline.config import load
    from pipeline.survey import Options

    given = {
        "input.path": flags["input"] or None,
        "output.path": flags["output"],
        **{f"run.{name}": flags[name] for name in ("device", "workers", "threads", "batch")},
        "run.memory": flags["memory"],
        "run.executor": flags["executor"],
        "run.address": flags["address"],
        "run.max_failed": flags["max_failed"],
        "run.metrics": flags.get("metrics"),
    }
    options = Options(
        retry_failed=flags["retry_failed"],
        prune=flags["prune"],
        prune_limit=flags["prune_limit"] / 100,
        if_empty=flags["if_empty"],
        overwrite=flags["overwrite"],
        limit=flags["limit"],
        verify=flags["verify"],
    )
    return load(flags["config"], given), options

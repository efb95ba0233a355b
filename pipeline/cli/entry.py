"""The entry point: signals, commands, errors as lines, exit codes."""

from __future__ import annotations

import gc
import os
import signal
import sys

import click

from pipeline.cli import conformance as conformance  # enrols its command
from pipeline.cli import learning as learning
from pipeline.cli import looking as looking
from pipeline.cli import running as running
from pipeline.cli.exits import Stopped, code_of, stop
from pipeline.cli.group import cli
from pipeline.cli.progress import complain
from pipeline.cli.stdout import Stdout
from pipeline.errors import ConfigError, FilterbankError, WriteError
from pipeline.heap import keep_memory


def main() -> None:
    """Entry point of the `filterbank` command."""
    keep_memory()
    for number in (signal.SIGINT, signal.SIGTERM):  # before torch is imported: it takes seconds
        signal.signal(number, stop)
    if sys.stdout is not None:
        sys.stdout = Stdout(sys.stdout)
    try:
        sys.exit(cli(auto_envvar_prefix="FILTERBANK", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except FilterbankError as error:
        if isinstance(error, WriteError):  # what could not be written complains when it goes
            sys.unraisablehook = lambda _: None
        _complain(error)
        sys.exit(code_of(error))
    except Stopped as signalled:
        complain("filterbank: stopped; finished shards are kept")
        code = 128 + signalled.number
    gc.collect()  # ends the reader processes
    os._exit(code)  # at once: a normal exit waits for every thread that still computes


def _complain(error: FilterbankError) -> None:
    lines = error.problems if isinstance(error, ConfigError) else (str(error),)
    for line in lines:
        complain(line if isinstance(error, ConfigError) else f"filterbank: {line}")

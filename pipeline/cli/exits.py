"""Exit codes, and how a signal ends a command."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from types import FrameType

from pipeline.errors import (
    ConfigError,
    DeviceError,
    FilterbankError,
    InputError,
    Locked,
    MissingDependency,
    PlanError,
    ReaderCrashed,
    TooManyFailed,
    WriteError,
)

EXIT_CODES = {
    0: "all done, or nothing to do",
    1: "internal error; the traceback is in log.jsonl",
    2: "usage or config invalid",
    3: "plan refused: another plan's results, disk too small, prune guard",
    4: "no input matched, or a root is missing",
    5: "finished, and listed files have failed rows (see --fail-on)",
    6: "error budget run.max_failed used up, stopped",
    7: "output could not be written; what was committed stays",
    8: "an optional dependency that the config names is missing",
    9: "verify found damage, a run what it cannot repair, conformance a map that differs",
    10: "device unavailable or lost, or no process that reads stays alive",
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
    (ReaderCrashed, 10),
    (Locked, 75),
)
EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {n:>3}  {text}" for n, text in EXIT_CODES.items())


def code_of(error: FilterbankError) -> int:
    """The exit code that an error stands for."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def ending_of(error: BaseException) -> tuple[int, str, str | None]:
    """How an error ends a run: exit code, reason, and the traceback of what nobody expected."""
    if isinstance(error, Stopped):
        return 128 + error.number, "stopped by a signal", None
    if isinstance(error, FilterbankError):
        return code_of(error), str(error), None
    return 1, f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error))


class Stopped(BaseException):
    """A signal asked the run to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


_stopped = 0
"""The signal that asked this process to stop."""


def stop(number: int, _: FrameType | None) -> None:
    """Handle SIGINT and SIGTERM: raise Stopped, once; a second signal ends the process."""
    global _stopped
    for again in (signal.SIGINT, signal.SIGTERM):  # a second one does not wait
        signal.signal(again, lambda n, _: os._exit(128 + n))
    _stopped = number
    sys.unraisablehook = lambda _: None  # what is cut off in the middle may complain when it goes
    raise Stopped(number)


def check_stopped() -> None:
    """Stop here where the exception of a signal was lost, as in a callback of the interpreter."""
    if _stopped:
        raise Stopped(_stopped)

"""How worker processes start, and how they end: with the main process, however that ends."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path
from unittest.mock import patch

from pipeline.errors import PlanError

_FILES, _FILES_EACH = 24, 6
"""Files that a run has open, and for each worker (measured: 12, and 5)."""
_PR_SET_PDEATHSIG = 1
"""A word of linux/prctl.h."""


def refuse_few_files(workers: int) -> None:
    """Raise PlanError where this process may not open as many files as a run does."""
    need, (allowed, _) = _FILES + workers * _FILES_EACH, resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != allowed < need:
        message = (
            f"only {allowed} files may be open at a time, and a run with {workers} workers needs "
            f"{need}; raise `ulimit -n`, or lower --workers"
        )
        raise PlanError(message)


def start_forkserver() -> None:
    """Start the process that workers with torch are forked from, deaf to Ctrl-C like all of them.

    It is the main process that stops them. As long as this process has one thread, the server is a
    fork of it instead of a new interpreter, which would need seconds to import what is here
    already. multiprocessing has no public word for it.
    """
    forkserver.set_forkserver_preload(["pipeline.stages.read"])
    start = _fork if threading.active_count() == 1 else util.spawnv_passfds
    with deaf(), patch.object(util, "spawnv_passfds", start):
        forkserver.ensure_running()


@contextmanager
def deaf() -> Iterator[None]:
    """Keep Ctrl-C from what is started meanwhile: the mask of blocked signals is inherited."""
    _start_resource_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fork(_: bytes, arguments: Sequence[str], files: Sequence[int]) -> int:
    """Run `python -c CODE`, the last of the arguments, in a fork; its process id.

    Of our open files it keeps those it is given and the standard ones: the lock on the output
    folder is not its own. The numbers of the others stay taken: objects it inherits from us close
    theirs when they are collected, and must not hit a file that is in use.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():  # of threads that are not Python's: BLAS has some, and copes
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent()
        null = os.open(os.devnull, os.O_RDWR)
        for number in {int(fd.name) for fd in Path("/dev/fd").iterdir()} - {0, 1, 2, null, *files}:
            _keep_taken(number, null)
        os.close(null)
        exec(arguments[-1], {})
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(0)


def _keep_taken(number: int, null: int) -> None:
    """Put another file in an open one's place; a number beyond `ulimit -n`, a shell's, goes."""
    try:
        os.dup2(null, number, inheritable=False)
    except OSError:
        os.close(number)


def _start_resource_tracker() -> None:
    """Start the process that tidies up after us, and by itself, because doing so unblocks signals.

    It is told not to warn of what a stopped run left to it: that is what it is for.
    """
    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def become_worker() -> None:
    """Leave stopping to the main process, as Ctrl-C reaches the whole group, and end with it.

    A crash here is told in the table; a core dump would only fill the working directory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    gc.freeze()  # what a fork shares is not to be copied by the collector's marks
    _end_with_parent()


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends, however either is."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def holding_signals() -> Iterator[None]:
    """Deliver SIGINT and SIGTERM at the end: half-started processes complain, and stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])

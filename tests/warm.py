"""A process that has imported what `filterbank run` imports, and forks one that runs it.

For tests of what a run does once it has started: most of what a start costs is importing torch.
The fork is a process of its own, with a group, signals and standard files of its own; nothing of a
test is in it. Requests come as lines of JSON, and so do the answers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any


class Forked:
    """A command as `subprocess.Popen` would have it, as far as tests ask."""

    def __init__(
        self, arguments: Sequence[str], out: Path, err: Path, *, traced: bool, setup: str
    ) -> None:
        """traced: it does nothing before somebody traces it; setup: Python that it runs first."""
        self._files = out, err
        self.returncode: int | None = None
        self.pid = int(_ask("start", [*arguments], str(out), str(err), traced, setup))

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        if self.returncode is None:
            self.returncode = _ask("poll", self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        began = time.monotonic()
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired("filterbank", timeout)
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; what was written to the standard files."""
        self.wait(timeout)
        out, err = (path.read_text() for path in self._files)
        return out, err

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        os.kill(self.pid, number)


def _ask(*request: object) -> Any:
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    """One for each process that tests; it ends with it, when its standard input does."""
    command = [sys.executable, "-m", "warm"]
    where = Path(__file__).parent
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=where, stdin=pipe, stdout=pipe, text=True, start_new_session=True
    )


# ---------------------------------------------------------------- the other side
def serve(requests: IO[str], answers: IO[str]) -> None:
    """Start commands and tell of their ends until nobody asks any more."""
    import pipeline.bank.moving
    import pipeline.bank.native
    import pipeline.statistics.finish
    import pipeline.statistics.packed
    import pipeline.work  # noqa: F401

    for line in requests:
        verb, *rest = json.loads(line)
        if verb == "start":
            answer: int | None = _start(*rest)
        else:
            pid, status = os.waitpid(rest[0], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _start(arguments: Sequence[str], out: str, err: str, traced: bool, setup: str) -> int:
    ready, begun = os.pipe()
    if pid := os.fork():
        os.close(begun)
        os.read(ready, 1)  # until it leads a group, and signals to the group reach it
        os.close(ready)
        return pid
    code = 1
    try:
        os.setsid()
        os.close(ready)
        os.close(begun)
        null = os.open(os.devnull, os.O_RDONLY)
        into = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for path in (out, err)]
        for number, file in enumerate((null, *into)):
            os.dup2(file, number)
            os.close(file)
        while traced and "TracerPid:\t0" in Path("/proc/self/status").read_text():
            time.sleep(0.002)
        exec(setup, {})
        code = _run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run(arguments: Sequence[str]) -> int:
    from pipeline import cli

    sys.argv = ["filterbank", *arguments]
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve(sys.stdin, sys.stdout)

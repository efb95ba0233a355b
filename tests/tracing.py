"""System calls on an output folder: which a run makes, and a run that one of them ends or fails.

strace attaches to a forked run and looks at calls on the paths of the folder only (`-P`); those are
learned from a run that it only watches.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from command import Process, Said, finish, forked

CALLS = (
    "write", "pwrite64", "writev", "ftruncate", "fsync", "fdatasync", "rename", "renameat",
    "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat",
)  # fmt: skip
"""What changes a folder or its files, or makes that durable."""


@dataclass(frozen=True)
class Point:
    """One call of a run on its output folder.

    before: how many of each name came earlier; goes_on: it writes to the file that the call before
    it wrote to.
    """

    call: str
    line: str
    before: Mapping[str, int]
    goes_on: bool = False

    def once(self, what: str) -> list[str]:
        """Do this to the call: `signal=SIGKILL`, `error=EIO`."""
        return [f"--inject={self.call}:{what}:when={self.before.get(self.call, 0) + 1}"]

    def sticky(self, what: str) -> list[str]:
        """Do this to the call and to all that follow."""
        return [f"--inject={c}:{what}:when={self.before.get(c, 0) + 1}+" for c in CALLS]


@dataclass(frozen=True)
class Trace:
    """The calls of an undisturbed run, and the paths they name; `{pid}` is the run's."""

    points: tuple[Point, ...]
    paths: tuple[str, ...]


@cache
def _refusal() -> str | None:
    """Why strace cannot be used here."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "strace is not allowed here"


def need_strace() -> None:
    """Skip the test, with the reason, where strace cannot be used."""
    if (reason := _refusal()) is not None:
        pytest.skip(reason)


@contextlib.contextmanager
def _traced(
    arguments: Sequence[object], options: Sequence[str], log: Path, setup: str
) -> Iterator[Process]:
    with forked(*arguments, traced=True, setup=setup) as process:
        pid = str(process.pid)
        words = [word.replace("{pid}", pid) for word in options]
        trace = f"--trace={','.join(CALLS)}"
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-y", "-o", log, trace, *words, "-p", pid]
        )
        try:
            yield process
        finally:
            process.wait(60)
            tracer.wait(60)


def watch(root: Path, *arguments: object, setup: str = "") -> Trace:
    """Let a command run to its end, and note its calls on a folder."""
    points, before = [], Counter[str]()
    paths: dict[str, None] = {}
    last: object = None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with _traced(arguments, [], log, setup) as process:
            assert finish(process).code == 0
        lines, pid = log.read_text().splitlines(), str(process.pid)
    for line in lines:
        thread, _, text = line.partition(" ")
        found = re.findall(rf'["<]({re.escape(str(root))}(?:/[^">]*)?)[">]', text)
        if thread == pid and found:
            call = text.strip().partition("(")[0]
            goes_on = "write" in call and (call, found) == last
            points.append(Point(call, text.strip(), dict(before), goes_on))
            before[call] += 1
            last = call, found
            paths.update((path.replace(f".{pid}.", ".{pid}."), None) for path in found)
    return Trace(tuple(points), tuple(paths))


def inject(trace: Trace, what: Sequence[str], *arguments: object, setup: str = "") -> Said:
    """Run a command of which calls on the folder are disturbed; what it answered."""
    only = [f"--trace-path={path}" for path in trace.paths]
    with _traced(arguments, [*only, *what], Path("/dev/null"), setup) as process:
        return finish(process)

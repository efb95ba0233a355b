"""The command line for tests: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import numpy as np
import pyarrow.dataset as ds
import yaml
from PIL import Image
from warm import Forked

from pipeline import cli

TIMED = frozenset({"run.json", "log.jsonl", ".lock"})
"""The only files of an output folder that may depend on time, host or worker count."""


Figures: TypeAlias = Callable[[str], None]
"""Tells what a test tried, for the report of `make faults`."""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str


def filterbank(*arguments: object) -> Said:
    """Run `filterbank` in this process."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    code: Any = None
    try:
        with (
            patch.object(sys, "argv", ["filterbank", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            cli.main()
    except SystemExit as stop:
        code = stop.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
    return Said(int(code or 0), out.getvalue(), err.getvalue())


def command(*arguments: object) -> list[str]:
    """The words that start `filterbank` as a process."""
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


Process: TypeAlias = "subprocess.Popen[str] | Forked"


@contextlib.contextmanager
def started(
    *arguments: object, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Process]:
    """A `filterbank` process, new from its first import, as a program or a shell starts it."""
    pipe = subprocess.PIPE
    words = [*prefix, *command(*arguments)]
    whole = {**os.environ, **(env or {})}
    with _ending(
        subprocess.Popen(
            words, stdout=pipe, stderr=pipe, text=True, start_new_session=True, env=whole
        )
    ) as process:
        yield process


@contextlib.contextmanager
def forked(*arguments: object, traced: bool = False, setup: str = "") -> Iterator[Process]:
    """A `filterbank` process that has imported what it needs: for tests of all that comes after.

    traced: it waits until somebody traces it; setup: Python that it runs first.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "out"), Path(folder, "err")
        words = [*map(str, arguments)]
        with _ending(Forked(words, *files, traced=traced, setup=setup)) as process:
            yield process


@contextlib.contextmanager
def _ending(process: Process) -> Iterator[Process]:
    """A process with a process group of its own, of which nothing stays behind."""
    try:
        yield process
    finally:
        kill_group(process, signal.SIGKILL)
        process.communicate()


def finish(process: Process, timeout: float = 60) -> Said:
    """Wait for the end of a process."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode is not None
    return Said(process.returncode, out, err)


def kill_group(process: Process, number: int) -> None:
    """Send a signal to a process and all it started, as a terminal does."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def until_it_works(process: Process, root: Path) -> None:
    """Until it has planned: from here on it reads, computes and commits."""
    while not (root / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.01)


def kill_all(process: Process) -> None:
    """Kill a run and all it started, and wait for their ends.

    A fork that had no time to close anything holds the lock until it is gone, too.
    """
    kill_group(process, signal.SIGKILL)
    process.wait()
    while group(process.pid):
        time.sleep(0.005)


def group(leader: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member = stat.read_text().rpartition(")")[2].split()[:3]
            if int(member) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


def draw(path: Path, seed: int, size: int = 16) -> Path:
    """A small gray PNG of its own; every path to it is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return path


def write_config(path: Path, images: Path, output: Path, **sections: Any) -> Path:
    """A config of two filters; a section's keys are added to those it has here."""
    whole: dict[str, Any] = {
        "version": 1,
        "input": {"path": str(images)},
        "filters": [{"sobel": {"output": "x"}}, {"gaussian": {"sigma": 1}}],
        "statistics": ["mean", "std", "p50"],
        "output": {"path": str(output), "maps": "float32", "png": {"what": "maps"}},
        "run": {"device": "cpu", "workers": 0},
    }
    for name, value in sections.items():
        whole[name] = {**whole.get(name, {}), **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(whole))
    return path


def tree(root: Path) -> dict[str, bytes]:
    """Every file below an output folder that has to be the same in every run."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).as_posix() not in TIMED
    }


def rows(root: Path, table: str, *without: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows of a table by their keys, each once, without some columns."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in ds.dataset(root / table, format="parquet").to_table().to_pylist():
        key = tuple(row[name] for name in ("image", "band", "region", "filter") if name in row)
        assert key not in found, f"two rows of {table}: {key}"
        found[key] = {name: value for name, value in row.items() if name not in without}
    return found


def status_of(root: Path) -> dict[str, tuple[str, str | None]]:
    """image -> (done or failed, kind)."""
    return {image: (r["status"], r["kind"]) for (image,), r in rows(root, "images").items()}

"""Asked to stop, a run stops soon, quietly, completely, and can be resumed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command import (
    Figures,
    Process,
    draw,
    filterbank,
    finish,
    forked,
    group,
    kill_group,
    started,
    tree,
    write_config,
)

SOON = 100
"""Seconds after which a stopped run hangs; a second is usual, ten are many on a busy machine."""

SIGNALS = int(os.environ.get("FILTERBANK_SIGNALS", "2"))
"""Random moments; 40 in `make faults`."""


def until(process: Process, happened: Callable[[], bool]) -> None:
    while not happened():
        assert process.poll() is None
        time.sleep(0.02)


def importing(process: Process, root: Path) -> None:
    """torch's first library is mapped: its import has begun and takes seconds."""
    maps = Path(f"/proc/{process.pid}/maps")
    until(process, lambda: (root / "run.json").exists() and "torch" in maps.read_text())


def starting_readers(process: Process, root: Path) -> None:
    """The fork server is there."""
    until(process, lambda: len(group(process.pid)) >= 3)


def reading(process: Process, root: Path) -> None:
    """Fork server, resource tracker and a reader, beside the main process."""
    until(process, lambda: len(group(process.pid)) >= 4)


def hiring(process: Process, root: Path) -> None:
    """The first of the processes that compute is being started."""
    until(process, lambda: any(root.glob(".tmp/*-*")))


def reading_apart(process: Process, root: Path) -> None:
    """Some of them have readers of their own."""
    until(process, lambda: len(group(process.pid)) >= 6)


def computing(process: Process, root: Path) -> None:
    until(process, lambda: any((root / "images").glob("*.parquet")))


@pytest.mark.parametrize(
    ("number", "code", "moment", "executor"),
    [
        (signal.SIGTERM, 143, importing, "local"),
        (signal.SIGTERM, 143, computing, "local"),
        (signal.SIGTERM, 143, computing, "processes"),
        (signal.SIGINT, 130, starting_readers, "local"),
        (signal.SIGINT, 130, reading, "local"),
        (signal.SIGINT, 130, hiring, "processes"),
        (signal.SIGINT, 130, reading_apart, "processes"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_signal_to_the_group_stops_everything_soon_and_the_run_can_be_resumed(
    number: int,
    code: int,
    moment: Callable[[Process, Path], None],
    executor: str,
    images: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    root = tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", images, root, run={"workers": 1})
    words = "run", config, "--executor", executor
    with (started if moment is importing else forked)(*words) as process:
        moment(process, root)
        began = time.monotonic()
        kill_group(process, number)
        said = finish(process, SOON)
        assert time.monotonic() - began < SOON
        assert said.code == code
        assert said.err == "filterbank: stopped; finished shards are kept\n"
        while group(process.pid):
            assert time.monotonic() - began < SOON, "processes stay behind"
            time.sleep(0.05)
    record = json.loads((root / "run.json").read_bytes())
    assert (record["state"], record["exit_code"]) == ("stopped", code)
    assert filterbank("run", config, "--workers", 0).code == 0
    assert tree(root) == tree(undisturbed)


def handled(process: Process, _: Path) -> None:
    """SIGTERM has a handler: `main` has begun."""
    status = Path(f"/proc/{process.pid}/status")

    def caught() -> bool:
        mask = status.read_text().split("SigCgt:\t")[1].split()[0]
        return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)

    until(process, caught)


def test_signals_at_random_moments_once_and_twice_stop_a_run_that_can_be_resumed(
    images: Path, undisturbed: Path, tmp_path: Path, figures: Figures
) -> None:
    """Every tenth in a process that has everything to import yet."""
    expected, chance, root = tree(undisturbed), random.Random(8), tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", images, root, run={"workers": 1})
    stopped, slowest, lasts = 0, 0.0, 2.0
    for i in range(SIGNALS):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        with (started if i % 10 == 9 else forked)("run", config) as process:
            handled(process, root)
            began = time.monotonic()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, lasts))
                lasts = time.monotonic() - began
            began = time.monotonic()
            for _ in range(1 + i % 3 % 2):
                kill_group(process, number)
                time.sleep(chance.uniform(0, 0.05))
            said = finish(process, SOON)
            while group(process.pid):
                assert time.monotonic() - began < SOON, "processes stay behind"
                time.sleep(0.02)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < SOON
        assert said.code in (0, 128 + number), said
        assert said.err in ("", "filterbank: stopped; finished shards are kept\n"), said
        stopped += said.code != 0
        assert filterbank("run", config, "--workers", 0).code == 0
        assert tree(root) == expected
        shutil.rmtree(root)
    figures(
        f"{SIGNALS} signals, {stopped} before the end, slowest stop {slowest:.1f} s, all resumed"
    )


@pytest.mark.parametrize("moment", [starting_readers, reading])
def test_a_signal_to_the_main_process_alone_leaves_no_reader_behind(
    moment: Callable[[Process, Path], None], images: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 2})
    with forked("run", config) as process:
        moment(process, tmp_path / "out")
        process.send_signal(signal.SIGTERM)
        said = finish(process, SOON)
        assert (said.code, said.err) == (143, "filterbank: stopped; finished shards are kept\n")
        began = time.monotonic()
        while group(process.pid):
            assert time.monotonic() - began < SOON, "processes stay behind"
            time.sleep(0.05)


def test_a_killed_main_process_takes_its_readers_along(images: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 2})
    with forked("run", config) as process:
        reading(process, tmp_path / "out")
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.monotonic()
        while group(process.pid):
            assert time.monotonic() - began < SOON, "processes stay behind"
            time.sleep(0.05)


def test_a_run_that_computes_for_long_does_not_wait_for_the_end_of_it(tmp_path: Path) -> None:
    draw(tmp_path / "in/a.png", seed=1, size=2000)
    slow = [{"gabor": {"wavelength": [20, 24, 28, 32, 36], "orientations": 12}}]
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out", filters=slow)
    with forked("run", config) as process:
        until(process, lambda: bool(list((tmp_path / "out").glob(".tmp/*"))) or busy(process))
        time.sleep(1)
        began = time.monotonic()
        kill_group(process, signal.SIGTERM)
        assert finish(process, SOON).code == 143
        assert time.monotonic() - began < 10, "it takes longer than that to the end"


def busy(process: Process) -> bool:
    """A thread that computes beside the main one."""
    return len(list(Path(f"/proc/{process.pid}/task").iterdir())) > 2

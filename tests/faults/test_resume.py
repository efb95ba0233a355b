"""Killed at any moment and run again, an output folder ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pyarrow.dataset as ds
from command import (
    Figures,
    Process,
    filterbank,
    finish,
    forked,
    group,
    kill_group,
    tree,
    write_config,
)

KILLS = int(os.environ.get("FILTERBANK_KILLS", "4"))
"""Random kills; 500 in `make faults`."""

AGAIN = int(os.environ.get("FILTERBANK_AGAIN", "1"))
"""A resumed run is killed again so often at most; 5 in `make faults`."""


def readable_and_undoubled(root: Path) -> None:
    """No torn part, no row twice, in any table, as a stranger reads them."""
    for table in ("images", "statistics", "regions", "maps"):
        if any((root / table).glob("*.parquet")):
            read = ds.dataset(sorted((root / table).glob("*.parquet"))).to_table()
            keys = [n for n in ("image", "band", "region", "filter") if n in read.column_names]
            found = [tuple(row.values()) for row in read.select(keys).to_pylist()]
            assert len(found) == len(set(found)), f"doubled rows in {table}"


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


def parts(root: Path) -> list[Path]:
    """What says which shards have landed."""
    return list((root / "images").glob("part-*.parquet"))


def test_killed_at_random_moments_and_resumed_ends_byte_identical(
    images: Path, undisturbed: Path, tmp_path: Path, figures: Figures
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})
    expected, root = tree(undisturbed), tmp_path / "out"
    shards, chance = len(parts(undisturbed)), random.Random(20)
    killed = folders = midway = 0
    with forked("run", config) as process:
        until_it_works(process, root)
        began = time.monotonic()
        assert finish(process).code == 0
        lasts = time.monotonic() - began
    while killed < KILLS:
        shutil.rmtree(root, ignore_errors=True)
        with forked("run", config) as process:
            until_it_works(process, root)
            landed = chance.randrange(shards)  # before the kill, however fast the machine is
            while process.poll() is None and len(parts(root)) < landed:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, lasts / shards))
            kill_all(process)
        midway += tree(root) != expected
        for _ in range(folders % (AGAIN + 1)):
            readable_and_undoubled(root)
            with forked("run", config) as process:
                time.sleep(chance.uniform(0, lasts))
                kill_all(process)
            killed += 1
        readable_and_undoubled(root)
        said = filterbank("run", config, "--workers", 0)
        assert said.code == 0, said
        assert tree(root) == expected
        assert filterbank("verify", root).code == 0
        killed, folders = killed + 1, folders + 1
    assert midway, "no kill came before the end"
    figures(f"killed {killed} times in {folders} folders, {midway} first kills midway, all resumed")


def test_the_lock_dies_with_its_holder_and_run_json_still_names_it(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})
    with forked("run", config) as process:
        until_it_works(process, tmp_path / "out")
        second = filterbank("run", config)
        assert second.code == 75
        assert f"process {process.pid} on " in second.err
        assert filterbank("run", config, "--if-locked", "skip").code == 0
        kill_group(process, signal.SIGKILL)
        process.wait()
    assert '"running"' in (tmp_path / "out/run.json").read_text()
    assert filterbank("run", config).code == 0
    assert tree(tmp_path / "out") == tree(undisturbed)


def test_of_three_runs_at_once_one_works_and_the_others_leave_at_once(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    with forked("run", config) as one, forked("run", config) as two, forked("run", config) as three:
        said = [finish(process) for process in (one, two, three)]
    assert sorted(each.code for each in said) == [0, 75, 75], said
    assert tree(tmp_path / "out") == tree(undisturbed)

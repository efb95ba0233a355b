"""Killed at any moment and run again, an output folder ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from command import (
    Process,
    draw,
    filterbank,
    finish,
    forked,
    kill_group,
    started,
    tree,
    write_config,
)

KILLS = int(os.environ.get("FILTERBANK_KILLS", "4"))
"""Random kills; FILTERBANK_KILLS=20 for acceptance."""


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


def parts(root: Path) -> list[Path]:
    """What says which shards have landed."""
    return list((root / "images").glob("part-*.parquet"))


def test_killed_at_random_moments_and_resumed_ends_byte_identical(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})
    expected, root = tree(undisturbed), tmp_path / "out"
    shards, chance = len(parts(undisturbed)), random.Random(20)
    midway = 0
    with forked("run", config) as process:
        until_it_works(process, root)
        began = time.monotonic()
        assert finish(process).code == 0
        lasts = time.monotonic() - began
    for _ in range(KILLS):
        shutil.rmtree(root, ignore_errors=True)
        with forked("run", config) as process:
            until_it_works(process, root)
            landed = chance.randrange(shards)  # before the kill, however fast the machine is
            while process.poll() is None and len(parts(root)) < landed:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, lasts / shards))
            kill_group(process, signal.SIGKILL)
            process.wait()
        readable_and_undoubled(root)
        midway += tree(root) != expected
        said = filterbank("run", config, "--workers", 0)
        assert said.code == 0, said
        assert tree(root) == expected
        assert filterbank("verify", root).code == 0
    assert midway, "no kill came before the end"


def strace_works() -> bool:
    return shutil.which("strace") is not None and os.system("strace -qq -o /dev/null true") == 0


@pytest.mark.skipif(not strace_works(), reason="strace is not installed or not allowed")
def test_killed_by_the_kernel_inside_a_rename_and_resumed_ends_byte_identical(
    tmp_path: Path,
) -> None:
    for i in range(3):
        draw(tmp_path / "in" / f"{i}.png", seed=i)
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    # before it: run.json, a journal, filters.parquet, methods.md, a journal, the first picture
    inject = "--inject=rename,renameat,renameat2:signal=SIGKILL:when=7"
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat,renameat2"]
    with started("run", config, prefix=[*strace, inject]) as process:
        finish(process)
    assert list((tmp_path / "out/.tmp").glob("*.json")), "it died between the renames of a commit"
    readable_and_undoubled(tmp_path / "out")
    assert filterbank("run", config).code == 0
    resumed = tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    assert filterbank("run", config).code == 0
    assert resumed == tree(tmp_path / "out")


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


def test_of_two_runs_at_once_one_works_and_the_other_leaves_at_once(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    with forked("run", config) as one:
        until_it_works(one, tmp_path / "out")
        with forked("run", config) as two:
            assert finish(two).code == 75
        assert finish(one).code == 0
    assert tree(tmp_path / "out") == tree(undisturbed)

"""What one file may take of time and memory, and a run of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import (
    draw,
    filterbank,
    finish,
    forked,
    group,
    rows,
    started,
    status_of,
    write_config,
)

PLUGIN = '''
import ctypes
import os
import re
import numpy as np
from pipeline.readers.base import READERS
from pipeline.readers.png import Png


@READERS.register("hostile")
class Hostile:
    """A PNG whose header or pixels do what its only line says."""

    suffixes = (".hostile",)
    signature = re.compile(rb"HOSTILE")

    def probe(self, path):
        self.obey(path, "header")
        return Png().probe(os.path.dirname(path) + "/000.png")

    def open(self, path, page):
        self.obey(path, "pixels")
        return Png().open(os.path.dirname(path) + "/000.png", page)

    def obey(self, path, what):
        _, where, act = open(path).read().split()
        if where != what:
            return
        with open(path + ".diary", "a") as diary:
            diary.write(act + "\\n")
        if act == "hang":
            ctypes.PyDLL(None).sleep(600)  # in C, and Python's lock is held meanwhile
        elif act == "crash":
            os.abort()
        elif act == "eat":
            np.empty(1 << 40, np.uint8)
'''
"""Registers a reader in every Python process that finds it as `sitecustomize`."""

NARROW = 'mount -t tmpfs -o size=4m none /dev/shm && exec prlimit --nofile=48 "$0" "$@"'
"""A shell's words: in as small a place as a careless container is."""


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLUGIN)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(Path(__file__).parents[2])])}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(5):
        draw(tmp_path / f"in/{i:03}.png", seed=i)
    return tmp_path / "in"


def hostile(folder: Path, name: str, where: str, act: str) -> None:
    (folder / f"{name}.hostile").write_text(f"HOSTILE {where} {act}\n")


def test_a_file_that_hangs_crashes_or_eats_memory_costs_only_itself(
    images: Path, plugin: dict[str, str], tmp_path: Path
) -> None:
    """Also where it does so in its header, and each hang takes its time once."""
    config = write_config(
        tmp_path / "c.yaml",
        images,
        tmp_path / "with",
        input={"exclude": ["*.diary"]},
        limits={"seconds_per_file": 4, "reader_memory": "1GiB"},
        run={"workers": 2},
    )
    assert filterbank("run", config, "--workers", 0, "--output", tmp_path / "without").code == 0
    for where in ("header", "pixels"):
        for act in ("hang", "crash", "eat"):
            hostile(images, f"001-{where}-{act}", where, act)
    with started("run", config, env=plugin) as process:
        said = finish(process, timeout=200)
    assert (said.code, said.err) == (5, ""), said
    assert "done 5, failed 6 (2 crashed, 2 limit, 2 timeout)" in said.out
    found = rows(tmp_path / "with", "images")
    errors = {key[0]: (r["kind"], r["error"]) for key, r in found.items() if r["error"]}
    late = ("timeout", "reading took longer than limits.seconds_per_file (4 s)")
    dead = ("crashed", "the process that read this file was killed by SIGABRT")
    large = ("limit", "reading it takes more memory than limits.reader_memory")
    wanted = {"hang": late, "crash": dead, "eat": large}
    assert errors == {
        f"001-{where}-{act}.hostile": why
        for where in ("header", "pixels")
        for act, why in wanted.items()
    }
    for where in ("header", "pixels"):
        diary = images / f"001-{where}-hang.hostile.diary"
        assert diary.read_text() == "hang\n"
    for table in ("images", "statistics", "regions", "maps"):
        others = {k: r for k, r in rows(tmp_path / "with", table).items() if k[0] not in errors}
        assert others == rows(tmp_path / "without", table), table


def test_a_killed_main_process_takes_along_a_reader_that_hangs(
    images: Path, plugin: dict[str, str], tmp_path: Path
) -> None:
    hostile(images, "x", "pixels", "hang")
    config = write_config(
        tmp_path / "c.yaml",
        images,
        tmp_path / "out",
        input={"exclude": ["*.diary"]},
        limits={"seconds_per_file": None},
        run={"workers": 2},
    )
    before = {path.name for path in Path("/dev/shm").iterdir()}
    with started("run", config, env=plugin) as process:
        while not (images / "x.hostile.diary").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.monotonic()
        while group(process.pid):
            assert time.monotonic() - began < 100, "processes stay behind"
            time.sleep(0.05)
    ours = {
        p.name for p in Path("/dev/shm").iterdir() if p.name.startswith(("torch", "pym", "sem"))
    }
    assert ours <= before


def test_neither_shared_memory_nor_many_open_files_are_needed(images: Path, tmp_path: Path) -> None:
    narrow = ["unshare", "-m", "sh", "-c", NARROW]
    if shutil.which("unshare") is None or subprocess.run([*narrow, "true"], check=False).returncode:
        pytest.skip("no permission to mount a /dev/shm of its own")
    for i in range(5, 70):
        draw(images / f"{i:03}.png", seed=i, size=200)
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 4})
    with started("run", config, prefix=narrow) as process:
        said = finish(process, timeout=200)
    assert (said.code, said.err) == (0, "")
    assert set(status_of(tmp_path / "out").values()) == {("done", None)}


def test_too_few_open_files_are_refused_before_anything_begins(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (47, 4096))
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 4})
    said = filterbank("run", config)
    assert said.code == 3
    assert said.err == (
        "filterbank: only 47 files may be open at a time, and a run with 4 workers needs 48; "
        "raise `ulimit -n`, or lower --workers\n"
    )
    assert filterbank("run", config, "--workers", 0).code == 0


def test_a_file_that_a_shell_opened_beyond_the_limit_is_no_hindrance(
    images: Path, tmp_path: Path
) -> None:
    """As in `exec 200>lock; flock 200; ulimit -n 100`."""
    shell = (
        "import os, resource; os.dup2(2, 200); "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 4096))"
    )
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 2})
    with forked("run", config, setup=shell) as process:
        said = finish(process, timeout=200)
    assert (said.code, said.err) == (0, ""), said


@pytest.mark.parametrize("good", [0, 1], ids=["all", "all but one"])
def test_bad_files_are_rows_without_numbers(images: Path, tmp_path: Path, good: int) -> None:
    """The first file is bad as well."""
    for path in images.iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    for i in range(good):
        draw(images / f"zz{i}.png", seed=i)
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    assert filterbank("run", config).code == 5
    status = status_of(tmp_path / "out")
    assert len(status) == 5 + good
    assert sum(why == ("failed", "corrupt") for why in status.values()) == 5
    assert {key[0] for key in rows(tmp_path / "out", "statistics")} == {
        image for image, (state, _) in status.items() if state == "done"
    }
    table = tmp_path / "wide.parquet"
    assert filterbank("export", tmp_path / "out", table).code == 0
    wide = pq.read_table(table).to_pylist()
    assert len({row["image"] for row in wide}) == 5 + good
    for row in wide:
        numbers = [value for name, value in row.items() if "__" in name]
        assert bool(numbers) == bool(good), "of which bands, no header says"
        assert all((n is None) == (status[row["image"]][0] == "failed") for n in numbers)


def _kept(leader: int) -> int:
    """Bytes that the processes of a group have in memory now, what they share counted once."""
    total = 0
    for pid in group(leader):
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


@pytest.mark.parametrize("memory", [1250, 1600])
def test_a_run_keeps_to_its_memory(memory: int, tmp_path: Path) -> None:
    """All its processes together, as `run.memory` says, and as plan says."""
    for i in range(6):
        draw(tmp_path / f"in/{i}.png", seed=i, size=700)
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out",
        filters=["sobel", {"gaussian": {"sigma": 2}}, {"gabor": {"wavelength": 6}}],
        statistics=["all"], run={"memory": f"{memory}MiB", "workers": "auto"},
    )  # fmt: skip
    planned = json.loads(filterbank("plan", config, "--json").out)
    most = 0
    with forked("run", config) as process:
        while process.poll() is None:
            most = max(most, _kept(process.pid))
            time.sleep(0.02)
        said = finish(process)
    assert said.code == 0, said
    assert most <= planned["memory_bytes"] <= memory << 20

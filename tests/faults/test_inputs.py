"""Inputs that vanish, may not be read, or change under the hands of a run: each fails alone."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Said, draw, filterbank, finish, forked, rows, status_of, write_config
from PIL import Image

strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
VICTIM = "3.png"
TABLES = ("images", "statistics", "regions", "maps")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(8):
        draw(tmp_path / f"in/{i}.png", seed=i)
    return tmp_path / "in"


@contextlib.contextmanager
def injected(folder: Path, config: Path, file: Path, *faults: str) -> Iterator[Said]:
    """A run in a process that is traced from the moment it waits for its config.

    The config is a pipe that is filled once strace is attached.
    """
    pipe = folder / "piped.yaml"
    os.mkfifo(pipe)
    words = [word for fault in faults for word in ("-e", f"inject={fault}")]
    with forked("run", pipe) as process:
        command = ["strace", "-f", "-p", str(process.pid), "-P", str(file), *words]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert tracer.stderr is not None
        try:
            line = tracer.stderr.readline()
            if "attached" not in line:
                pytest.skip(f"strace may not attach here: {line.strip()}")
            pipe.write_text(config.read_text())
            with (folder / "trace").open("w") as trace:
                shutil.copyfileobj(tracer.stderr, trace)
            yield finish(process)
        finally:
            tracer.kill()
            tracer.communicate()


def others_are_equal(out: Path, undisturbed: Path, *but: str) -> None:
    for table in TABLES:
        mine = {k: r for k, r in rows(out, table).items() if k[0] not in but}
        theirs = {k: r for k, r in rows(undisturbed, table).items() if k[0] not in but}
        assert mine == theirs, table


@strace
@pytest.mark.parametrize(
    ("faults", "says"),
    [
        (("openat:error=ENOENT",), "No such file or directory"),
        (("openat:error=EACCES:when=3+",), "Permission denied"),
        (("read:error=EIO:when=3",), "Input/output error"),
        (("read:retval=0:when=6+",), "gave 0 of its"),
    ],
    ids=["vanished", "forbidden", "once", "short"],
)
def test_a_file_that_the_system_does_not_give_is_an_io_row_and_is_tried_again(
    images: Path, tmp_path: Path, faults: tuple[str, ...], says: str
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    assert filterbank("run", config, "--output", tmp_path / "undisturbed").code == 0
    with injected(tmp_path, config, images / VICTIM, *faults) as said:
        assert said.code == 5, said
    row = rows(tmp_path / "out", "images")[(VICTIM,)]
    assert (row["status"], row["kind"]) == ("failed", "io"), row["error"]
    assert says in row["error"]
    assert str(tmp_path) not in row["error"]
    others_are_equal(tmp_path / "out", tmp_path / "undisturbed", VICTIM)
    assert filterbank("run", config).code == 0
    others_are_equal(tmp_path / "out", tmp_path / "undisturbed")


SWAP = """
import itertools, os, sys, time
folder, one, other = sys.argv[1:]
versions = [open(path, "rb").read() for path in (one, other)]
for i in itertools.count():
    for name in sorted(os.listdir(folder)):
        with open(folder + ".new", "wb") as file:
            file.write(versions[i % 2])
        os.replace(folder + ".new", os.path.join(folder, name))
        time.sleep(0.001)
"""
REWRITE = SWAP.replace('folder + ".new"', "os.path.join(folder, name)").replace("os.replace", "zip")
"""The first puts new files in place, the second writes into the old ones; both come back to a file
later than the clock of a file system ticks, for within one tick nobody can tell two states."""


@pytest.mark.parametrize("script", [SWAP, REWRITE], ids=["replaced", "rewritten"])
def test_files_that_change_while_they_are_read_are_one_version_or_a_failed_row(
    tmp_path: Path, script: str
) -> None:
    images = tmp_path / "in"
    versions = {}
    for value in (10, 200):
        path = tmp_path / f"{value}.png"
        Image.fromarray(np.full((64, 64), value, np.uint8)).save(path, compress_level=0)
        versions[hashlib.sha256(path.read_bytes()).hexdigest()] = value
    images.mkdir()
    for i in range(40):
        shutil.copy(tmp_path / "10.png", images / f"{i:02}.png")
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", filters=["identity"])
    arguments = [sys.executable, "-c", script, images, tmp_path / "10.png", tmp_path / "200.png"]
    with forked("run", config) as process:
        swapper = subprocess.Popen(arguments)
        try:
            assert finish(process).code in (0, 5)
        finally:
            swapper.kill()
            swapper.wait()
    found = rows(tmp_path / "out", "images")
    assert len(found) == 40
    means = {k[0]: r["mean"] for k, r in rows(tmp_path / "out", "statistics").items()}
    for (image,), row in found.items():
        if row["status"] == "done":
            assert means[image] == versions[row["fingerprint"]]
        else:
            assert row["kind"] in ("changed", "io") or script is REWRITE, row
    assert filterbank("run", config, "--fail-on", "none").code == 0
    assert filterbank("run", config, "--fail-on", "none", "--output", tmp_path / "fresh").code == 0
    others_are_equal(tmp_path / "out", tmp_path / "fresh")


def test_images_of_a_folder_that_cannot_be_listed_are_not_pruned(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(40):
        draw(images / f"sub/{i}.png", seed=i)
    draw(images / "locked/a.png", seed=1)
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    assert filterbank("run", config).code == 0
    real = os.scandir

    def refusing(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = filterbank("run", config, "--prune")
    assert (said.code, len(status_of(tmp_path / "out"))) == (3, 49), said
    assert "folder not readable (Permission denied)" in said.err
    assert filterbank("run", config).code == 0
    assert len(status_of(tmp_path / "out")) == 49

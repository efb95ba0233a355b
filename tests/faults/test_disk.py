"""A disk that is full or does not let us write: exit 7, a name and a reason, nothing torn."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from command import draw, filterbank, finish, rows, started, tree, write_config
from mounting import mounted, root_only

SIZES = int(os.environ.get("FILTERBANK_SIZES", "3"))
"""Sizes of a disk, and limits on the size of files, to run full; 30 in `make faults`."""

FULL = [f"size={400 + 600 * i // max(1, SIZES - 1)}k" for i in range(SIZES)]
INODES = [f"nr_inodes={8 + 12 * (i + 1) // max(1, SIZES // 3)}" for i in range(max(1, SIZES // 3))]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(130):
        draw(tmp_path / f"in/{i:03}.png", seed=i, size=24)
    return tmp_path / "in"


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def nothing_torn(root: Path) -> None:
    for table in ("images", "statistics", "regions", "maps"):
        if any((root / table).glob("*.parquet")):
            rows(root, table)


@root_only
@pytest.mark.parametrize("full", [*FULL, *INODES])
def test_a_full_disk_ends_with_7_and_with_space_the_rerun_completes_identically(
    full: str, images: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", full, "none"):
        config = write_config(tmp_path / "c.yaml", images, disk / "out")
        said = filterbank("run", config)
        assert (said.code, said.out) == (7, ""), said
        assert f"cannot write to {disk / 'out'}: No space left on device" in said.err
        assert len(said.err.strip().splitlines()) <= 2
        nothing_torn(disk / "out")
        remount(disk, "size=64m,nr_inodes=10000")
        assert filterbank("run", config).code == 0
        assert filterbank("run", config, "--output", tmp_path / "undisturbed").code == 0
        assert tree(disk / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize("most", [100_000 * (i + 1) // (SIZES // 3) for i in range(SIZES // 3)])
def test_a_limit_on_file_size_ends_with_7_and_without_traceback(
    most: int, images: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        said = filterbank("run", config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert said.code == 7, said
    assert f"cannot write to {tmp_path / 'out'}: File too large" in said.err
    assert "Traceback" not in said.err
    nothing_torn(tmp_path / "out")
    assert filterbank("run", config).code == 0
    assert filterbank("verify", tmp_path / "out").code == 0


@root_only
def test_a_read_only_disk_is_refused_before_the_first_pixel(images: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m,ro", "none"):
        config = write_config(tmp_path / "c.yaml", images, disk / "out")
        said = filterbank("run", config)
    assert said.code == 7
    assert f"cannot write to {disk / 'out'}: Read-only file system" in said.err


@root_only
def test_results_that_became_unwritable_are_refused_and_stay_as_they_are(
    images: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "-t", "tmpfs", "-o", "size=64m", "none"):
        config = write_config(tmp_path / "c.yaml", images, disk / "out")
        assert filterbank("run", config).code == 0
        before = tree(disk / "out")
        draw(images / "new.png", seed=1000)
        remount(disk, "ro")
        said = filterbank("run", config)
        assert said.code == 7, said
        assert tree(disk / "out") == before


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@root_only
def test_a_folder_of_somebody_else_is_refused_by_name(images: Path, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path.parent.is_relative_to(tempfile.gettempdir()):
            path.chmod(path.stat().st_mode | 0o055)
    (tmp_path / "out").mkdir(mode=0o755)
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*nobody, sys.executable, "-c", "import pipeline"], check=False).returncode:
        pytest.skip("this Python is not readable for others")
    with started("run", config, prefix=nobody) as process:
        said = finish(process)
    assert said.code == 7, said
    assert f"cannot write to {tmp_path / 'out'}: Permission denied" in said.err

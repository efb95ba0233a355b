"""Cut off from power at any moment, only what was synced is sure: that is enough to go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from command import Figures, draw, filterbank, forked, kill_group, tree, write_config
from mounting import mounted, root_only

from pipeline.commit import Staging

CUTS = int(os.environ.get("FILTERBANK_CUTS", "6"))
"""Power cuts to try, evenly among all; `make faults` tries them all: FILTERBANK_CUTS=0."""

POWERCUTS = int(os.environ.get("FILTERBANK_POWERCUTS", "0"))
"""Times to cut a real file system off; 50 in `make faults`."""

Tree = dict[str, bytes]
"""Files below a folder, by name."""


@dataclass
class Disk:
    """What a disk holds for sure: bytes of files that were synced, names in folders that were.

    A cut leaves that (`lazy`), or all names with what of their bytes was synced (`eager`): what a
    file system has written of its own accord lies between the two.
    """

    root: Path
    contents: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, tuple[int, bool]]] = field(default_factory=dict)
    cuts: list[tuple[str, Tree]] = field(default_factory=list)
    open: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What lies there from before is sure."""
        for path in (self.root, *self.root.rglob("*")):
            if path.exists():
                self._sync(path)

    def sync(self, handle: int) -> None:
        """Note that a file or folder is synced."""
        self._sync(Path(f"/proc/self/fd/{handle}").readlink())

    def _sync(self, path: Path) -> None:
        inode = path.stat().st_ino
        self.open.append(os.open(path, os.O_RDONLY))  # nobody else gets its number
        if path.is_dir():
            self.names[inode] = {e.name: (e.inode(), e.is_dir()) for e in os.scandir(path)}
        else:
            self.contents[inode] = path.read_bytes()

    def cut(self) -> None:
        """Note what would be left."""
        if self.root.exists():
            self.cuts.append(("lazy", dict(self._sure(self.root.stat().st_ino, ""))))
            self.cuts.append(("eager", dict(self._named())))

    def _sure(self, folder: int, prefix: str) -> Iterator[tuple[str, bytes]]:
        for name, (inode, is_folder) in self.names.get(folder, {}).items():
            if is_folder:
                yield from self._sure(inode, f"{prefix}{name}/")
            else:
                yield prefix + name, self.contents.get(inode, b"")

    def _named(self) -> Iterator[tuple[str, bytes]]:
        for path in self.root.rglob("*"):
            if path.is_file():
                name = path.relative_to(self.root).as_posix()
                yield name, self.contents.get(path.stat().st_ino, b"")


@contextmanager
def watched(root: Path) -> Iterator[Disk]:
    """Note what would be left of a folder before each change of it that is seen from here."""
    disk = Disk(root)

    def noting(name: str) -> AbstractContextManager[Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> object:
            disk.cut()
            answer = real(*arguments, **named)
            if name == "fsync":
                disk.sync(*arguments)
            return answer

        return patch.object(os, name, call)

    with noting("fsync"), noting("replace"), noting("rename"), noting("unlink"), noting("rmdir"):
        yield disk
    disk.cut()
    for handle in disk.open:
        os.close(handle)


def distinct(cuts: list[tuple[str, Tree]]) -> list[tuple[str, Tree]]:
    """Cuts that differ from the last one of their kind."""
    last: dict[str, Tree] = {}
    found = []
    for kind, left in cuts:
        if last.get(kind) != left:
            found.append((kind, left))
        last[kind] = left
    return found


def put(root: Path, left: Tree) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for name, data in left.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def survive(config: Path, root: Path) -> tuple[int, int]:
    """Run, and go on after power cuts; how many were tried, how many there are."""
    before = tree(root)
    with watched(root) as disk:
        assert filterbank("run", config).code == 0
    after = tree(root)
    for kind in ("lazy", "eager"):
        last = [left for each, left in disk.cuts if each == kind][-1]
        sure = {name: data for name, data in last.items() if name in after}
        assert sure == after, f"exit 0, and not all is durable ({kind})"
    cuts = distinct(disk.cuts)
    chosen = cuts[:: max(1, len(cuts) // CUTS) if CUTS else 1]
    for kind, left in chosen:
        put(root, left)
        for name, data in tree(root).items():
            if not name.startswith(".tmp/") and not name.endswith(".tmp"):
                assert data in (before.get(name), after.get(name)), f"{name} is torn ({kind})"
        said = filterbank("run", config)
        assert said.code == 0, said
        assert tree(root) == after
    return len(chosen), len(cuts)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    draw(tmp_path / "in/0.png", seed=0, size=8)
    return write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("changed", [False, True], ids=["fresh", "supersede"])
def test_what_was_synced_before_a_power_cut_is_whole_and_enough_to_resume_identically(
    changed: bool, config: Path, tmp_path: Path, figures: Figures
) -> None:
    if changed:
        assert filterbank("run", config).code == 0
        draw(tmp_path / "in/0.png", seed=1, size=8)
        draw(tmp_path / "in/1.png", seed=2, size=8)
    tried, count = survive(config, tmp_path / "out")
    assert tried >= 4
    figures(f"power cut at {tried} of {count} distinct states, survived {tried}")


def forget_to_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = SimpleNamespace(**{**vars(os), "fsync": lambda _: None})
    monkeypatch.setattr("pipeline.commit.os", careless)


def forget_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commit._sync", lambda _: None)


def forget_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    def path(self: Staging, final: str) -> Path:
        target = Path(str(self.root), final)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    monkeypatch.setattr(Staging, "path", path)
    monkeypatch.setattr(Staging, "commit", lambda self, remove=(): None)


@pytest.mark.parametrize("forget", [forget_to_sync, forget_folders, forget_the_journal])
def test_a_careless_writer_is_caught_by_these_cuts(
    forget: Callable[[pytest.MonkeyPatch], None],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a sync or without a journal, something is torn or lost: this test can fail."""
    forget(monkeypatch)
    with pytest.raises(AssertionError, match=r"torn|not all is durable"):
        survive(config, tmp_path / "out")


def ext4(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)


@pytest.mark.skipif(not POWERCUTS, reason="a real file system: FILTERBANK_POWERCUTS=50")
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is not installed")
@root_only
def test_what_ext4_had_written_at_a_power_cut_is_enough_to_resume_identically(
    images: Path, undisturbed: Path, tmp_path: Path, figures: Figures
) -> None:
    """The file behind the disk, copied while the run is stopped, is what a power cut leaves."""
    expected, chance = tree(undisturbed), random.Random(4)
    disk, copy, finished = tmp_path / "disk", tmp_path / "copy", 0
    config = write_config(tmp_path / "c.yaml", images, disk / "out")
    for _ in range(POWERCUTS):
        ext4(tmp_path / "disk.img")
        with mounted(disk, "-o", "loop", tmp_path / "disk.img"):
            with forked("run", config) as process:
                time.sleep(chance.uniform(0, 3))
                kill_group(process, signal.SIGSTOP)
                shutil.copy(tmp_path / "disk.img", tmp_path / "copy.img")
            time.sleep(0.1)
        with mounted(copy, "-o", "loop", tmp_path / "copy.img"):
            root = copy / "out"
            if (root / "run.json").exists():
                done = json.loads((root / "run.json").read_bytes())["exit_code"] == 0
                assert not done or tree(root) == expected, "exit 0, and not all is durable"
                finished += done
            for name, data in tree(root).items():
                if not name.startswith(".tmp/") and not name.endswith(".tmp"):
                    assert data == expected[name], f"{name} is torn"
            said = filterbank("run", config, "--output", root)
            assert said.code == 0, said
            assert tree(root) == expected
    figures(f"cut off {POWERCUTS} times, {finished} after the end, survived {POWERCUTS}")

"""A commit appears whole or not at all, wherever it is cut off."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from command import draw, filterbank, rows, tree, write_config
from dying import deaths, put

from pipeline import commit
from pipeline.commit import Staging, recover, replace_file
from pipeline.errors import WriteError
from pipeline.storage import place

STEP = int(os.environ.get("FILTERBANK_CUT_STEP", "3"))
"""Whole runs die at every third state of the folder; at each in `make faults`."""


class Cut(BaseException):
    """Stands for the end of the process where one is enough."""


def every_death(
    prepare: Callable[[], None], act: Callable[[], object], root: Path, step: int = 1
) -> Iterator[None]:
    """Put a folder into each state that an act leaves which dies at a change of it."""
    prepare()
    for left in deaths(root, act)[::step]:
        put(root, left)
        yield


def set_back(root: Path, to: Path | None) -> Callable[[], None]:
    def do() -> None:
        shutil.rmtree(root, ignore_errors=True)
        if to is None:
            root.mkdir()
        else:
            shutil.copytree(to, root)

    return do


# ---------------------------------------------------------------- commit.py by itself
def write_three(root: Path) -> None:
    staging = Staging(root, "s")
    staging.write("png/a/1.png", b"new picture")
    staging.write("maps/part.parquet", b"new maps")
    staging.write("images/part.parquet", b"new images")
    staging.commit(remove=["png/b/1.png"])


OLD = {"png/b/1.png": b"old picture", "images/part.parquet": b"old images"}
NEW = {
    "png/a/1.png": b"new picture",
    "maps/part.parquet": b"new maps",
    "images/part.parquet": b"new images",
}


@pytest.mark.parametrize("old", [{}, OLD], ids=["fresh", "superseding"])
def test_a_commit_cut_anywhere_is_whole_or_absent_after_recovery(
    old: dict[str, bytes], tmp_path: Path
) -> None:
    root, outcomes = tmp_path / "out", []

    def prepare() -> None:
        set_back(root, None)()
        for name, data in old.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)

    for _ in every_death(prepare, lambda: write_three(root), root):
        recover(root)
        assert tree(root) in (old, NEW)
        assert not list(root.rglob("*.tmp"))
        outcomes.append(tree(root) == NEW)
    assert outcomes == sorted(outcomes), "once decided, a commit stays decided"
    assert True in outcomes
    assert False in outcomes


def test_a_recovery_cut_anywhere_is_finished_by_the_next_one(tmp_path: Path) -> None:
    root, decided = tmp_path / "out", tmp_path / "decided"
    decided.mkdir()
    for name, data in OLD.items():
        (decided / name).parent.mkdir(parents=True)
        (decided / name).write_bytes(data)
    real, commit._finish = commit._finish, lambda root, name: None
    try:
        write_three(decided)
    finally:
        commit._finish = real
    for _ in every_death(set_back(root, decided), lambda: recover(root), root):
        recover(root)
        assert tree(root) == NEW
    assert not (root / ".tmp").exists()
    assert not (root / "png/b").exists()


def test_a_replaced_file_is_old_or_new_wherever_it_was_cut(tmp_path: Path) -> None:
    root = tmp_path / "out"
    prepare = set_back(root, None)

    def prepare_old() -> None:
        prepare()
        (root / "f.parquet").write_bytes(b"old")

    for _ in every_death(prepare_old, lambda: replace_file(root / "f.parquet", b"new"), root):
        assert (root / "f.parquet").read_bytes() in (b"old", b"new")
        recover(root)
        assert [path.name for path in root.iterdir()] == ["f.parquet"]


@pytest.mark.parametrize(
    "journal",
    [
        "{",
        "[]",
        "null",
        '{"files": [], "remove": 3}',
        '{"files": "ab", "remove": []}',
        '{"files": [], "remove": ["../mine"]}',
        '{"files": [], "remove": ["/etc/hosts"]}',
        '{"files": ["../up"], "remove": ["f"]}',
        '{"files": [".lock"], "remove": []}',
        '{"files": [""], "remove": [7]}',
        '{"files": ["a\\u0000"], "remove": ["\\ud800"]}',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("store", [False, True], ids=["folder", "store"])
def test_a_journal_that_no_commit_wrote_is_forgotten(
    store: bool, journal: str, tmp_path: Path
) -> None:
    root = place(f"memory://{tmp_path.name}/out" if store else tmp_path / "out")
    kept = root / "f", root.parent / "mine"
    for path in (*kept, root / ".tmp/s/up", root / ".tmp/s.json"):
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(journal.encode())
    assert recover(root) == 0
    assert all(path.read_bytes() == journal.encode() for path in kept)
    assert not (root / ".tmp").exists()
    assert not (root / "up").exists()
    assert not (root.parent / "up").exists()


def test_files_are_durable_before_the_journal_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every staged file and every folder on the way to it is synced before the first rename."""
    synced: list[Path] = []
    fsync, replace = os.fsync, os.replace

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink())
        fsync(handle)

    def stop(*_: object) -> None:
        raise Cut

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(Cut):
        write_three(tmp_path)
    staged = tmp_path / ".tmp/s"
    wanted = {staged, *staged.rglob("*")}
    assert len(wanted) == 8
    assert wanted <= set(synced)
    assert replace is not os.replace


def test_a_refused_write_leaves_no_temporary_file_and_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    path = re.escape(f"({tmp_path / 'run.json'}); move away what stands there")
    refused = pytest.raises(WriteError, match=rf"cannot write to {tmp_path}: Is a directory {path}")
    with refused, commit.writing(tmp_path):
        replace_file(tmp_path / "run.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free the disk"),
        (errno.EROFS, "allow it"),
        (errno.ENOTDIR, "move away what stands there, or name another output.path"),
        (errno.EFBIG, "allow larger files (ulimit -f)"),
        (errno.EIO, "look at the disk, or name another output.path"),
    ],
    ids=errno.errorcode.get,
)
def test_a_refused_write_names_what_helps(number: int, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(WriteError) as caught, commit.writing(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path))
    why = f"cannot write to {tmp_path}: {os.strerror(number)}; {remedy}, and run again: "
    assert str(caught.value) == why + "what was committed stays"


# ---------------------------------------------------------------- whole runs
@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(2):
        draw(tmp_path / f"in/{i}.png", seed=i, size=8)
    return tmp_path / "in"


def snapshot(root: Path) -> dict[str, object]:
    """What a stranger sees of each table at this moment: no row twice, none unreadable."""
    return {
        table: rows(root, table)
        for table in ("images", "statistics", "regions", "maps")
        if any((root / table).glob("*.parquet"))
    }


def change(images: Path) -> None:
    draw(images / "1.png", seed=11, size=8)


def touch(images: Path) -> None:
    os.utime(images / "1.png", ns=(5, 5))


def delete(images: Path) -> None:
    (images / "1.png").unlink()


def delete_all_but_a_new_one(images: Path) -> None:
    for path in sorted(images.iterdir()):
        path.unlink()
    draw(images / "z.png", seed=9, size=8)


@pytest.mark.parametrize(
    ("happens", "flags"),
    [
        (None, ()),
        (change, ()),
        (touch, ()),
        (delete, ("--prune", "--prune-limit", 100)),
        (delete_all_but_a_new_one, ("--prune", "--prune-limit", 100)),
        (None, ("--overwrite",)),
    ],
    ids=["fresh", "supersede", "touch", "prune", "prune a shard", "overwrite"],
)
def test_a_run_that_dies_at_any_change_of_the_folder_never_shows_a_torn_row_and_resumes_identically(
    happens: Callable[[Path], None] | None,
    flags: tuple[object, ...],
    images: Path,
    tmp_path: Path,
) -> None:
    root, before = tmp_path / "out", tmp_path / "before"
    if happens in (None, delete_all_but_a_new_one):
        (images / "0.png").unlink()  # one image is enough
    config = write_config(tmp_path / "c.yaml", images, root, filters=["laplacian"])
    if happens or flags:
        assert filterbank("run", config).code == 0
        root.rename(before)
    if happens:
        happens(images)
    if flags == ("--overwrite",):
        shutil.copytree(before, root)
        config = write_config(tmp_path / "d.yaml", images, root, filters=["identity"])
        said = filterbank("run", config)
        assert said.code == 3
        flags = ("--overwrite", said.err.split("another plan (")[1][:8])
    prepare = set_back(root, before if before.exists() else None)
    prepare()
    said = filterbank("run", config, *flags)
    assert said.code == 0, said
    expected, cuts = tree(root), 0

    def act() -> None:
        said = filterbank("run", config, *flags)
        assert said.code == 0, said

    last: object = None
    for _ in every_death(prepare, act, root, STEP):
        left = {name: data for name, data in tree(root).items() if not name.endswith(".tmp")}
        if left == last:  # it died while it worked on what nobody sees
            continue
        cuts, last = cuts + 1, left
        snapshot(root)
        act()
        assert tree(root) == expected
    assert cuts > 3
    assert filterbank("verify", root).code == 0


def test_a_careless_writer_is_caught_by_these_cuts(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written under final names, without a journal, output is found torn: the tests can fail."""
    root = tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", images, root, filters=["laplacian"])

    def path(self: Staging, final: str) -> Path:
        target = self.root / final
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    monkeypatch.setattr(Staging, "path", path)
    monkeypatch.setattr(Staging, "commit", lambda self, remove=(): None)
    torn = 0
    for _ in every_death(set_back(root, None), lambda: filterbank("run", config), root):
        try:
            snapshot(root)
        except pa.ArrowInvalid:
            torn += 1
    assert torn


def test_a_file_system_that_takes_no_advice_keeps_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, "no advice")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    staging = Staging(place(str(tmp_path)), "0")
    staging.write("a.txt", b"results")
    staging.commit()
    assert (tmp_path / "a.txt").read_bytes() == b"results"

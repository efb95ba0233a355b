"""The output folder notices damage, keeps what it can, and names what it cannot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import draw, filterbank, rows, status_of, tree, write_config

import pipeline.writers.parquet as tables
from pipeline import store
from pipeline.changes import compare
from pipeline.errors import Locked
from pipeline.lock import locked
from pipeline.types import Member, Source


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run over six images in two shards."""
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 4)
    for i in range(6):
        draw(tmp_path / f"in/{i:02}.png", seed=i, size=8)
    made = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    assert filterbank("run", made).code == 0
    return made


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_footer(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path) -> None:
    path.unlink()


VICTIMS = ["images/*.parquet", "statistics/*.parquet", "regions/*.parquet", "maps/*.parquet",
           "png/00.png/1/*.png", "filters.parquet"]  # fmt: skip


SEALED = ("images/*.parquet", "filters.parquet")
"""Small tables that are read whole at the start of each run."""


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("damage", [flip, cut, empty, delete])
def test_verify_names_damage_and_exits_9_and_a_run_repairs_what_a_size_shows(
    damage: Callable[[Path], None], victim: str, config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    before = tree(root)
    path = min(root.glob(victim))
    damage(path)
    said = filterbank("verify", root)
    name = path.relative_to(root).as_posix()
    if (damage, victim) == (delete, "images/*.parquet"):
        name = path.name + ": belongs to no shard"  # its tables are what is left of it
    assert said.code == 9
    assert name in said.out
    assert filterbank("run", config).code == 0
    if damage is flip and victim not in SEALED:
        assert filterbank("verify", root).code == 9, "only reading everything can notice"
        path.unlink()
        assert filterbank("run", config).code == 0
    assert tree(root) == before
    assert filterbank("verify", root).out == "every file is as it was committed\n"


def test_a_damaged_footer_of_an_images_part_is_noticed_and_the_shard_done_again(
    config: Path, tmp_path: Path
) -> None:
    before = tree(tmp_path / "out")
    flip_footer(sorted((tmp_path / "out/images").iterdir())[1])
    assert filterbank("run", config).code == 0
    assert tree(tmp_path / "out") == before


def test_another_table_under_the_name_of_an_images_part_is_named_and_goes(
    config: Path, tmp_path: Path
) -> None:
    """It has a seal of its own, and says nothing of a shard."""
    root = tmp_path / "out"
    before, name = tree(root), "images/part-0123456789abcdef.parquet"
    shutil.copy(root / "filters.parquet", root / name)
    said = filterbank("verify", root)
    assert (said.code, said.out.split(": ")[0]) == (9, name)
    assert "damaged images parts, whose rows are missing: 1\n" in filterbank("status", root).err
    assert filterbank("run", config).code == 0
    assert tree(root) == before


def test_a_flipped_bit_is_an_error_for_whoever_reads_with_checksums(
    config: Path, tmp_path: Path
) -> None:
    part = min((tmp_path / "out/statistics").iterdir())
    whole = tables.read_table(part)
    last = pq.read_metadata(part).row_group(0).column(whole.num_columns - 1)
    footer = last.data_page_offset + last.total_compressed_size  # numbers have no dictionary
    silent = []
    for at in range(4, footer, footer // 60):
        data = bytearray(part.read_bytes())
        data[at] ^= 4
        (tmp_path / "flipped.parquet").write_bytes(data)
        try:
            read = pq.ParquetFile(
                tmp_path / "flipped.parquet", page_checksum_verification=True
            ).read()
        except Exception:
            continue
        if not read.equals(whole):
            silent.append(at)
    assert not silent, "pages are protected"


def test_damage_to_vanished_images_is_named_and_their_rows_are_kept(
    config: Path, tmp_path: Path
) -> None:
    """Nobody can compute them again: what is left of them stays."""
    root = tmp_path / "out"
    before = rows(root, "statistics")
    gone = [f"{i:02}.png" for i in (3, 4, 5)]  # one of the first shard, all of the second
    for name in gone:
        (tmp_path / "in" / name).unlink()
    shutil.rmtree(root / "png")
    said = filterbank("run", config)
    assert said.code == 9, said
    assert said.err.count(": damaged, and its images are gone") == 4
    assert said.err.count("is lost: it is damaged, and its files are gone") == 2
    assert rows(root, "statistics") == before
    assert len(status_of(root)) == 6
    drawn = {path.name for path in (root / "png").iterdir()}
    assert drawn == {f"{i:02}.png" for i in range(3)}
    assert filterbank("run", config).out.startswith("nothing to do")
    said = filterbank("verify", root)
    assert (said.code, said.out.count("missing")) == (9, 4)


def test_verify_names_strays_and_status_counts_and_warns(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    (root / "png/stray.png").write_bytes(b"")
    assert "png/stray.png: belongs to no shard" in filterbank("verify", root).out
    found = json.loads(filterbank("status", root, "--json").out)
    assert (found["images"], found["done"], found["failed"], found["shards"]) == (6, 6, 0, 2)
    assert (found["device"], found["last_state"], found["last_exit_code"]) == ("cpu", "finished", 0)
    assert found["warnings"] == []
    min((root / "maps").iterdir()).unlink()
    assert "damaged shards, done again by the next run: 1\n" in filterbank("status", root).err


def test_status_warns_of_rows_by_different_versions(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "in/new.png", seed=100)
    monkeypatch.setattr("pipeline.stages.write.__version__", "9.9")
    assert filterbank("run", config).code == 0
    said = filterbank("status", tmp_path / "out")
    assert "rows were computed by different versions: " in said.err
    assert "6 by 0.1.0" in said.err
    versions = {row["version"] for row in rows(tmp_path / "out", "images").values()}
    assert versions == {"0.1.0", "9.9"}


def test_a_failed_row_of_another_version_is_tried_again() -> None:
    row = store.Stored("a", "s", ("a",), "failed", "corrupt", 1, 1, "f", "1")
    sources = [Source("a", (Member("/a", "a", 1, 1),), "")]

    def given(_fields: object, _key: str) -> tuple[()]:
        return ()

    again = {}
    for version in ("1", "2"):
        state = store.State(by_file={"a": (row,)}, shards={"s": (row,)})
        todo = compare(
            state,
            sources,
            (),
            given,
            version=version,
            retry_failed=False,
            attempts={},
            max_attempts=3,
        )
        again[version] = bool(todo.redo)
        done = replace(row, status="done", kind=None)
        state = store.State(by_file={"a": (done,)}, shards={"s": (done,)})
        todo = compare(
            state,
            sources,
            (),
            given,
            version=version,
            retry_failed=False,
            attempts={},
            max_attempts=3,
        )
        assert todo.done == 1
    assert again == {"1": False, "2": True}


def test_a_held_folder_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(Locked, match=r"in use by process \d+ on "),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_recovery_never_removes_what_it_does_not_know(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    mine = [root / "notes.txt", root / "images/readme.txt", root / "paper/figure.png"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    draw(tmp_path / "in/new.png", seed=100)
    assert filterbank("run", config).code == 0
    assert [path.read_text() for path in mine] == ["mine"] * 3

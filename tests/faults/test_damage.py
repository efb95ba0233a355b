"""Finished output that is damaged, inputs that changed unseen: `run --verify` redoes just that."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import Figures, draw, filterbank, rows, status_of, tree, write_config
from slices import place, write

from pipeline.fingerprint import _hash

DAMAGES = int(os.environ.get("FILTERBANK_DAMAGES", "6"))
"""Random damages to one finished folder; FILTERBANK_DAMAGES=100 in `make faults`."""

FLIPS = int(os.environ.get("FILTERBANK_FLIPS", "40"))
"""Random bits to flip in parts; FILTERBANK_FLIPS=300 in `make faults`."""

TABLES = ("statistics", "regions", "maps")
INTACT = "every file is as it was committed\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run over four images in two shards."""
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 2)
    for i in range(4):
        draw(tmp_path / f"in/{i}.png", seed=i, size=8)
    made = write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")
    assert filterbank("run", made).code == 0
    return made


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def empty(path: Path, _: random.Random) -> None:
    path.write_bytes(b"")


def delete(path: Path, _: random.Random) -> None:
    path.unlink()


def stamps(root: Path) -> dict[str, int]:
    return {name: (root / name).stat().st_mtime_ns for name in tree(root)}


def damage_and_repair(config: Path, root: Path, times: int) -> None:
    """Damage a random file; `verify` must name it, and `run --verify` put it back."""
    before, chance = tree(root), random.Random(10)
    for _ in range(times):
        name = chance.choice(sorted(before))
        damage = chance.choice([flip, flip, cut, empty, delete])
        damage(root / name, chance)
        said = filterbank("verify", root)
        assert said.code == 9, (name, damage, said)
        assert Path(name).name in said.out, (name, damage, said)
        said = filterbank("run", config, "--verify")
        assert said.code == 0, (name, damage, said)
        assert tree(root) == before, (name, damage)
    assert filterbank("verify", root).out == INTACT


def test_verify_names_any_damaged_file_and_run_verify_repairs_it(
    config: Path, tmp_path: Path, figures: Figures
) -> None:
    damage_and_repair(config, tmp_path / "out", DAMAGES)
    figures(f"{DAMAGES} random damages, all named and repaired")


def test_careless_verifying_is_caught_by_such_damage(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes alone tell of no flipped bit: these tests can fail."""
    monkeypatch.setattr("pipeline.verify.damage", lambda *_: None)
    with pytest.raises(AssertionError):
        damage_and_repair(config, tmp_path / "out", 20)


def test_what_cannot_be_read_is_not_damaged_and_nothing_is_lost(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that passes: neither `verify` nor a run takes a table for torn, or drops rows."""
    root = tmp_path / "out"
    (tmp_path / "in/0.png").unlink()  # its rows can never be made again
    before = tree(root)

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    said = []
    with monkeypatch.context() as failing:
        failing.setattr(hashlib, "file_digest", refuse)
        said += [filterbank("verify", root), filterbank("run", config, "--verify")]
    with monkeypatch.context() as failing:
        failing.setattr(Path, "stat", refuse)
        said += [filterbank("run", config)]
    with monkeypatch.context() as failing:
        failing.setattr(Path, "read_bytes", refuse)
        said += [filterbank("verify", root), filterbank("status", root)]
    assert [one.code for one in said] == [7] * 5, said
    assert all("Input/output error" in one.err for one in said), said
    assert all(one.out == "" for one in said), said
    assert tree(root) == before
    assert filterbank("verify", root).out == INTACT


def swap(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


@pytest.mark.parametrize("table", ["images", "statistics", "maps"])
def test_swapped_parts_are_noticed_and_repaired(table: str, config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    before, parts = tree(root), sorted((root / table).iterdir())
    swap(*parts)
    said = filterbank("verify", root)
    assert said.code == 9
    assert all(f"{table}/{part.name}: " in said.out for part in parts)
    assert filterbank("run", config, "--verify").code == 0
    assert tree(root) == before


def test_an_images_part_put_back_from_an_older_copy_is_noticed_and_repaired(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    older = tree(root)
    draw(tmp_path / "in/0.png", seed=100, size=8)
    assert filterbank("run", config).code == 0
    after = tree(root)
    name = next(n for n in older if n.startswith("images/") and older[n] != after[n])
    (root / name).write_bytes(older[name])
    assert filterbank("verify", root).code == 9
    assert filterbank("run", config).code == 0  # the file is not what this part says
    assert tree(root) == after


def test_run_verify_touches_damaged_shards_only(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    before, times = tree(root), stamps(root)
    victim = min((root / "statistics").iterdir())
    flip(victim, random.Random(1))
    said = filterbank("plan", config, "--verify", "--json")
    assert said.code == 0
    assert tree(root) != before, "a plan repairs nothing"
    assert filterbank("run", config, "--verify").out.startswith("done 2, failed 0, unchanged 2")
    assert tree(root) == before
    other = max((root / "images").iterdir()).name
    rewritten = {name for name, time in stamps(root).items() if time != times[name]}
    assert f"statistics/{victim.name}" in rewritten
    assert not any(name.endswith(other) for name in rewritten)
    assert filterbank("run", config, "--verify").out.startswith("nothing to do")


def test_bytes_that_changed_with_size_and_time_kept_are_found_by_run_verify(
    config: Path, tmp_path: Path
) -> None:
    root, path = tmp_path / "out", tmp_path / "in/3.png"
    old, kept = path.read_bytes(), path.stat()
    seed = next(
        seed
        for seed in range(50, 500)
        if len(draw(path, seed, size=8).read_bytes()) == len(old) and path.read_bytes() != old
    )
    draw(path, seed, size=8)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert filterbank("run", config).out.startswith("nothing to do"), "a run looks at times"
    _hash.cache_clear()  # a command starts with it empty
    times = stamps(root)
    assert filterbank("run", config, "--verify").out.startswith("done 1, failed 0, unchanged 3")
    assert filterbank("run", config, "--output", tmp_path / "fresh").code == 0
    assert tree(root) == tree(tmp_path / "fresh")
    untouched = min((root / "images").iterdir()).name, "filters.parquet"
    now = stamps(root)
    assert all(now[name] == times[name] for name in now if name.endswith(untouched))


def test_what_nobody_can_make_again_is_named_and_answers_9(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    gone = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()
    for image in gone:
        (tmp_path / "in" / image).unlink()
    victim = min((root / "statistics").iterdir())
    flip(victim, random.Random(1))
    left = tree(root)
    said = filterbank("run", config, "--verify")
    assert said.code == 9
    assert f"statistics/{victim.name}: damaged, and its images are gone" in said.err
    assert tree(root) == left, "what is left of it stays"
    assert filterbank("run", config, "--verify", "--prune", "--prune-limit", 100).code == 0
    assert set(status_of(root)).isdisjoint(gone)
    assert filterbank("verify", root).out == INTACT


@pytest.mark.parametrize(
    ("table", "damage", "flags"),
    [("statistics", flip, ["--verify"]), ("maps", delete, [])],
    ids=["statistics", "maps"],
)
def test_of_an_image_that_is_gone_all_stays_that_no_damaged_table_held(
    table: str,
    damage: Callable[[Path, random.Random], None],
    flags: list[str],
    config: Path,
    tmp_path: Path,
) -> None:
    """What is lost is said by the run, its exit code, log.jsonl and the image's own row."""
    root = tmp_path / "out"
    before, all_rows = tree(root), {name: rows(root, name) for name in TABLES}
    gone = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()[0]
    (tmp_path / "in" / gone).rename(tmp_path / gone)
    damage(min((root / table).iterdir()), random.Random(1))
    assert f"{gone}: its rows in {table} are lost" in filterbank("plan", config, *flags).err
    said = filterbank("run", config, *flags)
    assert said.code == 9, said
    assert said.out.startswith("done 1, failed 0, unchanged 2"), said
    assert f"{gone}: its rows in {table} are lost" in said.err
    assert f"{gone}: its rows in {table} are lost" in (root / "log.jsonl").read_text()
    failed = {image: how for image, how in status_of(root).items() if how != ("done", None)}
    assert failed == {gone: ("failed", "io")}
    error = f"its rows in {table} were lost with a damaged file"
    assert rows(root, "images")[gone,]["error"] == error
    for name in TABLES:
        lost = {key for key in all_rows[name] if key[0] == gone and name == table}
        kept = {key: row for key, row in all_rows[name].items() if key not in lost}
        assert rows(root, name) == kept, name
        assert bool(lost) == (name == table)
    assert {name for name in before if name.startswith("png/")} <= tree(root).keys()
    assert filterbank("verify", root).out == INTACT
    said = filterbank("run", config, "--verify")
    assert (said.code, said.out.startswith("nothing to do")) == (0, True), said
    (tmp_path / gone).rename(tmp_path / "in" / gone)
    write_config(config, tmp_path / "in", root, run={"max_attempts": 1})
    assert filterbank("run", config).out.startswith("done 1, failed 0, unchanged 3")
    assert tree(root) == before


def test_images_that_are_gone_and_stood_in_a_damaged_images_part_are_named(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    gone = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()[0]
    (tmp_path / "in" / gone).unlink()
    flip(min((root / "images").iterdir()), random.Random(1))
    said = filterbank("run", config)
    assert said.code == 9, said
    assert f"{gone}: its rows are lost: the images part is damaged" in said.err
    assert f"{gone}: its rows are lost" in (root / "log.jsonl").read_text()
    assert filterbank("run", config).out.startswith("nothing to do")
    assert len(status_of(root)) == 3
    assert filterbank("verify", root).out == INTACT


@pytest.mark.parametrize(
    ("damage", "flags"), [(flip, ["--verify"]), (cut, [])], ids=["flipped", "cut"]
)
def test_a_damaged_picture_of_an_image_that_is_gone_goes_and_its_rows_stay(
    damage: Callable[[Path, random.Random], None], flags: list[str], config: Path, tmp_path: Path
) -> None:
    """That it is lost is said by the run, its exit code, log.jsonl and the image's own row."""
    root = tmp_path / "out"
    before, all_rows = tree(root), {name: rows(root, name) for name in TABLES}
    gone = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()[0]
    (tmp_path / "in" / gone).rename(tmp_path / gone)
    picture = min((root / "png" / gone).rglob("*.png"))
    damage(picture, random.Random(1))
    lost = f"{gone}: {picture.relative_to(root)} is lost: it is damaged, and its files are gone"
    assert lost in filterbank("plan", config, *flags).err
    said = filterbank("run", config, *flags)
    assert said.code == 9, said
    assert lost in said.err
    assert lost in (root / "log.jsonl").read_text()
    assert not picture.exists()
    assert {name: rows(root, name) for name in TABLES} == all_rows
    failed = {image: how for image, how in status_of(root).items() if how != ("done", None)}
    assert failed == {gone: ("failed", "io")}
    assert rows(root, "images")[gone,]["error"] == "its damaged files in png were lost"
    assert filterbank("verify", root).out == INTACT
    said = filterbank("run", config, "--verify")
    assert (said.code, said.out.startswith("nothing to do")) == (0, True), said
    (tmp_path / gone).rename(tmp_path / "in" / gone)
    assert filterbank("run", config).out.startswith("done 1, failed 0, unchanged 3")
    assert tree(root) == before


def test_what_an_image_that_is_gone_loses_later_is_named_too(config: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    gone = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()[0]
    (tmp_path / "in" / gone).unlink()
    min((root / "maps").iterdir()).unlink()
    assert filterbank("run", config).code == 9
    pictures = sorted((root / "png" / gone).rglob("*.png"))
    for picture in pictures:
        picture.unlink()
        said = filterbank("run", config)
        assert said.code == 9, said
        assert f"{gone}: {picture.relative_to(root)} is lost" in said.err
        assert f"{gone}: its rows" not in said.err
    error = "its rows in maps were lost with a damaged file; its damaged files in png were lost"
    assert rows(root, "images")[gone,]["error"] == error
    assert len(pictures) == 2


def young(path: Path) -> None:
    future = path.stat().st_mtime + 10_000
    os.utime(path, (future, future))


def test_a_damaged_picture_of_an_image_that_waits_is_made_anew_once_it_does_not(
    config: Path, tmp_path: Path
) -> None:
    root = tmp_path / "out"
    before = tree(root)
    waiting = pq.read_table(min((root / "images").iterdir())).column("image").to_pylist()
    times = (tmp_path / "in" / waiting[0]).stat().st_mtime_ns
    for picture in (root / "png" / waiting[0]).rglob("*.png"):
        picture.unlink()
    for image in waiting:
        young(tmp_path / "in" / image)
    write_config(config, tmp_path / "in", root, input={"min_age": 0.001})
    said = filterbank("run", config, "--verify")
    assert (said.code, "damaged, and its images have to wait" in said.err) == (9, True), said
    assert "gone" not in said.err
    os.utime(tmp_path / "in" / waiting[1], ns=(times, times))
    said = filterbank("run", config)
    assert (said.code, said.out[:6]) == (9, "done 1"), said
    assert said.err.count(" is lost: it is damaged, and its files have to wait") == 2
    assert rows(root, "images")[waiting[0],]["status"] == "failed"
    os.utime(tmp_path / "in" / waiting[0], ns=(times, times))
    said = filterbank("run", config)
    assert (said.code, said.out[:6], said.err) == (0, "done 1", ""), said
    assert status_of(root) == dict.fromkeys(status_of(root), ("done", None))
    assert before.keys() == tree(root).keys()


def test_what_is_listed_and_not_opened_yet_is_not_called_lost_with_an_images_part(
    tmp_path: Path,
) -> None:
    """Images of several files, of which some wait and --limit leaves some for later."""
    bands = [draw(tmp_path / f"in/{n}_{band}.png", n, size=8) for n in range(4) for band in "rg"]
    root, joined = tmp_path / "out", {"include": ["{scene}_{band}.png"], "join": "band"}
    for path in bands:
        os.utime(path, (1000, 1000))
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", root, input={**joined, "min_age": 1}
    )
    assert filterbank("run", config).code == 0
    before = rows(root, "statistics")
    flip(min((root / "images").iterdir()), random.Random(1))
    young(bands[-1])
    said = filterbank("run", config, "--limit", 1)
    assert (said.code, "lost" in said.err) == (0, False), said
    os.utime(bands[-1], (1000, 1000))
    assert filterbank("run", config).code == 0
    assert rows(root, "statistics") == before
    for part in (root / "images").iterdir():
        flip(part, random.Random(1))
    for path in bands[:2]:
        path.unlink()
    said = filterbank("run", config, "--limit", 1)
    assert said.code == 9, said
    assert said.err.count("are lost: the images part is damaged") == 1
    assert "0_{band}.png: its rows are lost" in said.err


def test_of_series_only_such_are_called_lost_as_no_listed_slice_can_be_of(tmp_path: Path) -> None:
    folder, root, pixels = tmp_path / "in", tmp_path / "out", np.zeros((8, 8), np.uint16)
    for name, z in product("ab", range(3)):
        write(folder / f"{name}{z}.dcm", pixels, **place(z), SeriesInstanceUID=f"1.{ord(name)}")
    config = write_config(tmp_path / "c.yaml", folder, root)
    assert filterbank("run", config).code == 0
    flip(min((root / "images").iterdir()), random.Random(1))
    assert "lost" not in filterbank("plan", config, "--limit", 1).err
    for z in (0, 1):
        (folder / f"b{z}.dcm").unlink()
    assert "lost" not in filterbank("plan", config).err, "b2.dcm was of it"
    (folder / "b2.dcm").unlink()
    said = filterbank("plan", config).err
    assert said.count("#series=") == said.count("its rows are lost: the images part") == 1, said


def test_a_flipped_bit_never_reads_as_other_numbers(
    config: Path, tmp_path: Path, figures: Figures
) -> None:
    """Anywhere in a part; pages are protected by checksums, their places by what must fit them."""
    chance = random.Random(11)
    parts = sorted((tmp_path / "out").glob("*/part-*.parquet"))
    copy, silent, same = tmp_path / "flipped.parquet", [], 0
    for _ in range(FLIPS):
        part = chance.choice(parts)
        shutil.copy(part, copy)
        flip(copy, chance)
        try:
            read = pq.ParquetFile(copy, page_checksum_verification=True).read()
        except Exception:
            continue
        if not same_values(read, pq.read_table(part)):
            silent.append(part.name)
        same += 1
    assert not silent
    figures(f"{FLIPS} flipped bits, {FLIPS - same} are errors, {same} change no number")


def same_values(read: pa.Table, whole: pa.Table) -> bool:
    """Whether columns that both have hold the same; one whose name was hit is missed by name."""
    common = [name for name in whole.column_names if name in read.column_names]
    return all(read.column(n).to_pylist() == whole.column(n).to_pylist() for n in common)

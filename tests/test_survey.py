"""A second run does what changed and nothing else; what it leaves is what a fresh run would."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Said, draw, filterbank, rows, status_of, tree, write_config
from running import look

from pipeline import store
from pipeline.changes import TRANSIENT, compare
from pipeline.types import Member, Source

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("images", "statistics", "regions", "maps")


class Line:
    """A folder of images, a config, an output; and what comes out of running it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images, self.out = folder, folder / "in", folder / "out"
        for i in range(5):
            draw(self.images / f"{i}.png", seed=i)
        self.config = write_config(folder / "c.yaml", self.images, self.out)

    def run(self, *flags: object, expect: int = 0) -> Said:
        said = filterbank("run", self.config, *flags)
        assert said.code == expect, said
        return said

    def plan(self, *flags: object) -> dict[str, Any]:
        said = filterbank("plan", self.config, "--json", *flags)
        assert said.code == 0, said
        return dict(json.loads(said.out))

    def fresh(self) -> Path:
        """The output of a run that knows nothing of earlier ones."""
        out = self.folder / "fresh"
        shutil.rmtree(out, ignore_errors=True)
        assert filterbank("run", self.config, "--output", out).code in (0, 5)
        return out

    def equals_fresh(self, *, except_for: str = "") -> None:
        """Every row and picture is that of a fresh run; images that are gone may stay."""
        fresh = self.fresh()
        for table in TABLES:
            here = {k: r for k, r in rows(self.out, table).items() if k[0] != except_for}
            assert here == rows(fresh, table), table
        gone = f"png/{except_for}/"
        here = {n for n in tree(self.out) if not (except_for and n.startswith(gone))}
        assert {n for n in here if n.startswith("png/")} == {
            n for n in tree(fresh) if n.startswith("png/")
        }
        assert filterbank("verify", self.out).code == 0


@pytest.fixture
def line(tmp_path: Path) -> Line:
    made = Line(tmp_path)
    made.run()
    return made


def mtimes(root: Path) -> dict[str, int]:
    return {n: (root / n).stat().st_mtime_ns for n in tree(root)}


def test_nothing_new_rewrites_nothing(line: Line) -> None:
    before = mtimes(line.out)
    assert line.run().out.startswith("nothing to do: 5 images")
    assert mtimes(line.out) == before


def test_an_added_image_goes_into_a_part_of_its_own(line: Line) -> None:
    before = tree(line.out)
    draw(line.images / "new.png", seed=99)
    assert line.plan()["new"] == 1
    assert "done 1, failed 0, unchanged 5" in line.run().out
    assert before.items() <= tree(line.out).items()
    line.equals_fresh()


@pytest.mark.parametrize("size", [16, 20], ids=["same shape", "other shape"])
def test_a_changed_image_keeps_its_shard_and_changes_its_own_rows_only(
    line: Line, size: int
) -> None:
    before = rows(line.out, "statistics")
    draw(line.images / "2.png", seed=99, size=size)
    assert (line.plan()["changed"], line.plan()["new"]) == (1, 0)
    line.run()
    after = rows(line.out, "statistics")
    assert {key[0] for key in after if after[key] != before[key]} == {"2.png"}
    assert len(list((line.out / "images").iterdir())) == 1
    line.equals_fresh()


def test_a_change_that_keeps_the_size_in_bytes_is_seen_by_its_time(tmp_path: Path) -> None:
    made = Line(tmp_path)
    (made.images / "0.npy").write_bytes(npy(1))
    made.run()
    (made.images / "0.npy").write_bytes(npy(2))
    assert made.plan()["changed"] == 1
    made.run()
    made.equals_fresh()


def npy(value: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.full((8, 8), value, np.uint8))
    return file.getvalue()


def test_touched_images_of_equal_bytes_rewrite_the_images_part_only(line: Line) -> None:
    before = mtimes(line.out)
    os.utime(line.images / "3.png", ns=(7, 7))
    assert (line.plan()["touched"], line.plan()["shards"]) == (1, 0)
    line.run()
    changed = {name for name, at in mtimes(line.out).items() if before[name] != at}
    assert {name.split("/")[0] for name in changed} == {"images"}
    line.equals_fresh()
    assert tree(line.out) == tree(line.folder / "fresh")
    assert line.run().out.startswith("nothing to do")


def test_vanished_images_stay_until_pruned_and_then_only_they_go(line: Line) -> None:
    (line.images / "4.png").unlink()
    before = tree(line.out)
    assert line.plan()["vanished"] == 1
    assert line.run().out.startswith("nothing to do")
    assert tree(line.out) == before
    said = line.run("--prune", expect=3)
    assert "--prune would remove 1 of 5 images, more than 10%" in said.err
    assert tree(line.out) == before
    assert "pruned 1" in line.run("--prune", "--prune-limit", 20).out
    line.equals_fresh()
    assert not (line.out / "png/4.png").exists()


def test_prune_refuses_when_nothing_is_listed(line: Line) -> None:
    shutil.rmtree(line.images)
    line.images.mkdir()
    line.run(expect=4)
    line.run("--prune", "--prune-limit", 100, expect=3)
    before = tree(line.out)
    said = line.run("--prune", "--prune-limit", 100, "--if-empty", "skip", expect=3)
    assert "nothing is listed" in said.err
    assert line.run("--if-empty", "skip").code == 0
    assert tree(line.out) == before


def test_a_missing_root_is_not_an_empty_one(line: Line) -> None:
    shutil.rmtree(line.images)
    assert "does not exist" in line.run("--if-empty", "skip", expect=4).err


def test_a_renamed_image_is_a_new_one_and_the_old_name_vanished(line: Line) -> None:
    (line.images / "1.png").rename(line.images / "one.png")
    assert (line.plan()["new"], line.plan()["vanished"]) == (1, 1)
    line.run()
    line.equals_fresh(except_for="1.png")


def test_a_changed_image_that_is_now_corrupt_loses_its_old_rows_and_nobody_else(
    line: Line,
) -> None:
    others = {n: d for n, d in tree(line.out).items() if n.startswith("png/")}
    good = (line.images / "1.png").read_bytes()
    (line.images / "1.png").write_bytes(good[: len(good) // 2])
    line.run(expect=5)
    assert status_of(line.out)["1.png"] == ("failed", "corrupt")
    assert "1.png" not in {key[0] for key in rows(line.out, "statistics")}
    assert "1.png" not in {key[0] for key in rows(line.out, "maps")}
    assert not (line.out / "png/1.png").exists()
    kept = {n: d for n, d in others.items() if not n.startswith("png/1.png/")}
    assert kept == {n: d for n, d in tree(line.out).items() if n.startswith("png/")}
    line.equals_fresh()
    (line.images / "1.png").write_bytes(good)
    line.run()
    line.equals_fresh()


# ---------------------------------------------------------------- failures again
def test_a_file_known_to_fail_is_left_alone_but_still_answers_5(line: Line) -> None:
    (line.images / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    line.run(expect=5)
    before = tree(line.out)
    assert "(1 failed)" in line.run(expect=5).out
    assert line.run("--fail-on", "new").code == 0
    assert line.run("--fail-on", "none").code == 0
    assert line.plan("--retry-failed")["retry"] == 1
    assert "failed 1 (1 corrupt)" in line.run("--retry-failed", expect=5).out
    assert line.run("--retry-failed", "--fail-on", "new").code == 0
    assert tree(line.out) == before


@pytest.mark.parametrize("kind", sorted(TRANSIENT))
def test_passing_failures_are_tried_on_each_run_until_their_attempts_are_used_up(kind: str) -> None:
    row = store.Stored("a", "s", ("a",), "failed", kind, 1, 1, "f", "1")
    state = store.State(by_file={"a": (row,)}, shards={"s": (row,)})

    def given(_fields: object, _key: str) -> tuple[()]:
        return ()

    def redone(attempts: int, *, retry: bool = False) -> bool:
        todo = compare(
            state, [Source("a", (Member("/a", "a", 1, 1),), "")], (), given, version="1",
            retry_failed=retry,
            attempts={"a": attempts}, max_attempts=3,
        )  # fmt: skip
        return bool(todo.redo)

    assert [redone(1), redone(2), redone(3), redone(3, retry=True)] == [True, True, False, True]


def test_too_many_failures_stop_the_run_with_6(line: Line) -> None:
    for i in range(3):
        (line.images / f"bad{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert line.run("--max-failed", 3, expect=5).code == 5
    other = line.folder / "other"
    said = line.run("--max-failed", 2, "--output", other, expect=6)
    assert "3 images failed, more than run.max_failed (2)" in said.err
    assert line.run("--max-failed", "10%", "--output", other / "2", expect=6).code == 6
    record = json.loads((other / "run.json").read_bytes())
    assert (record["exit_code"], record["state"]) == (6, "stopped")


# ---------------------------------------------------------------- trials and waiting
def test_limit_takes_the_first_new_files_and_the_rest_follows(line: Line) -> None:
    out = line.folder / "trial"
    assert "done 2" in line.run("--output", out, "--limit", 2).out
    assert sorted(status_of(out)) == ["0.png", "1.png"]
    assert "done 3, failed 0, unchanged 2" in line.run("--output", out).out


def test_young_files_wait_for_the_next_run(line: Line) -> None:
    for i in range(5):
        os.utime(line.images / f"{i}.png", ns=(7, 7))
    line.config = write_config(
        line.folder / "c.yaml", line.images, line.out, input={"min_age": "1h"}
    )
    draw(line.images / "young.png", seed=5)
    assert line.plan()["waiting"] == 1
    assert "waiting 1" in line.run().out
    assert "young.png" not in status_of(line.out)
    os.utime(line.images / "0.png")
    said = line.run()
    assert "nothing to do: 5 images are done or known to fail (0 failed); waiting 2;" in said.out
    os.utime(line.images / "0.png", ns=(7, 7))
    os.utime(line.images / "young.png", ns=(7, 7))
    line.run()
    assert status_of(line.out)["young.png"] == ("done", None)


# ---------------------------------------------------------------- other plans
def test_results_of_another_plan_are_refused_with_the_difference(line: Line) -> None:
    before = tree(line.out)
    line.config = write_config(line.folder / "d.yaml", line.images, line.out, boundary="nearest")
    said = line.run(expect=3)
    assert "boundary: " in said.err
    assert "nearest" in said.err
    assert tree(line.out) == before


def test_overwrite_deletes_that_plan_only_and_leaves_what_a_fresh_run_would(line: Line) -> None:
    line.config = write_config(line.folder / "d.yaml", line.images, line.out, boundary="nearest")
    old = line.run(expect=3).err.split("another plan (")[1][:8]
    line.run("--overwrite", "0" * 8, expect=3)
    line.run("--overwrite", old[:4], expect=2)
    line.run("--overwrite", old)
    assert tree(line.out) == tree(line.fresh())
    assert line.run("--overwrite", old).out.startswith("nothing to do")


def test_parts_of_two_plans_in_one_folder_are_refused_and_one_can_be_overwritten(
    line: Line,
) -> None:
    draw(line.images / "new.png", seed=99)
    other = line.folder / "other"
    config = write_config(line.folder / "d.yaml", line.images, other, boundary="nearest")
    assert filterbank("run", config).code == 0
    for table in TABLES:
        shutil.copytree(other / table, line.out / table, dirs_exist_ok=True)
    said = line.run(expect=3)
    assert "holds parts of several plans" in said.err
    foreign = json.loads((other / "run.json").read_bytes())["digest"]
    line.run("--overwrite", foreign[:8])
    line.equals_fresh()


def test_a_digest_in_the_path_gives_each_plan_its_folder(line: Line) -> None:
    roots = []
    for boundary in ("nearest", "reflect"):
        line.config = write_config(
            line.folder / "d.yaml", line.images, line.folder / "by/{digest}", boundary=boundary
        )
        line.run()
        digest = line.plan()["digest"]
        roots.append(line.folder / "by" / digest[:16])
        assert roots[-1].is_dir()
    assert roots[0] != roots[1]


def test_an_input_inside_the_output_is_refused(line: Line) -> None:
    said = line.run("--input", line.out / "png", expect=3)
    assert "lies in output.path" in said.err


# ---------------------------------------------------------------- no torch
def test_torch_is_not_imported_where_no_pixel_is_needed(line: Line) -> None:
    """One process for all: it tells after each command whether torch is there."""
    os.utime(line.images / "3.png", ns=(7, 7))  # touched: the images part is rewritten
    (line.images / "4.png").unlink()
    config, out = line.config, line.out
    words = [f"run {config}", f"plan {config}", f"check {config}", f"status {out}"]
    words += [f"verify {out}", f"export {out} {line.folder}/wide.csv", "list filters", "schema"]
    words += ["doctor", "--help"]
    code = (
        "import sys; from command import filterbank as f\n"
        "for words in sys.argv[1:]: print(f(*words.split()).code, 'torch' in sys.modules, words)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True, text=True, timeout=60, check=True, cwd=ROOT / "tests",
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"0 False {said}" for said in words], done.stderr


def test_a_share_of_failures_is_a_share_of_the_listed_files(line: Line) -> None:
    """One bad newcomer of six is 17 %, not all of what this run had to do."""
    line.run()
    (line.images / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    line.run("--max-failed", "20%", expect=5)


def test_tries_are_forgotten_once_a_file_was_done(line: Line) -> None:
    path = line.images / "0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    line.run(expect=5)
    assert json.loads((line.out / "run.json").read_text())["attempts"] == {"0.png": 1}
    path.write_bytes(whole)
    line.run()
    line.run()
    assert json.loads((line.out / "run.json").read_text())["attempts"] == {}


@pytest.mark.parametrize("glob", ["[z-a]*.png", "a[].png"])
def test_a_class_that_is_none_is_taken_literally(line: Line, glob: str) -> None:
    (line.images / "a[].png").write_bytes((line.images / "0.png").read_bytes())
    config = line.config.read_text().replace("input:\n", f"input:\n  include: ['{glob}']\n")
    line.config.write_text(config)
    assert filterbank("run", line.config).code in (0, 4)


def test_plan_says_what_computes(line: Line) -> None:
    assert line.plan("--threads", 3)["threads"] == 3
    apart = line.plan("--threads", 2, "--executor", "processes", "--memory", "1500MiB")
    assert apart["processes"] == 1, "memory for one"


def test_memory_bounds_what_is_computed_at_once(line: Line) -> None:
    """The least is what processes take before the first image; less is refused."""
    fresh = ("--output", line.folder / "fresh", "--threads", 4, "--workers", 1)
    least = 1100 << 20
    plenty = line.plan(*fresh, "--batch", 1)
    scarce = line.plan(*fresh, "--batch", 5, "--memory", least + (1 << 20))
    assert plenty["threads"] == 4
    assert scarce["threads"] == 1
    assert least < scarce["memory_bytes"] <= least + (1 << 20)
    assert scarce["failures"] == []
    refused = filterbank("plan", line.config, *fresh, "--memory", "1000MiB")
    assert refused.code == 3
    assert re.search(r"is 1000.0 MiB, .* take 1.1 GiB .* or lower run.workers", refused.err)
    assert filterbank("plan", line.config, *fresh, "--memory", "1100MiB").code == 3


def test_fewer_readers_where_memory_is_scarce(line: Line) -> None:
    """Unless the config says how many; one there is, as it is what a hostile file may end."""
    plans = [
        look(line.config, line.folder / "fresh", workers="auto", memory=memory).plan
        for memory in (8 << 30, 2 << 30, 1200 << 20)
    ]
    assert [plan.workers for plan in plans] == [min(4, len(os.sched_getaffinity(0))), 1, 1]
    assert plans[1].room > 0.9 * 2**30


def test_processes_and_their_driver_keep_to_the_memory(line: Line) -> None:
    draw(line.images / "large.png", seed=9, size=1500)
    fresh = ("--output", line.folder / "fresh", "--executor", "processes", "--workers", 2)
    for memory in ("1500MiB", "1800MiB", "3GiB"):
        planned = line.plan(*fresh, "--memory", memory)
        size = int(memory[:-3]) << (20 if memory.endswith("MiB") else 30)
        assert planned["memory_bytes"] <= size

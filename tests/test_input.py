"""Runs over images of several files: what each becomes, and what a change of one of them redoes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import filterbank, rows, status_of, write_config
from PIL import Image

from pipeline import open_output
from pipeline.fingerprint import fingerprint
from pipeline.types import Member

RNG = np.random.default_rng(11)
PLANES = RNG.integers(1, 200, (2, 2, 8, 12)).astype(np.uint8)
CLASSES = RNG.integers(0, 5, (2, 4, 6)).astype(np.uint8)
INPUT: dict[str, Any] = {
    "include": ["{day}_B{band}.png"],
    "join": "band",
    "bands": ["2", "10"],
    "mask": {"path": "{day}_roi_{rater}.png", "missing": "image"},
    "qa": {"path": "{day}_scl.png", "invalid": [0, 3]},
}
TABLES = ("images", "statistics", "regions")


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class Study:
    """Two days of two bands in files of their own, with classes; a config; an output."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.images, self.out = folder, folder / "in", folder / "out"
        self.table = folder / "cases.csv"
        if not self.out.exists():
            self.draw()
        self.configure()

    def draw(self) -> None:
        self.table.write_text("day,scale,offset,site\nmon,0.5,-1,Graz\n")
        for day, planes, classes in zip(("mon", "tue"), PLANES, CLASSES, strict=True):
            for band, plane in zip(("2", "10"), planes, strict=True):
                save(self.images / f"{day}_B{band}.png", plane)
            save(self.images / f"{day}_scl.png", classes)

    def configure(self, **keys: Any) -> None:
        given = {**INPUT, "table": str(self.table), **keys}
        self.config = write_config(
            self.folder / "c.yaml", self.images, self.out, input=given, filters=["identity"],
            statistics=["mean", "max"],
        )  # fmt: skip

    def run(self, *flags: object, expect: int = 0) -> str:
        said = filterbank("run", self.config, *flags)
        assert said.code == expect, said
        return said.out

    def redone(self, expect: int = 0) -> set[str]:
        """Run again: the images whose rows are new."""
        old = rows(self.out, "images")
        self.run(expect=expect)
        new = rows(self.out, "images")
        return {key[0] for key in new if new[key] != old.get(key)}

    def equals_fresh(self, expect: int = 0) -> None:
        """A run has nothing to do, and one that knows nothing of earlier ones leaves the same."""
        assert self.run(expect=expect).startswith("nothing to do")
        with tempfile.TemporaryDirectory() as fresh:
            self.run("--output", f"{fresh}/out", expect=expect)
            for table in TABLES:
                assert rows(self.out, table) == rows(Path(fresh, "out"), table)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = Study(tmp_path_factory.mktemp("made"))
    study.run()
    return study.folder


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Study:
    """A study that was run, to be changed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return Study(tmp_path)


def test_an_image_of_several_files_has_their_values(study: Study) -> None:
    images = rows(study.out, "images")
    assert [key[0] for key in images] == ["mon_B{band}.png", "tue_B{band}.png"]
    monday = images["mon_B{band}.png",]
    assert monday["files"] == ["mon_B2.png", "mon_B10.png", "mon_scl.png"]
    assert (monday["bands"], monday["dtype"]) == (["2", "10"], "float64")
    assert (monday["day"], monday["site"]) == ("mon", "Graz")
    assert (images["tue_B{band}.png",]["day"], images["tue_B{band}.png",]["site"]) == ("tue", None)
    found = rows(study.out, "statistics")
    wide = open_output(study.out).wide().to_pylist()
    assert [[row[name] for name in ("image", "status", "day", "site")] for row in wide] == [
        ["mon_B{band}.png", "done", "mon", "Graz"], ["tue_B{band}.png", "done", "tue", None]
    ]  # fmt: skip
    clear = ~np.isin(np.kron(CLASSES, np.ones((1, 2, 2), np.uint8)), (0, 3))
    values = np.stack([PLANES[0] * 0.5 - 1, PLANES[1]])
    for i, day in enumerate(("mon", "tue")):
        for j, band in enumerate(("2", "10")):
            row = found[f"{day}_B{{band}}.png", band, "image", "identity"]
            assert row["n_valid"] == clear[i].sum()
            assert row["mean"] == pytest.approx(values[i, j][clear[i]].mean(), rel=1e-12)
            assert row["max"] == values[i, j][clear[i]].max()


def test_the_fingerprint_is_of_all_files_and_of_what_is_given(study: Study) -> None:
    row = rows(study.out, "images")["mon_B{band}.png",]
    members = [Member(str(study.images / name), name, 0, 0) for name in row["files"]]
    given = (
        ("day", "mon"), ("offset", "-1"), ("scale", "0.5"), ("site", "Graz"),
        ("image", "\0mon_B{band}.png"), ("band", "2\0mon_B2.png"), ("band", "10\0mon_B10.png"),
        ("qa", "\0mon_scl.png"),
    )  # fmt: skip
    assert row["fingerprint"] == fingerprint(members, given)
    assert row["mtime_ns"] < 0


def add_mask(study: Study) -> None:
    save(study.images / "tue_roi_al.png", CLASSES[0].repeat(2, 0).repeat(2, 1))


def change_band(study: Study) -> None:
    save(study.images / "tue_B10.png", PLANES[0, 0])


def change_classes(study: Study) -> None:
    save(study.images / "tue_scl.png", CLASSES[0])


def change_scale(study: Study) -> None:
    study.table.write_text("day,scale,offset,site\nmon,0.5,-1,Graz\ntue,3,,\n")


def change_copied(study: Study) -> None:
    study.table.write_text("day,scale,offset,site\nmon,0.5,-1,Graz\ntue,,,Wien\n")


def lose_mask(study: Study) -> None:
    (study.images / "tue_roi_al.png").unlink()


def test_a_change_redoes_the_image_it_belongs_to(study: Study) -> None:
    for change in (change_band, change_classes, change_scale, change_copied, add_mask):
        change(study)
        assert study.redone() == {"tue_B{band}.png"}, change
    assert "tue_roi_al.png" in rows(study.out, "images")["tue_B{band}.png",]["files"]
    regions = {key[:3:2] for key in rows(study.out, "statistics")}
    labels = np.unique(CLASSES[0][CLASSES[0] > 0])
    assert regions == {
        ("mon_B{band}.png", "image"), *(("tue_B{band}.png", f"roi=al/{i}") for i in labels)
    }  # fmt: skip
    study.equals_fresh()
    lose_mask(study)
    assert study.redone() == {"tue_B{band}.png"}
    (study.images / "tue_B10.png").unlink()
    assert study.redone(expect=5) == {"tue_B{band}.png"}
    assert status_of(study.out)["tue_B{band}.png"] == ("failed", "incomplete")
    study.equals_fresh(expect=5)


IMAGE_AND_MASK = ("a.png", "a_roi.png")


@pytest.mark.parametrize(
    ("names", "before", "after"),
    [
        (("a.png", "a_roi_1.png"), {"mask": "*_roi_{r}.png"}, {"mask": "*_roi_*.png"}),
        (IMAGE_AND_MASK, {"mask": "*_roi.png"}, {"mask": "*_mask.png"}),
        (IMAGE_AND_MASK, {"mask": "*_mask.png"}, {"mask": "*_roi.png"}),
        (("a_B1.png", "a_B2.png"), {"bands": "*_{band}.png"}, {"bands": "*_B{band}.png"}),
        (("1_1.png", "2_2.png"), {"bands": "*_{band}.png"}, {"bands": "{band}_*.png"}),
    ],
    ids=["rater", "mask no more", "mask now", "labels of bands", "key"],
)
def test_a_pattern_that_gives_files_another_part_redoes_their_images(
    tmp_path: Path, names: tuple[str, ...], before: dict[str, str], after: dict[str, str]
) -> None:
    for name, plane in zip(names, PLANES[0], strict=True):
        save(tmp_path / "in" / name, plane)

    def ran(patterns: dict[str, str], out: str) -> dict[Any, Any]:
        bands, mask = patterns.get("bands"), patterns.get("mask")
        given = {"include": [bands], "join": "band"} if bands else {"include": ["*.png"]}
        given |= {"mask": {"path": mask, "missing": "image"}} if mask else {}
        config = write_config(
            tmp_path / "c.yaml", tmp_path / "in", tmp_path / out, input=given, filters=["identity"],
        )  # fmt: skip
        assert filterbank("run", config, "--prune", "--prune-limit", "100").code == 0
        return rows(tmp_path / out, "images") | rows(tmp_path / out, "statistics")

    ran(before, "out")
    assert ran(after, "out") == ran(after, "fresh")


def test_a_touched_file_of_several_rewrites_its_row_only(study: Study) -> None:
    before = {path: path.read_bytes() for path in study.out.rglob("*/part-*")}
    os.utime(study.images / "tue_scl.png", (5, 5))
    assert json.loads(filterbank("plan", study.config, "--json").out)["touched"] == 1
    study.run()
    changed = [path.parent.name for path in before if path.read_bytes() != before[path]]
    assert changed == ["images"]
    assert study.run().startswith("nothing to do")


def test_an_image_that_goes_with_its_mask_staying_has_vanished(study: Study) -> None:
    add_mask(study)
    study.run()
    for name in ("tue_B2.png", "tue_B10.png"):
        (study.images / name).unlink()
    planned = json.loads(filterbank("plan", study.config, "--json").out)
    assert (planned["vanished"], planned["done"]) == (1, 1)
    study.run("--prune", "--prune-limit", "50")
    assert [key[0] for key in rows(study.out, "images")] == ["mon_B{band}.png"]


def test_an_image_left_out_for_want_of_a_mask_is_no_row_and_counted(study: Study) -> None:
    add_mask(study)
    study.out = study.folder / "skip"
    study.configure(mask={**INPUT["mask"], "missing": "skip"})
    study.run()
    assert [key[0] for key in rows(study.out, "images")] == ["tue_B{band}.png"]
    ran = json.loads((study.out / "run.json").read_text())
    assert ran["counts"]["skipped_files"] == {"mask or qa layer": 3, "no mask": 1}


def test_an_image_that_is_left_out_by_now_is_counted_until_it_is_pruned(study: Study) -> None:
    add_mask(study)
    study.out = study.folder / "skip"
    study.configure(mask={**INPUT["mask"], "missing": "skip"})
    save(study.images / "mon_roi_al.png", CLASSES[0].repeat(2, 0).repeat(2, 1))
    study.run()
    lose_mask(study)
    for _ in range(2):
        assert "; vanished 1, whose rows stay until --prune; results in" in study.run()
    assert "pruned 1" in study.run("--prune", "--prune-limit", "50")
    assert [key[0] for key in rows(study.out, "images")] == ["mon_B{band}.png"]


def test_rows_of_the_table_about_no_image_are_said(study: Study) -> None:
    study.table.write_text("day,scale,offset,site\nMon,0.5,-1,Graz\ntue,,,\nwed,,,\n")
    said = filterbank("run", study.config)
    assert "2 of 3 rows of cases.csv are about no image: line 2, line 4" in said.err
    ran = json.loads((study.out / "run.json").read_text())
    assert ran["counts"]["idle_table_rows"] == 2
    assert study.run().startswith("nothing to do")
    study.table.write_text("day,scale,offset,site\nmon,0.5,-1,Graz\ntue,,,\n")
    assert filterbank("run", study.config).err == ""


def test_a_row_may_be_about_a_page_that_is_known_from_an_earlier_run(tmp_path: Path) -> None:
    pages = [Image.fromarray(plane) for plane in PLANES[0]]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in/a.tif", save_all=True, append_images=pages[1:])
    table = tmp_path / "t.csv"
    table.write_text("image,site\na.tif#page=2,Graz\na.tif#page=3,Wien\n")
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out", filters=["identity"],
        input={"table": str(table)},
    )  # fmt: skip
    for _ in range(2):
        assert "1 of 2 rows of t.csv is about no image: line 3" in filterbank("run", config).err


def test_other_columns_are_another_plan(study: Study) -> None:
    study.table.write_text("day,age\nmon,70\n")
    said = filterbank("run", study.config)
    assert said.code == 3
    assert 'columns[1]: "site" -> "age"' in said.err

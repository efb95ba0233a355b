"""Folders and wishes that nothing, or not all, can be learned from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import filterbank
from learned import bank_of, photos, written
from PIL import Image


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 3)
    config = written(tmp_path, images, input={"exclude": ["thumb*"]})
    assert filterbank("learn", config).code == 0
    alone = bank_of(tmp_path / "bank.safetensors")
    (images / "a_header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "notes.txt").write_text("no image")
    (images / "thumb.png").write_text("excluded, and so not counted")
    Image.new("L", (40, 50)).save(images / "gray.png")
    Image.new("RGB", (4, 50)).save(images / "narrow.png")
    said = filterbank("learn", config)
    assert said.code == 0, said.err
    assert said.err.startswith("failed: a_header.png: corrupt: ")
    assert "failed 1 (1 corrupt), left out 3 (1 no known image format, " in said.out
    assert "1 other rank or bands than most, 1 smaller than a patch)" in said.out
    after = bank_of(tmp_path / "bank.safetensors")
    assert all((after[key] == alone[key]).all() for key in alone)
    (images / "3.png").write_bytes((images / "2.png").read_bytes()[:-4000])  # its pixels are cut
    said = filterbank("learn", config)
    assert said.code == 0, said.err
    assert "patches of 3 images, failed 2 (2 corrupt)" in said.out


def test_a_failed_attempt_leaves_the_old_bank(tmp_path: Path) -> None:
    config = written(tmp_path, photos(tmp_path / "in"))
    assert filterbank("learn", config).code == 0
    before = (tmp_path / "bank.safetensors").read_bytes()
    for path in (tmp_path / "in").iterdir():
        Image.new("RGB", (20, 20), (9, 9, 9)).save(path)
    said = filterbank("learn", config)
    assert said.code == 4
    assert "all patches are alike: nothing can be learned from images without contrast" in said.err
    assert (tmp_path / "bank.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bank.safetensors", "c.yaml", "in"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "larger than the images": ({"size": 60}, 4, r"no image to learn .*\(2 smaller than a patch\)"),
    "few patches": ({"samples": 70}, 4, r"70 patches of 5x5 pixels and 3 bands .*at least 76"),
    "few for the centroids": (
        {"patches": "kmeans", "count": 99, "samples": 80},
        4,
        "80 patches .* are too few .at least 99.; give more images, raise learn.samples, or lower",
    ),
    "more filters than numbers": ({"count": 76}, 3, "makes 75 filters .got learn.count 76."),
    "too many patches for the memory": ({"samples": 3000}, 3, "needs about .* lower learn.samples"),
    "no file there": (
        {"file": "c.yaml/x.safetensors"},
        7,
        "cannot write .*; free the disk or allow it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_wishes_have_their_exit_codes(name: str, tmp_path: Path) -> None:
    learn, code, text = REFUSED[name]
    run = {"memory": "1106MiB", "workers": 1} if "memory" in name else {}
    said = filterbank("learn", written(tmp_path, photos(tmp_path / "in", 2), learn=learn, run=run))
    assert said.code == code, said.err
    assert re.search(text, said.err), said.err
    assert not (tmp_path / "bank.safetensors").exists()


def test_the_budget_of_failures_holds(tmp_path: Path) -> None:
    images = photos(tmp_path / "in")
    for name in "ab":
        (images / f"{name}.png").write_bytes((images / "0.png").read_bytes()[:-4000])
    said = filterbank("learn", written(tmp_path, images, run={"max_failed": 1}))
    assert said.code == 6
    assert "2 images failed, more than run.max_failed (1); stopped" in said.err


@pytest.mark.parametrize("what", ["missing", "empty", "only bad"])
def test_no_images_end_with_code_4_before_torch_is_imported(what: str, tmp_path: Path) -> None:
    images = tmp_path / "in"
    if what != "missing":
        images.mkdir()
    if what == "only bad":
        (images / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code = (
        "import sys, pipeline.cli as c\ntry: c.main()\nfinally: assert 'torch' not in sys.modules"
    )
    arguments = [sys.executable, "-c", code, "learn", str(written(tmp_path, images))]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    text = {
        "missing": "does not exist",
        "empty": "no image to learn",
        "only bad": "1 corrupt image",
    }
    assert text[what] in done.stderr

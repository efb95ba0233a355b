"""The same folder and config make the same bytes, which say what they were made of."""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from command import filterbank, finish, started
from learned import photos, written
from safetensors import safe_open


def test_bytes_depend_on_neither_workers_nor_order_nor_process(tmp_path: Path) -> None:
    images = photos(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for path in sorted(images.iterdir(), reverse=True):  # listed in another order, where it matters
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    learn = {"patches": "kmeans", "count": 8, "samples": 900}
    config = written(tmp_path, images, learn=learn)
    runs = (
        ("a", "0", {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"}),
        ("b", "2", {"PYTHONHASHSEED": "2"}),
    )
    with ExitStack() as stack:  # side by side
        for process in [
            stack.enter_context(
                started(
                    *("learn", config, "--input", tmp_path / name, "--workers", workers),
                    *("--output", tmp_path / f"{name}.safetensors"),
                    env=env,
                )
            )
            for name, workers, env in runs
        ]:
            assert finish(process).code == 0
    one, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert one == other
    assert not list(tmp_path.glob("*.tmp"))
    assert filterbank("learn", written(tmp_path, images, learn=learn | {"seed": 1})).code == 0
    assert (tmp_path / "bank.safetensors").read_bytes() != one


def test_the_order_of_listing_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path, photos(tmp_path / "in"), learn={"samples": 300})
    assert filterbank("learn", config).code == 0
    before = (tmp_path / "bank.safetensors").read_bytes()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: list(scandir(path))[::-1])
    assert filterbank("learn", config).code == 0
    assert (tmp_path / "bank.safetensors").read_bytes() == before


def test_the_header_says_what_a_bank_was_made_of(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder)
    assert filterbank("learn", config).code == 0
    with safe_open(tmp_path / "bank.safetensors", framework="np") as file:
        (text,) = file.metadata().values()
    told = json.loads(text)
    assert (told["images"], told["patches"], told["learn"]["patches"]) == (300, 300, "pca")
    assert re.fullmatch("[0-9a-f]{64}", told["config"])
    assert {"filterbank", "numpy", "torch"} <= set(told["versions"])
    assert str(tmp_path) not in text

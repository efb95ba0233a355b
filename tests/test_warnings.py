"""What is foretold of responses that will be empty, and that it comes true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import look, run_bank, write_config

from pipeline.describe import describe_survey, warnings_of

FILTERS = [
    {"mean": {"size": [3, 9]}},
    {"mean": {"size": 11, "boundary": "reflect"}},
    {"simoncelli": {"level": [2, 4, 5], "boundary": "wrap", "name": "ring"}},
    {"riesz": {"order": "x", "level": 4, "boundary": "wrap", "name": "edge"}},
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name, size in {"tiny": 6, "small": 7, "large": 40}.items():
        pixels = np.random.default_rng(size).normal(100, 20, (size, size))
        np.save(tmp_path / f"in/{name}.npy", pixels)
    return write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path / "in")},
        filters=FILTERS,
        boundary="valid",
        statistics=["mean", "min", "max"],
    )


def test_responses_that_will_be_empty_are_told_with_their_images(
    config: Path, tmp_path: Path
) -> None:
    survey = look(config, tmp_path / "out")
    found = warnings_of(survey)
    assert [text.split(", as ")[0] for text in found] == [
        "mean(size=9) in small.npy, tiny.npy: no pixel",
        "ring(level=4), ring(level=5) and 1 more in small.npy, tiny.npy: nothing but 0",
    ]
    assert describe_survey(survey)["warnings"] == found
    rows = run_bank(config, tmp_path / "out").statistics.to_pylist()
    assert {(r["image"], r["filter"]) for r in rows if not r["n_pixels"]} == {
        (image, "mean(size=9)") for image in ("small.npy", "tiny.npy")
    }
    assert all(r["mean"] is None for r in rows if not r["n_pixels"])
    assert {(r["image"], r["filter"]) for r in rows if r["min"] == r["max"] == 0} == {
        (image, name)
        for image in ("small.npy", "tiny.npy")
        for name in ("ring(level=4)", "ring(level=5)", "edge")
    }


def test_an_image_as_large_as_the_kernel_is_enough(config: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in/enough.npy", np.arange(81.0).reshape(9, 9))
    (found,) = (w for w in warnings_of(look(config, tmp_path / "out")) if w.startswith("mean"))
    assert found.startswith("mean(size=9) in small.npy, tiny.npy: ")

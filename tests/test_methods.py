"""methods.md says all that decides results, in words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import write_config

from pipeline.config import load
from pipeline.methods import methods
from pipeline.plan import Plan
from pipeline.statistics import COLUMNS


def told(folder: Path, **sections: Any) -> str:
    return methods(Plan(load(write_config(folder / "c.yaml", **sections)), "cpu"))


def test_all_that_was_computed_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.random.default_rng(0).normal(size=(40, 40)))
    config = write_config(
        tmp_path / "c.yaml",
        prepare=[{"resample": {"spacing": [1, 1, 2]}}, "round", {"resegment": {"range": [-9, 4]}}],
        boundary="mirror",
        filters=[
            {"log": {"sigma": [1.5, 3], "units": "physical"}},
            {"kernel": {"name": "mine", "file": "w.npy", "boundary": {"constant": 5}}},
        ],
        statistics=["mean", "kurtosis"],
        regions=["image", {"tiles": 64}],
    )
    plan = Plan(load(config), "cpu")
    text = methods(plan)
    assert methods(pickle.loads(pickle.dumps(plan))) == text
    assert all(f"`{response.name}`" in text for response in plan.responses)
    assert text.index("1. resample (spacing: [1.0, 1.0, 2.0]; order: 3)") < text.index("2. round")
    assert text.index("2. round") < text.index("3. resegment (range: [-9.0, 4.0]")
    assert "mirrored without repeating the pixel at the edge" in text
    assert "lengths in: mm" in text
    assert "boundary: constant(5)" in text
    assert '"shape": [40, 40]' in text
    assert f"- mean (IBSI Q4LE): {COLUMNS['mean'].formula}" in text
    assert "measured in the whole image and squares of 64 pixels" in text
    assert plan.digest[:16] in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({}, "Images were filtered as they are stored"),
        ({}, "a georeferenced image was taken as unknown; any other was mirrored with the pixel"),
        ({"boundary": {"constant": 3}}, "continued by the constant 3."),
        ({"input": {"path": "x", "bands": "luminance"}}, "reduced to their luminance"),
        ({"input": {"path": "x", "bands": ["B04", 2], "nodata": 0}}, "the bands B04 and 2 were"),
        ({"input": {"path": "x", "nodata": 0}}, "Pixels equal to 0 were taken as missing"),
        (
            {"input": {"path": "x", "mask": {"path": "*_m.png", "labels": {1: "GTV", 2: "node"}}}},
            "measured in the regions GTV and node of its masks.",
        ),
        (
            {"input": {"path": "x", "metadata": ["Modality", "KVP"]}},
            "With each image its DICOM header's Modality and KVP were noted.",
        ),
        ({"prepare": [{"suv": "bodyweight"}]}, "1. suv (by: bodyweight). Turn PET into standard"),
        ({"derive": {"ndvi": "(nir - red) / (nir + red)"}}, "ndvi = (nir - red) / (nir + red)."),
    ],
)
def test_sentences_follow_the_config(tmp_path: Path, sections: Any, words: str) -> None:
    assert words in told(tmp_path, **sections)

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


def test_what_is_told_of_images_is_not_as_stored(tmp_path: Path) -> None:
    stored = "filtered as they are stored"
    (tmp_path / "t.csv").write_text("image,offset,scale,site\n")
    table = {"path": "x", "table": str(tmp_path / "t.csv")}
    text = told(tmp_path, input=table)
    assert "The table t.csv gave images their scale and offset." in text
    assert stored not in text
    (tmp_path / "t.csv").write_text("image,site\n")
    assert stored in told(tmp_path, input=table)
    text = told(tmp_path, input={"path": "x", "spacing": [2, 0.5, 0.5], "unit": "um"})
    assert "says no pixel size, it was taken as [2.0, 0.5, 0.5] um." in text
    assert "gives without a unit were taken in um." in text
    assert stored not in text


def test_images_without_masks_are_told_of(tmp_path: Path) -> None:
    mask = {"path": "*_m.png"}
    rules = {rule: told(tmp_path, input={"path": "x", "mask": {**mask, "missing": rule}})
             for rule in ("fail", "skip", "image")}  # fmt: skip
    assert "Images without a mask were left out." in rules["skip"]
    assert "label of its masks (all of an image without a mask)." in rules["image"]
    assert "without a mask" not in rules["fail"]


@pytest.mark.parametrize(
    ("family", "code"),
    [
        ({"mean": {"size": 3}}, "S60F"),
        ({"log": {"sigma": 2}}, "L6PA"),
        ({"laws": {"kernels": "L5E5"}}, "JTXT"),
        ({"gabor": {"sigma": 2, "wavelength": 4, "gamma": 1, "convention": "ibsi"}}, "Q88H"),
        ({"wavelet": {"wavelet": "db2", "subbands": "LH"}}, "25BO"),
        ({"simoncelli": {"level": 1}}, "LODD"),
    ],
)
def test_families_of_the_ibsi_have_its_identifiers(tmp_path: Path, family: Any, code: str) -> None:
    text = told(tmp_path, filters=[family, "sobel"])
    (name,) = family
    assert f"**{name}** (IBSI {code}): " in text
    assert "**sobel**: " in text

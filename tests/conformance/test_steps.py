"""What every prepare step must do, found in the registry: a new one needs an entry below."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import write_config

from pipeline.config import expanded, load
from pipeline.plan import Plan
from pipeline.steps.base import STEPS, Step
from pipeline.types import Grid, ImageInfo

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "rescale": [
        {"from": "image"},
        {"from": "dtype", "to": [1, 0]},
        {"from": [10, 300.5], "to": [-1, 1]},
    ],
}
CASES = [(name, i) for name, some in EXAMPLES.items() for i in range(len(some))]
INFO = ImageInfo((9, 11), ("1", "2"), "uint8", Grid((1.0, 1.0)))


def plan_of(name: str, index: int, folder: Path) -> Plan:
    config = write_config(folder / "c.yaml", prepare=[{name: EXAMPLES[name][index]}])
    return Plan(load(config), "cpu")


def step_of(name: str, index: int, folder: Path) -> Step:
    (step,) = plan_of(name, index, folder).config.prepare
    return step


def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    values = torch.from_numpy(rng.integers(0, 256, (3, 2, 9, 11)).astype(np.float64))
    return values, torch.from_numpy(rng.random((3, 2, 9, 11)) > 0.2)


def test_every_registered_step_has_examples_here() -> None:
    assert EXAMPLES.keys() == STEPS.keys()


@pytest.mark.parametrize(("name", "index"), CASES)
def test_the_expanded_config_is_a_config_of_the_same_digest(
    name: str, index: int, tmp_path: Path
) -> None:
    plan = plan_of(name, index, tmp_path)
    again = load(write_config(tmp_path / "again.yaml", prepare=expanded(plan.config)["prepare"]))
    assert Plan(again, "cpu").digest == plan.digest
    without = Plan(load(write_config(tmp_path / "none.yaml")), "cpu")
    assert without.digest != plan.digest


@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_step_survives_a_trip_to_another_process(name: str, index: int, tmp_path: Path) -> None:
    step = step_of(name, index, tmp_path)
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step.whole_image, bool)


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_an_image_has_the_same_bits_alone_and_among_others(
    name: str, index: int, masked: bool, tmp_path: Path
) -> None:
    step = step_of(name, index, tmp_path)
    values, valid = pixels()
    before = values.clone()
    together = step.apply(values, valid if masked else None, INFO)
    assert torch.equal(values, before), "a step changed its input"
    assert (together.shape, together.dtype) == (values.shape, torch.float64)
    for i in range(3):
        mask = valid[i : i + 1] if masked else None
        assert torch.equal(step.apply(values[i : i + 1], mask, INFO)[0], together[i])


@pytest.mark.parametrize(("name", "index"), CASES)
def test_invalid_pixels_have_no_say(name: str, index: int, tmp_path: Path) -> None:
    step = step_of(name, index, tmp_path)
    values, valid = pixels()
    other = torch.where(valid, values, 1e9)
    first, second = (step.apply(x, valid, INFO) for x in (values, other))
    assert torch.equal(first[valid], second[valid])


@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_step_that_does_not_see_the_whole_image_sees_each_pixel_alone(
    name: str, index: int, tmp_path: Path
) -> None:
    step = step_of(name, index, tmp_path)
    values, _ = pixels()
    crop = step.apply(values[..., 2:7, 3:8], None, INFO)
    same = torch.equal(crop, step.apply(values, None, INFO)[..., 2:7, 3:8])
    assert same or step.whole_image

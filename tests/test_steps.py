"""Prepare steps: what they compute, and that an image's bits are its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from preparing import apply
from pydantic import TypeAdapter, ValidationError
from running import failures, run_bank, write_config

from pipeline.errors import PlanError
from pipeline.steps import STEPS
from pipeline.steps.rescale import Rescale
from pipeline.types import Grid, ImageInfo


def info(dtype: str = "uint8") -> ImageInfo:
    return ImageInfo((2, 3), ("1", "2"), dtype, Grid((1.0, 1.0)))


def rescale(**fields: object) -> Rescale:
    return TypeAdapter(Rescale).validate_python({k.rstrip("_"): v for k, v in fields.items()})


def noise(seed: int, n: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(3, 100, (n, 2, 5, 7)))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("bool", 0, 1),
        ("uint8", 0, 255),
        ("uint16", 0, 65535),
        ("int16", -32768, 32767),
        ("uint32", 0, 2**32 - 1),
    ],
)
def test_dtype_maps_the_whole_range_of_the_integers(dtype: str, low: int, high: int) -> None:
    values = torch.tensor([low, high], dtype=torch.float64).reshape(1, 1, 2)
    step = rescale(from_="dtype", to=[-1, 1])
    assert apply(step, values, None, info(dtype)).flatten().tolist() == [-1.0, 1.0]
    assert not step.whole_image


def test_dtype_of_8_bits_is_division_by_255() -> None:
    values = torch.arange(256, dtype=torch.float64).reshape(1, 1, 16, 16)
    out = apply(rescale(from_="dtype"), values, None, info())
    assert torch.equal(out, values / torch.full_like(values, 255.0))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
def test_dtype_refuses_pixels_without_a_range(dtype: str) -> None:
    with pytest.raises(PlanError, match=r"got .*; write from: image"):
        rescale(from_="dtype").info(info(dtype))


def test_what_a_step_cannot_take_is_a_failed_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6), np.float32))
    path = str(tmp_path / "a.npy")
    step = {"rescale": {"from": "dtype"}}
    config = write_config(tmp_path / "c.yaml", input={"path": path}, prepare=[step])
    (found,) = failures(run_bank(config, tmp_path / "out")).values()
    assert found.startswith("unsupported: rescale from: dtype needs integer pixels (got float32)")


def test_numbers_map_linearly_without_clipping() -> None:
    values = torch.tensor([-100.0, 0.0, 50.0, 100.0, 300.0], dtype=torch.float64).reshape(1, 1, 5)
    out = apply(rescale(from_=[0, 100], to=[0, 10]), values, None, info("float32"))
    assert out.flatten().tolist() == [-10.0, 0.0, 5.0, 10.0, 30.0]


def test_inverted() -> None:
    values = torch.tensor([0.0, 51.0, 255.0], dtype=torch.float64).reshape(1, 1, 3)
    out = apply(rescale(from_="dtype", to=[1, 0]), values, None, info())
    assert out.flatten().tolist() == [1.0, 0.8, 0.0]


def test_image_spans_all_bands_of_each_image() -> None:
    values = noise(1)
    step = rescale(from_="image", to=[2, 4])
    out = apply(step, values, None, info("float32"))
    assert step.whole_image
    assert out.amin((1, 2, 3)).tolist() == [2.0] * 3
    assert out.amax((1, 2, 3)).tolist() == [4.0] * 3
    assert (out.amin((2, 3)) != 2.0).any()


def test_image_looks_at_valid_pixels_only() -> None:
    values = torch.tensor([float("nan"), 10.0, 20.0, 1e9], dtype=torch.float64).reshape(1, 1, 4)
    valid = torch.tensor([False, True, True, False]).reshape(1, 1, 4)
    out = apply(rescale(from_="image"), values, valid, info())
    assert out.flatten()[1:3].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 7.0, -1e30])
def test_a_constant_image_becomes_the_first_number(value: float) -> None:
    values = torch.full((1, 1, 2, 2), value, dtype=torch.float64)
    out = apply(rescale(from_="image", to=[3, 5]), values, None, info())
    assert set(out.flatten().tolist()) == {3.0}


def test_an_image_without_a_valid_pixel_stays_finite() -> None:
    values = noise(2)
    out = apply(rescale(from_="image"), values, torch.zeros_like(values, dtype=torch.bool), info())
    assert out.isfinite().all()


@pytest.mark.parametrize("from_", ["dtype", "image", [0.1, 0.7]])
@given(seed=st.integers(0, 1000), n=st.integers(1, 9), masked=st.booleans())
def test_alone_equals_in_a_batch(from_: object, seed: int, n: int, *, masked: bool) -> None:
    values = noise(seed, n)
    valid = values > -50 if masked else None
    step = rescale(from_=from_, to=[0.1, 0.9])
    together = apply(step, values, valid, info())
    for i in range(n):
        mask = None if valid is None else valid[i : i + 1]
        assert torch.equal(apply(step, values[i : i + 1], mask, info())[0], together[i])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "required"),
        ({"from": [5, 0]}, "below the second"),
        ({"from": [0, float("inf")]}, "finite"),
        ({"from": "dtypes"}, "'dtype' or 'image'"),
        ({"from": "dtype", "to": [2, 2]}, "must differ"),
        ({"from": "dtype", "clip": True}, "Unexpected"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Rescale).validate_python(fields)


def test_a_step_survives_a_trip_to_another_process() -> None:
    step = rescale(from_=[1, 2])
    assert pickle.loads(pickle.dumps(step)) == step
    assert STEPS["rescale"] is Rescale


def test_importing_steps_loads_no_torch() -> None:
    code = "import sys, pipeline.steps; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The share of a kernel that must lie on valid pixels: what the config says is what holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import look, run_bank, write_config

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import compile_bank
from pipeline.bank.expr import Input, Pool
from pipeline.boundary import Boundary
from pipeline.config.load import load
from pipeline.errors import ConfigError
from pipeline.types import Batch, Grid, ImageInfo, Region, Source, Tile

SHARES = (1 / 9, 0.5, 0.75, 1.0)


def image() -> np.ndarray:
    """Numbers with a third of them missing, but not in one corner."""
    rng = np.random.default_rng(5)
    pixels = rng.normal(size=(17, 23))
    missing = rng.random(pixels.shape) < 1 / 3
    missing[:5, :5] = False
    return np.where(missing, np.nan, pixels).astype(np.float32)


def counted(valid: np.ndarray) -> np.ndarray:
    """How many of the nine pixels around each are valid; none are beyond the image."""
    padded = np.pad(valid.astype(int), 1)
    h, w = valid.shape
    return sum(padded[a : a + h, b : b + w] for a in range(3) for b in range(3))


def config(tmp_path: Path, **more: Any) -> Path:
    sections = {"boundary": "nodata", "output": {"path": "unused", "maps": "float32"}}
    return write_config(tmp_path / "c.yaml", filters=[{"mean": {"size": 3}}], **sections, **more)


@pytest.mark.parametrize("least", SHARES)
def test_a_response_is_valid_from_this_support_on(least: float, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image())
    output = run_bank(config(tmp_path, min_support=least), tmp_path / "out", tmp_path / "a.npy")
    good = np.isfinite(image())
    enough = good & (counted(good) / 9 >= least - 1e-6)
    assert 0 < enough.sum() < good.sum() or least < 0.2
    name = output.filters.column("filter").to_pylist()[0]
    found = output.maps("a.npy", name)
    np.testing.assert_array_equal(np.isfinite(found), enough)
    (row,) = output.statistics.to_pylist()
    assert row["n_valid"] == enough.sum()
    assert f"at least {100 * least:g}% of their weight" in (output.root / "methods.md").read_text()


@pytest.mark.parametrize("least", SHARES)
@pytest.mark.parametrize("size", [3, 7])
def test_it_holds_for_the_extremes_of_windows_too(least: float, size: int) -> None:
    """Also at 1, where a whole window must not fail by a rounding."""
    valid = np.isfinite(image())
    pixels = torch.from_numpy(np.nan_to_num(image()))[None, None]
    header = ImageInfo(valid.shape, ("1",), "float32", Grid((1.0, 1.0)))
    whole = Region.whole(valid.shape)
    tile = Tile(Source("x", (), "npy", info=header), whole)
    batch = Batch((tile,), whole, ("1",), pixels, torch.from_numpy(valid)[None, None])
    node = Pool(Input(), (size, size), "max")
    plan = compile_bank([("r", node, Boundary("reflect"))], 2, min_support=least)
    (response,) = apply_bank(plan, batch)
    half = size // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(valid, half, mode="symmetric"), (size, size)
    )
    seen = windows.mean(axis=(2, 3))
    wanted = valid & (seen >= least - 1e-6)
    assert response.valid is not None
    np.testing.assert_array_equal(response.valid[0, 0].numpy(), wanted)
    assert wanted.any() or (size, least) == (7, 1.0)


def test_it_is_part_of_the_plan(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", image())
    plain, given, other = (
        look(config(tmp_path, **more), tmp_path / "out", tmp_path).plan
        for more in ({}, {"min_support": 0.75}, {"min_support": 0.5})
    )
    assert plain.digest == given.digest != other.digest
    assert json.loads(json.dumps(other.expanded))["min_support"] == 0.5


@pytest.mark.parametrize("value", [0, -0.5, 1.01, True, "half", "0.5", None, [0.5], float("nan")])
def test_what_is_no_share_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"min_support: must be above 0 and at most 1 \(got .*\)"):
        load(config(tmp_path, min_support=value))

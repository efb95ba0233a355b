"""An image's bits are its own: signed zeros, offsets and extremes of others do not reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import failures, run_bank, tree, write_config

BANK = [
    {"scharr": {"output": ["orientation", "magnitude"]}},
    {"gaussian": {"sigma": 1.5, "order": 1, "axis": "x"}},
    "laplacian",
    {"laws": {"kernels": "E5S5", "energy": 2}},
]


@pytest.mark.parametrize("kind", ["npy", "png"])
def test_a_flat_dark_image_keeps_its_bits_beside_one_with_a_large_mean(
    tmp_path: Path, kind: str
) -> None:
    """The bright one is computed without its mean; the signs of dark zeros must not care."""
    rng = np.random.default_rng(0)
    dark, bright = np.zeros((24, 24)), 200 + rng.integers(0, 3, (24, 24))
    dark[8:12, 5:20] = rng.integers(0, 4, (4, 15))
    for folder, names in (("alone", ["a"]), ("company", ["a", "b"])):
        (tmp_path / folder).mkdir()
        for name, values in zip(names, (dark, bright), strict=False):
            path = tmp_path / folder / f"{name}.{kind}"
            if kind == "npy":
                np.save(path, -values.astype(np.float32) if name == "a" else values * 1.0e3)
            else:
                Image.fromarray(values.astype(np.uint8)).save(path)
    config = write_config(
        tmp_path / "c.yaml", filters=BANK, output={"path": "unused", "maps": "float32"}
    )
    outputs = [run_bank(config, tmp_path / f"out_{n}", tmp_path / n) for n in ("alone", "company")]
    for name in outputs[0].filters.column("filter").to_pylist():
        alone, company = (output.maps(f"a.{kind}", name).view(np.int32) for output in outputs)
        np.testing.assert_array_equal(alone, company, err_msg=name)


@pytest.mark.parametrize("batch", [1, 3])
def test_batch_size_changes_no_byte_with_odd_kernels(tmp_path: Path, batch: int) -> None:
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(1)
    for i in range(6):
        values = rng.integers(0, 3, (20, 20)) + (220 if i % 2 else 0)
        values[:10] = values[0, 0]
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / "in" / f"{i}.png")
    config = write_config(
        tmp_path / "c.yaml", filters=BANK, output={"path": "unused", "maps": "float32"}
    )
    run_bank(config, tmp_path / "all", tmp_path / "in")
    run_bank(config, tmp_path / "some", tmp_path / "in", batch=batch)
    assert tree(tmp_path / "all") == tree(tmp_path / "some")


def test_pixels_that_float32_cannot_hold_are_invalid(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(size=(16, 16))
    values[3, 4], values[9, 9] = -1.7e308, np.inf
    np.save(tmp_path / "x.npy", values)
    config = write_config(tmp_path / "c.yaml", filters=["identity", "sobel"])
    table = run_bank(config, tmp_path / "out", tmp_path / "x.npy").statistics.to_pylist()
    assert table[0]["n_valid"] == 254
    assert all(np.isfinite(row["mean"]) and np.isfinite(row["std"]) for row in table)


def test_spacing_of_a_volume_made_of_pages_has_one_number_per_axis(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 9), v, np.uint8)) for v in (1, 2, 3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": "unused", "pages": "volume", "spacing": [3, 1, 0.5], "unit": "mm"},
        filters=[{"mean": {"size": 3}}],
    )
    output = run_bank(config, tmp_path / "out", tmp_path / "x.tif")
    assert failures(output) == {}
    (region,) = output.table("regions").to_pylist()
    assert (region["n_pixels"], region["size"]) == (216, 216 * 1.5)

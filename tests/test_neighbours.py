"""An image's bits are its own: signed zeros, offsets and extremes of others do not reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import tree
from PIL import Image
from running import failures, run_bank, write_config

from pipeline.errors import PlanError

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


def test_statistics_keep_the_digits_of_data_with_a_large_mean(tmp_path: Path) -> None:
    """float32 holds neither value; measured without the mean, nothing is lost."""
    rng = np.random.default_rng(3)
    arrays = {
        "int32": 2**30 + rng.integers(-500, 500, (40, 41)).astype(np.int32),
        "float64": 1e9 + rng.normal(size=(40, 41)),
        "holes": np.where(rng.random((40, 41)) > 0.1, 1e8 + rng.normal(size=(40, 41)), np.nan),
    }
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", values)
    config = write_config(tmp_path / "c.yaml", filters=["identity", {"mean": {"size": 3}}])
    rows = run_bank(config, tmp_path / "out", tmp_path / "*.npy").statistics.to_pylist()
    for name, values in arrays.items():
        (row,) = (r for r in rows if r["image"] == f"{name}.npy" and r["filter"] == "identity")
        x = values[np.isfinite(values)].astype(np.float64)
        want = {
            "mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max(),
            "p50": np.quantile(x, 0.5), "energy": (x * x).sum(), "rms": np.sqrt((x * x).mean()),
            "iqr": np.subtract(*np.quantile(x, [0.75, 0.25])), "mad": np.abs(x - x.mean()).mean(),
        }  # fmt: skip
        for column, value in want.items():
            scale = 1e-6 * x.std() if column not in ("energy", "rms") else 1e-12 * value
            assert row[column] == pytest.approx(value, rel=0, abs=scale + 1e-9), (name, column)


def test_a_folder_that_is_not_filterbanks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine/png").mkdir(parents=True)
    (tmp_path / "mine/png/holiday.png").write_bytes(b"dear")
    np.save(tmp_path / "x.npy", np.zeros((4, 4)))
    config = write_config(tmp_path / "c.yaml")
    with pytest.raises(PlanError, match="give results a folder of their own"):
        run_bank(config, tmp_path / "mine", tmp_path / "x.npy")
    assert [p.name for p in sorted((tmp_path / "mine").rglob("*"))] == ["png", "holiday.png"]


def test_numbers_of_bands_count_the_bands_of_the_file(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": "unused", "bands": [3, 1]},
        filters=[{"mean": {"size": 1, "bands": [3]}}, {"identity": {"bands": ["red"]}}],
    )
    rows = run_bank(config, tmp_path / "out", tmp_path / "x.png").statistics.to_pylist()
    found = {row["band"]: row["mean"] for row in rows}
    assert found == {"blue": pixels[..., 2].mean(), "red": pixels[..., 0].mean()}

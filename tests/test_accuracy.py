"""How near float32 comes to float64: errors are shares of what varies, however large the mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from running import run_bank, write_config
from scipy import ndimage

from pipeline.output import Output
from pipeline.stages import prepare
from pipeline.stages.prepare import _offset

Array = npt.NDArray[np.float64]

NEAR, PROMISED = 4e-6, 1e-5
"""Of the response's standard deviation: of integers, and of floats, which keep their median."""

SIDE = 112
WANTED: dict[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "std": np.std,
    "min": np.min,
    "max": np.max,
    "p10": partial(np.percentile, q=10),
    "p50": np.median,
}


def wave(degrees: float, length: float) -> Array:
    """A Gabor kernel that answers a constant with 0."""
    y, x = np.mgrid[-15:16, -15:16].astype(np.float64)
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    u, v = x * c + y * s, y * c - x * s
    envelope = np.exp(-(u * u + 0.25 * v * v) / (0.6 * length**2))
    taps = envelope * np.cos(2 * np.pi * u / length)
    return np.asarray(taps - envelope * taps.sum() / envelope.sum())


def bell(sigma: float) -> Array:
    x = np.arange(-15, 16)
    g = np.exp(-x * x / (2 * sigma**2))
    return np.asarray(np.outer(g, g) / g.sum() ** 2)


KERNELS = {
    "down": wave(90, 9.0),  # two 1-D passes, the wave along a column
    "across": wave(0, 6.0),
    "oblique": wave(45, 4.0),  # no sum of a few passes
    "smooth": bell(2.0),
    "difference": bell(1.0) - bell(1.6),
}


def texture(mean: float, std: float) -> Array:
    """Smooth shapes with a little noise."""
    rng = np.random.default_rng(1)
    shapes = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8, mode="wrap")
    image = 8 * shapes + 0.04 * rng.normal(size=(SIDE, SIDE))
    return np.asarray(mean + std * (image - image.mean()) / image.std())


IMAGES: dict[str, npt.NDArray[Any]] = {
    "bytes": np.rint(texture(130, 25)).clip(0, 255).astype(np.uint8),
    "words": np.rint(texture(30_000, 8_000)).astype(np.uint16),
    "signed": np.rint(texture(-900, 250)).astype(np.int16),
    "floats": texture(0.5, 0.1).astype(np.float32),
}
INTEGERS = [kind for kind, image in IMAGES.items() if image.dtype != np.float32]


def run(folder: Path, images: dict[str, npt.NDArray[Any]], **sections: Any) -> Output:
    """Run a bank on images that are named by their kind."""
    (folder / "in").mkdir()
    for kind, image in images.items():
        np.save(folder / "in" / f"{kind}.npy", image)
    return run_bank(write_config(folder / "bank.yaml", **sections), folder / "out", folder / "in")


def test_statistics_keep_to_a_share_of_the_spread(tmp_path: Path) -> None:
    """For signed and unsigned integers and for floats, whatever engine computes a response."""
    filters = [{"kernel": {"name": n, "weights": taps.tolist()}} for n, taps in KERNELS.items()]
    sections = {"filters": filters, "boundary": "mirror", "statistics": [*WANTED]}
    rows = run(tmp_path, IMAGES, **sections).statistics.to_pylist()
    assert len(rows) == len(IMAGES) * len(KERNELS)
    for row in rows:
        image = IMAGES[row["image"].removesuffix(".npy")].astype(np.float64)
        right = ndimage.correlate(image, KERNELS[row["filter"]], mode="mirror")
        errors = {name: abs(row[name] - of(right)) / right.std() for name, of in WANTED.items()}
        limit = PROMISED if row["image"] == "floats.npy" else NEAR
        assert max(errors.values()) <= limit, (row["image"], row["filter"], errors)


def test_an_image_of_integers_comes_back_as_it_is(tmp_path: Path) -> None:
    """Its map has its values, and what is counted or added up of it is exact."""
    images = {kind: IMAGES[kind][:107, :97] for kind in INTEGERS}
    statistics = ["mean", "energy", "min", "p10", "max"]
    output = run(tmp_path, images, statistics=statistics, output={"path": "-", "maps": "float32"})
    for row in output.statistics.to_pylist():
        image = images[row["image"].removesuffix(".npy")].astype(np.int64)
        np.testing.assert_array_equal(output.maps(row["image"], "identity"), image)
        assert row["mean"] == pytest.approx(image.mean(), rel=1e-15)
        assert row["energy"] == (image**2).sum()
        assert (row["min"], row["max"]) == (image.min(), image.max())
        assert row["p10"] == np.percentile(image, 10)


def test_numbers_of_any_size_come_back_as_exactly_as_float32_holds_them(tmp_path: Path) -> None:
    """The median of words of 32 bits is too large to be taken from small ones exactly."""
    wide = np.linspace(0, 2**32 - 1, 96 * 96).astype(np.uint32).reshape(96, 96)
    wide[:20] = np.arange(1, 97)
    floats = np.where(np.arange(96) < 40, 7.5e-7, 5 + np.linspace(0, 4, 96)).astype(np.float32)
    images = {"words": wide, "floats": np.tile(floats, (96, 1))}
    output = run(tmp_path, images, statistics=["min"], output={"path": "-", "maps": "float32"})
    for row in output.statistics.to_pylist():
        image = images[row["image"].removesuffix(".npy")]
        held = image.astype(np.float32)
        np.testing.assert_array_equal(output.maps(row["image"], "identity"), held)
        assert row["min"] == held.min()


@pytest.mark.parametrize("shape", [(4096, 40), (512, 513), (40, 4096)])
def test_the_median_is_not_that_of_one_column(shape: tuple[int, int]) -> None:
    """Pixels are sampled at a distance that shares no factor with the size of the image."""
    image = np.full(shape, 30_000.0)
    image[:, 0] = 0.0
    (offset,) = _offset(torch.from_numpy(image[None, None]), None).flatten().tolist()
    assert offset == 30_000


def test_a_black_background_is_answered_with_0(tmp_path: Path) -> None:
    """By kernels of fractions, too, and so nothing is told from it: no ridge, no shape."""
    image = IMAGES["bytes"].copy()
    image[:, :40] = 0
    filters = [{"log": {"sigma": 2}}, {"hessian": {"sigma": 2, "output": "shape_index"}}]
    sections = {"filters": filters, "statistics": ["mean"]}
    output = run(tmp_path, {"page": image}, **sections, output={"path": "-", "maps": "float32"})
    for row in output.statistics.to_pylist():
        assert (output.maps("page.npy", row["filter"])[:, :25] == 0).all()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_small_integers_need_no_float64(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are prepared in float32, with the bits that float64 would give."""
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    rng = np.random.default_rng(5)
    for name, start in (("all", low), ("high", high - 9)):
        values = rng.integers(start, high, (2, 60, 71), endpoint=True).astype(kind)
        np.save(tmp_path / f"{name}.npy", values[0])
    config = write_config(
        tmp_path / "b.yaml", filters=["identity", {"gaussian": {"sigma": 1.5}}], statistics=["all"]
    )
    files = [tmp_path / "all.npy", tmp_path / "high.npy"]
    short = run_bank(config, tmp_path / "short", files).statistics
    monkeypatch.setattr(prepare, "_SMALL", ())
    assert short.equals(run_bank(config, tmp_path / "long", files).statistics)

"""The examples this project began with, and the configs that ship with it, end to end."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from running import failures, look, run_bank, write_config

from pipeline.config import Config
from pipeline.output import Output
from pipeline.survey import Survey

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
HOLLOW_SQUARE = [
    [0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0],
    [0, 1, 0, 1, 0],
    [0, 1, 1, 1, 0],
    [0, 0, 0, 0, 0],
]
LEVEL_EDGES = [
    [1, 2, 3, 2, 1],
    [1, 1, 2, 1, 1],
    [0, 0, 0, 0, 0],
    [-1, -1, -2, -1, -1],
    [-1, -2, -3, -2, -1],
]
ACCURACY = 1e-5
"""DESIGN section 4: error of a response as a share of its range."""

USES = {
    "photos": [
        "pillow_pil_sample_cmyk.jpg",
        "pillow_hopper.webp",
        "pillow_hopper.bmp",
        "pillow_hopper_gray.jpg",
        "exif_Landscape_6.jpg",
        "jxl_tmshre_riaphotographs_alpha.png",
    ],
    "xray": ["mhh_4d98e1de.png"],
    "satellite": [
        "opengeos_dsm.tif",
        "riotiler_cog_rgb_mask.tif",
        "riotiler_cog_scale.tif",
        "riotiler_mosaic_cog3.tif",
        "solaris_sar_hh.tif",
    ],
    "handwriting": [
        "digits8x8_0001_1.png",
        "omniglot_Greek_character01_0394_01.png",
        "omniglot_Korean_character01_0643_01.png",
    ],
    "spectrogram": ["fsdd_6_george_0.npy", "fsdd_9_george_0.npy"],
}
"""Small real files of each use that between them hold every odd format of the folders."""

THE_FILES_OWN_FAULT = {"solaris_sar_hh.tif": "complex"}
"""Image -> a word of the reason; every other real file must be done."""


def shipped(name: str) -> Path:
    return ROOT / "configs" / f"{name}.yaml"


def sample_of(config: Path, samples: Path) -> Path:
    path = yaml.safe_load(config.read_text())["input"]["path"]
    return samples / Path(path).relative_to("data/samples")


def regions_of(config: Config) -> list[str]:
    """Where a config measures: in the labels that it names, else the whole image."""
    if config.input.mask is None:
        return ["image"]
    assert config.input.mask.labels != "all"
    return [f"roi={name}" for _, name in config.input.mask.labels]


def assert_complete(output: Output, plan: Survey) -> None:
    """Every listed image has a row; every one that is done one per band, region and response."""
    images = {row["image"]: row for row in output.images.to_pylist()}
    assert images.keys() == {source.key for source in plan.sources}
    wanted = [
        (source.key, label, region, response.name)
        for source in plan.sources
        if images[source.key]["status"] == "done"
        for part in plan.plan.banks(source.header)
        for response in part.bank.outputs
        for label in (("all",) if response.joint else part.labels)
        for region in regions_of(plan.plan.config)
    ]
    assert wanted
    rows = output.statistics.select(["image", "band", "region", "filter"]).to_pylist()
    assert Counter(tuple(row.values()) for row in rows) == Counter(wanted)


def test_horizontal_edges_of_the_hollow_square_are_exact(samples: Path, tmp_path: Path) -> None:
    config = shipped("horizontal_edge")
    with Image.open(sample_of(config, samples)) as image:
        np.testing.assert_array_equal(np.asarray(image), HOLLOW_SQUARE)
    output = run_bank(config, tmp_path / "out", sample_of(config, samples))
    found = output.maps("hollow_square.png", "horizontal_edge")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, LEVEL_EDGES)
    (row,) = output.statistics.to_pylist()
    assert (row["n_pixels"], row["n_valid"], row["support"]) == (25, 25, 1.0)
    assert (row["min"], row["max"], row["energy"]) == (
        -3.0,
        3.0,
        float(np.square(LEVEL_EDGES).sum()),
    )


@pytest.mark.parametrize(
    ("boundary", "padding", "size"), [("valid", 0, 28), ("constant", 2, 32)], ids=["none", "same"]
)
def test_random_kernels_are_a_fresh_conv2d(
    samples: Path, tmp_path: Path, boundary: str, padding: int, size: int
) -> None:
    """Without padding 32 x 32 pixels give 28 x 28; with it the maps keep the size."""
    sections = yaml.safe_load(shipped("random_conv").read_text())
    config = write_config(tmp_path / "c.yaml", **sections | {"boundary": boundary})
    source = sample_of(shipped("random_conv"), samples)
    output = run_bank(config, tmp_path / "out", source)
    names = output.filters.column("filter").to_pylist()
    found = np.stack([output.maps(source.name, name) for name in names])
    assert found.shape == (16, size, size)
    assert set(output.statistics.column("band").to_pylist()) == {"all"}
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 16, 5, padding=padding, dtype=torch.float32).double()
    with Image.open(source) as image:
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float64)).permute(2, 0, 1)
    with torch.no_grad():
        wanted = layer(pixels[None])[0].numpy()
    spans = np.ptp(wanted, axis=(1, 2))
    assert (np.abs(found - wanted).max(axis=(1, 2)) <= ACCURACY * spans).all()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_config_runs_on_its_sample_without_failure(
    samples: Path, tmp_path: Path, config: Path
) -> None:
    source = sample_of(config, samples)
    plan = look(config, tmp_path / "out", source)
    listed = [source] if source.is_file() else [p for p in source.rglob("*") if p.is_file()]
    used = [Path(member.path) for found in plan.sources for member in found.files]
    assert sorted(used) == sorted(listed)
    output = run_bank(config, tmp_path / "out", source)
    assert failures(output) == {}
    assert_complete(output, plan)
    for row in output.statistics.to_pylist():
        assert row["n_valid"] > 0
        assert None not in row.values()


def run_on_real_files(use: str, source: Path | list[Path], output: Path) -> None:
    plan = look(shipped(use), output, source)
    found = run_bank(shipped(use), output, source)
    assert_complete(found, plan)
    failed = failures(found)
    listed = set(found.images.column("image").to_pylist())
    assert failed.keys() == THE_FILES_OWN_FAULT.keys() & listed
    assert all(THE_FILES_OWN_FAULT[image] in error for image, error in failed.items())


@pytest.mark.parametrize("use", USES)
def test_odd_real_files_run_through_the_config_of_their_use(
    shared: Path, tmp_path: Path, use: str
) -> None:
    files = [shared / "data" / use / name for name in USES[use]]
    run_on_real_files(use, files, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("FILTERBANK_SLOW") != "1", reason="takes minutes; FILTERBANK_SLOW=1 runs it"
)
@pytest.mark.parametrize("use", USES)
def test_whole_real_folders_run_through_the_config_of_their_use(
    shared: Path, tmp_path: Path, use: str
) -> None:
    run_on_real_files(use, shared / "data" / use, tmp_path / "out")

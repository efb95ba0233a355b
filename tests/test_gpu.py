"""A run on a GPU says what a run on a CPU says: in each way that pixels take there.

Float32 sums are added in another order there, so statistics of responses agree to rounding; what
is read, counted and drawn is the same. Where there is no GPU the runs are those of a distant one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from distant import distant_gpu
from PIL import Image
from running import failures, run_bank, write_config

from pipeline import bands, plan, survey
from pipeline.bank import shifted
from pipeline.output import Output
from pipeline.readers import nvjpeg
from pipeline.stages import fused, measure

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILTERS = [
    "identity",
    {"sobel": {"output": "magnitude"}},
    {"gaussian": {"sigma": 2}},
    {"gabor": {"wavelength": 6}},
    {"laws": {"kernels": ["L5E5"], "energy": 7}},
]
CLOSE = 1e-4
"""Of the largest response, what statistics may differ by: float32 sums of some hundred taps."""

a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(
    params=[pytest.param("here", marks=a_gpu), "distant", "distant, without Triton"],
)
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """The GPU that runs are on; Triton's kernels are slow in its interpreter."""
    if request.param == "here":
        yield "here"
        return
    triton = request.param == "distant"
    if triton:
        pytest.importorskip("triton", reason="Triton is not installed")
    with distant_gpu() as patch:
        patch.setattr(survey, "_device", lambda wanted, stored: wanted)
        for module in (bands, plan, fused, measure, shifted):
            patch.setattr(module, "possible", lambda device: triton and device == "cuda")
        yield request.param


@pytest.fixture
def folder(tmp_path: Path, gpu: str) -> Path:
    """More than a batch of gray pictures, some of 16 bits, and photos."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "in"
    folder.mkdir()
    count, shape, edge = (9, (130, 170), 17) if gpu == "here" else (2, (9, 26), 2)
    for i in range(count):
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(pixels.astype(np.uint16) * 200).save(folder / f"{i}_deep.png")
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (edge, edge + 1, 3)), 8, 0), 8, 1)
    for i in range(3 if gpu == "here" else 0):
        Image.fromarray(smooth.astype(np.uint8)).save(folder / f"{i}.jpg", quality=90)
    return folder


def agree(found: Output, wanted: Output, close: float = CLOSE) -> None:
    """Rows of statistics, to rounding."""
    keys = ("image", "band", "region", "filter")
    both = [
        {tuple(row[key] for key in keys): row for row in out.statistics.to_pylist()}
        for out in (found, wanted)
    ]
    assert both[0].keys() == both[1].keys()
    for key, want in both[1].items():
        got = both[0][key]
        if want["n_valid"] == 0:
            assert got == want
            continue
        size = max(abs(want["min"]), abs(want["max"]), 1e-9)
        assert (got["n_pixels"], got["n_valid"]) == (want["n_pixels"], want["n_valid"])
        for name in {"mean", "std", "min", "max", "p50"} & want.keys():
            assert got[name] == pytest.approx(want[name], abs=close * size), (key, name)


@pytest.mark.parametrize(
    "sections",
    [
        {"output": {"path": "unused", "png": None}},
        {"output": {"path": "unused", "png": {"what": "maps"}}},
        {"output": {"path": "unused", "maps": "float32", "png": {"what": "both"}}},
        {"regions": ["image", {"tiles": 50}], "boundary": "nodata"},
        {"input": {"path": "unused", "nodata": 7}},
    ],
    ids=["statistics", "pictures", "maps", "nodata", "holes"],
)
def test_a_run_agrees_with_that_of_a_cpu(
    sections: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    given = {"filters": FILTERS, "statistics": ["all"], **sections}
    config = write_config(tmp_path / "c.yaml", **given)
    outs = [
        run_bank(config, tmp_path / name, folder, device=device, workers=2)
        for name, device in (("gpu", "cuda"), ("cpu", "cpu"))
    ]
    assert not failures(outs[0])
    agree(*outs)


def test_what_kept_it_busy_is_in_run_json(folder: Path, tmp_path: Path, gpu: str) -> None:
    """In its own time: threads run ahead of it."""
    config = write_config(tmp_path / "c.yaml", filters=FILTERS[:1], statistics=["mean"])
    run_bank(config, tmp_path / "out", folder, device="cuda")
    effort = json.loads((tmp_path / "out" / "run.json").read_text())["effort"]
    assert set(effort["busy"]) == {"read", "filter", "measure", "render", "write"}
    assert all(0 <= share <= 1.1 for share in effort["busy"].values())
    assert effort["gpus"] == [torch.cuda.get_device_name()]
    assert effort["peak_memory"].keys() == {"compute", "gpu"}


def test_each_filter_agrees_with_itself_on_a_cpu(folder: Path, tmp_path: Path, gpu: str) -> None:
    if gpu == "distant":
        pytest.skip("a hundred responses would take the interpreter minutes")
    filters = yaml.safe_load((CONFIGS / "catalogue.yaml").read_text())["filters"]
    given = {"filters": filters, "statistics": ["mean", "std", "min", "max", "p50"]}
    config = write_config(tmp_path / "c.yaml", **given)
    files = [folder / "0.png"]
    agree(*(run_bank(config, tmp_path / d, files, device=d) for d in ("cuda", "cpu")))


def test_runs_repeat_to_the_bit(folder: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", filters=FILTERS, statistics=["all"])
    tables = [
        run_bank(config, tmp_path / name, folder, device="cuda", batch=batch).statistics
        for name, batch in (("a", "auto"), ("b", "auto"), ("c", 2))
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_a_scene_in_tiles_agrees_with_that_of_a_cpu(tmp_path: Path, gpu: str) -> None:
    if gpu == "distant":
        pytest.skip("a scene would take the interpreter hours")
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(4).integers(0, 4000, (1, 3000, 3000)).astype(np.uint16)
    layout = {"driver": "GTiff", "count": 1, "height": 3000, "width": 3000, "dtype": "uint16"}
    place = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    path = tmp_path / "scene.tif"
    with rasterio.open(path, "w", tiled=True, **layout, **place) as file:
        file.write(pixels)
    config = write_config(tmp_path / "c.yaml", filters=FILTERS[1:3])
    agree(*(run_bank(config, tmp_path / d, path, device=d) for d in ("cuda", "cpu")))


def test_jpeg_that_the_gpu_decodes_is_near(folder: Path, tmp_path: Path, gpu: str) -> None:
    if gpu != "here":
        pytest.skip("nvJPEG has no GPU")
    pytest.importorskip("nvidia.nvimgcodec")
    files = sorted(folder.glob("*.jpg"))
    outs = []
    for jpeg in ("nvjpeg", "libjpeg"):
        given = {"path": "unused", "jpeg": jpeg}
        config = write_config(tmp_path / "c.yaml", input=given, statistics=["all"])
        outs.append(run_bank(config, tmp_path / jpeg, files, device="cuda"))
    assert not failures(outs[0])
    agree(*outs, close=nvjpeg.TOLERANCE / 255)

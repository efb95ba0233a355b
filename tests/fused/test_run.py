"""A batch that is filtered and measured at once, in the interpreter, beside the portable engine.

The pieces of both are held against float64 references; here all columns of all rows have to agree,
and where responses are whole numbers, to the bit in all that is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from running import look

from pipeline import bands
from pipeline import plan as planning
from pipeline.config import load
from pipeline.describe import describe_survey
from pipeline.fused import launch
from pipeline.fused.choose import COUNTERS
from pipeline.fused.pixels import Recomputed
from pipeline.plan import Plan
from pipeline.stages import filter as stage
from pipeline.stages import fused, measure
from pipeline.types import Batch, Grid, ImageInfo, Region, Roi, Source, Tile

pytest.importorskip("triton", reason="Triton is not installed")

INFO = ImageInfo((2, 9), ("1", "2"), "uint16", Grid((1.0, 1.0)))
FILTERS = """
version: 1
input: {{path: .}}
boundary: {boundary}
filters:
  - kernel: {{name: sum, weights: [[1, 2, 1], [0, 1, 1]]}}
  - kernel: {{name: smooth, weights: [[0.1, 0.2], [0.3, 0.45]]}}
  - kernel: {{name: step, weights: [[-1, 0, 1]], boundary: valid}}
  - kernel: {{name: two, weights: [[[[1, 0]]], [[[0, -1]]]], bands: [2]}}
  - sobel
statistics: [{statistics}]
output: {{path: out{kept}}}
"""
Rows = dict[tuple[str, ...], dict[str, float]]
EXACT = ("n_pixels", "n_valid", "support", "min", "max", "p05", "p50", "iqr", "entropy", "energy")


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    def make(boundary: str = "reflect", statistics: str = "all", kept: str = "") -> Plan:
        path = tmp_path / "config.yaml"
        path.write_text(FILTERS.format(boundary=boundary, statistics=statistics, kept=kept))
        return Plan(load(path), "cpu")

    return make


@pytest.fixture
def on_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bands, fused, measure, planning):
        monkeypatch.setattr(module, "possible", lambda device: True)


def batch_of(count: int, level: int = 0) -> Batch:
    whole = Region.whole(INFO.shape)
    tiles = tuple(Tile(Source(f"{i}.png", (), "png", info=INFO), whole) for i in range(count))
    pixels = np.random.default_rng(0).integers(level, level + 256, (count, 2, *INFO.shape))
    rois = (
        Roi("image", "image", None, whole),
        Roi("tile=0,1", "tile", None, Region((1, 4), (2, 9))),
    )
    values = torch.from_numpy(pixels.astype(np.uint16))
    return Batch(tiles, whole, INFO.bands, values, regions=(rois,) * count)


def rows(plan: Plan, batch: Batch) -> Rows:
    (result,) = stage.compute(plan, batch)
    return _rows(result)


def _rows(result: stage.Result) -> Rows:
    keys = zip(*(result.rows[key] for key in ("image", "band", "region", "filter")), strict=True)
    columns = {
        name: np.concatenate([np.atleast_1d(values) for values in found]).tolist()
        for name, found in result.rows.items()
        if name not in ("image", "band", "region", "filter")
    }
    return {
        key: {name: values[i] for name, values in columns.items()} for i, key in enumerate(keys)
    }


@pytest.mark.parametrize(
    ("boundary", "statistics", "level"),
    [
        ("reflect", "all", 0),
        ("mirror", "mean, p50", 0),
        ("nearest", "energy", 60000),
        ("constant", "min, max, mean", 60000),
        ("wrap", "std, max", 0),
    ],
)
def test_rows_are_those_of_the_portable_engine(
    plan: Callable[..., Plan],
    monkeypatch: pytest.MonkeyPatch,
    boundary: str,
    statistics: str,
    level: int,
) -> None:
    batch = batch_of(1, level)
    portable = rows(plan(boundary, statistics), batch)
    monkeypatch.setattr(bands, "possible", lambda device: True)
    agree(rows(plan(boundary, statistics), batch), portable)


def agree(found: Rows, portable: Rows) -> None:
    assert found.keys() == portable.keys()
    for key, wanted in portable.items():
        size = max(abs(wanted.get(name, 0.0)) for name in ("min", "max", "mean")) + 256.0
        for name, value in wanted.items():
            if key[3] != "smooth" and name in EXACT:
                assert found[key][name] == value, (key, name)
            unit = size if name not in ("energy", "variance") else size * size
            assert found[key][name] == pytest.approx(value, rel=1e-5, abs=1e-6 * unit), (key, name)


def test_what_is_written_is_measured_by_walks_too(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(2, level=300)
    keeping = plan(statistics="mean, kurtosis, max, p50, entropy", kept=", maps: float32")
    portable = rows(keeping, batch)
    monkeypatch.setattr(measure, "possible", lambda device: True)
    walks = []
    walk = Recomputed.walk
    monkeypatch.setattr(
        Recomputed, "walk", lambda self: (walks.append(self.stencil.kernels), walk(self))
    )
    agree(rows(keeping, batch), portable)
    assert {kernel.shape for (kernel,) in walks} == {(1, 1)}


def test_what_is_written_is_walked_together_or_alone_to_the_same_bits(
    plan: Callable[..., Plan], on_this_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping = plan(statistics="mean, kurtosis, max, p50", kept=", maps: float32")
    batch = batch_of(2, level=300)  # planes with a base, and `two`, which is of both bands
    answers, walks, walk = [], [], Recomputed.walk
    monkeypatch.setattr(Recomputed, "walk", lambda self: (walks.append(self), walk(self))[1])
    for stored in (fused.STORED, 2 * batch.values[:, :1].numel() * 4, 0):
        monkeypatch.setattr(fused, "STORED", stored)
        walks.clear()
        answers.append((rows(keeping, batch), len(walks)))
    counts = [count for _, count in answers]
    assert counts == sorted(set(counts))
    assert all(found == answers[0][0] for found, _ in answers)


def test_only_what_nobody_wants_to_see_is_fused(
    plan: Callable[..., Plan], on_this_device: None
) -> None:
    def names(plan: Plan) -> set[str]:
        return {name for part in plan.banks(INFO) for group in part.groups for name in group.names}

    assert names(plan()) == {"sum", "smooth", "step", "two[1]", "two[2]"}
    assert names(plan(boundary="nodata")) == {"step"}
    assert names(plan(kept=", maps: float32")) == set()
    drawn = plan(kept=", png: {what: maps, filters: [s*, two*1*]}")
    assert names(drawn) == {"two[2]"}


def test_the_plan_says_so(plan: Callable[..., Plan], on_this_device: None, tmp_path: Path) -> None:
    Image.new("RGB", (9, 2)).save(tmp_path / "a.png")
    plan()
    found = describe_survey(look(tmp_path / "config.yaml", tmp_path / "out", tmp_path))["responses"]
    engines = {row["filter"]: (row["engine"], row["ns_per_pixel"]) for row in found}
    assert engines.pop("sobel")[0] != "fused"
    assert set(engines.values()) == {("fused", None)}


def test_the_plan_knows_of_the_counters_of_a_group(
    plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bands of `sum` and `smooth` are counted at once; of what is written, of one response."""
    for kept, planes in (("", 2 * 2), (", maps: float32", 2)):
        without = plan(kept=kept).bytes_needed(INFO)
        with monkeypatch.context() as patched:
            for module in (bands, planning):
                patched.setattr(module, "possible", lambda device: True)
            assert plan(kept=kept).bytes_needed(INFO) - without == planes * COUNTERS


def test_a_launch_that_the_memory_does_not_hold_halves_the_batch(
    plan: Callable[..., Plan], on_this_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan(statistics="mean, p50")
    (wanted,) = stage.compute(whole, batch_of(3))
    plain = launch.build

    class OneImage:
        def __init__(self, text: str) -> None:
            self.program = plain(text)

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            def start(planes: torch.Tensor, *args: object, **constants: int) -> None:
                if len(planes) > len(INFO.bands):
                    message = "Triton Error [CUDA]: out of memory"
                    raise RuntimeError(message)
                self.program[grid](planes, *args, **constants)

            return start

    monkeypatch.setattr(launch, "build", OneImage)
    parts = stage.compute(plan(statistics="mean, p50"), batch_of(3))
    assert [len(part.sources) for part in parts] == [1, 1, 1]
    found = {key: row for part in parts for key, row in _rows(part).items()}
    assert found == _rows(wanted)


def test_a_batch_with_missing_pixels_is_not_fused(
    plan: Callable[..., Plan], on_this_device: None
) -> None:
    batch = batch_of(1)
    part, _ = plan().banks(INFO)
    assert fused.fits(part, batch)
    assert not fused.fits(part, replace(batch, valid=torch.ones_like(batch.values, dtype=bool)))
    (rois,) = batch.regions
    masked = replace(rois[0], mask=np.ones(INFO.shape, bool))
    assert not fused.fits(part, replace(batch, regions=((masked,),)))
    alike = replace(masked, mask=np.ones(INFO.shape, bool))
    both = replace(batch_of(2), regions=((masked,), (alike,)))
    assert not fused.fits(part, both)
    assert not fused.fits(replace(part, groups=()), both)
    edge = replace(rois[0], box=Region((0, 0), (INFO.shape[0], 1)))  # `step` has no response there
    assert not fused.fits(part, replace(batch, regions=((edge,),)))


def test_without_such_a_device_nothing_is(plan: Callable[..., Plan]) -> None:
    assert all(not part.groups and part.rest is None for part in plan().banks(INFO))

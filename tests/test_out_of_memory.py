"""A device whose memory does not hold a batch. No GPU here: its exceptions are raised by hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import load
from pipeline.plan import Plan
from pipeline.stages import filter as stage
from pipeline.stages.lanes import Lanes
from pipeline.types import Batch, Grid, ImageInfo, Region, Roi, Source, Tile


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    path = tmp_path / "bank.yaml"
    path.write_text(
        "version: 1\ninput: {path: .}\nfilters: [sobel, gaussian: {sigma: 1}]\n"
        "output: {path: out, maps: float32}\n"
    )
    return Plan(load(path), "cpu")


def batch_of(count: int) -> Batch:
    info = ImageInfo((16, 17), ("1",), "uint8", Grid((1.0, 1.0)))
    whole = Region.whole(info.shape)
    tiles = tuple(Tile(Source(f"{i}.png", (), "png", info=info), whole) for i in range(count))
    pixels = np.random.default_rng(0).integers(0, 255, (count, 1, 16, 17), dtype=np.uint8)
    rois = ((Roi("image", "image", None, whole),),) * count
    return Batch(tiles, whole, info.bands, torch.from_numpy(pixels), regions=rois)


FULL = torch.OutOfMemoryError("CUDA out of memory")


def raised(allocate: Callable[[], object]) -> Exception:
    """What a library raises where memory does not hold what is asked for."""
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    return caught.value


def holding(most: int, monkeypatch: pytest.MonkeyPatch, full: Exception = FULL) -> list[int]:
    """Make the device hold at most so many images; returns the batch sizes that were tried."""
    tried: list[int] = []
    plain = stage._compute

    def limited(plan: Plan, batch: Batch) -> stage.Result:
        tried.append(len(batch.tiles))
        if len(batch.tiles) > most:
            raise full
        return plain(plan, batch)

    monkeypatch.setattr(stage, "_compute", limited)
    return tried


def test_halved_batches_give_the_bits_of_the_whole(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = stage.compute(plan, batch_of(7))
    tried = holding(2, monkeypatch)
    parts = stage.compute(plan, batch_of(7))
    assert max(tried) == 7
    assert [len(part.sources) for part in parts] == [1, 2, 2, 2]
    for part in parts:
        for source in part.sources:
            for (*keys, got), (*expected, want) in zip(
                part.maps[source.key], whole.maps[source.key], strict=True
            ):
                assert keys == expected
                np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "full",
    [
        FULL,
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        raised(lambda: torch.empty(1 << 50)),
        raised(lambda: np.empty(1 << 50)),
    ],
    ids=["torch", "CUDA", "cuFFT", "cuBLAS", "torch for CPUs", "numpy"],
)
def test_one_image_that_does_not_fit_is_a_failure_of_its_own(
    full: Exception, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding(0, monkeypatch, full)
    results = stage.compute(plan, batch_of(3))
    assert [len(result.sources) for result in results] == [1, 1, 1]
    assert all(result.failure and result.failure.kind == "limit" for result in results)


def test_other_errors_are_not_the_images(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    holding(0, monkeypatch, RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        stage.compute(plan, batch_of(3))


def test_lanes_of_a_cpu_ask_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be broken where a user says --device cpu."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: pytest.fail("CUDA was initialised"))
    lanes = Lanes("cpu", 2)
    with lanes.one():
        pass
    with lanes.alone():
        pass


def test_who_computes_alone_has_no_neighbour() -> None:
    """And lanes come back from what fails."""
    lanes, inside, crowds = Lanes("cpu", 3), [], []

    def beside(number: int) -> None:
        with suppress(ValueError), lanes.one():
            inside.append(number)
            time.sleep(0.001)
            inside.remove(number)
            raise ValueError

    def alone(number: int) -> None:
        with suppress(ValueError), lanes.alone():
            crowds.append(len(inside))
            raise ValueError

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: (alone if n % 5 == 4 else beside)(n), range(50)))
    assert crowds == [0] * 10
    with lanes.one(), lanes.one(), lanes.one():
        assert not inside

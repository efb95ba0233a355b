"""A device that is lost or full during a run. No GPU here: the exceptions are raised by hand."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Lock

import pytest
import torch
from command import filterbank, status_of, tree, write_config

from pipeline.plan import Plan
from pipeline.stages import filter as stage
from pipeline.types import Batch


def test_a_device_that_is_lost_ends_the_run_and_the_next_one_goes_on(
    images: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the third shard: the first one stays, and in the end nothing tells of it."""
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    plain = stage._compute

    def failing(plan: Plan, batch: Batch) -> stage.Result:
        if any(tile.source.key >= "128" for tile in batch.tiles):
            message = "CUDA error: an illegal memory access was encountered\nmore of it"
            raise torch.AcceleratorError(message)
        return plain(plan, batch)

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_compute", failing)
        said = filterbank("run", config)
    assert (said.code, said.err) == (
        10,
        "filterbank: CUDA error: an illegal memory access was encountered\n",
    )
    assert len(status_of(tmp_path / "out")) == 64
    assert filterbank("run", config).code == 0
    assert tree(tmp_path / "out") == tree(undisturbed)


def test_what_does_not_fit_beside_another_batch_is_computed_alone(
    images: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches in flight share a device: which of them fails must not be a matter of luck."""
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"threads": 2})
    plain, memory, refused = stage._compute, Lock(), []

    def greedy(plan: Plan, batch: Batch) -> stage.Result:
        if not memory.acquire(blocking=False):
            refused.append(len(batch.tiles))
            message = "CUDA out of memory"
            raise torch.OutOfMemoryError(message)
        try:
            time.sleep(0.05)  # until a neighbour asks, too
            return plain(plan, batch)
        finally:
            memory.release()

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_compute", greedy)
        assert filterbank("run", config).code == 0
    assert 1 in refused
    assert tree(tmp_path / "out") == tree(undisturbed)

"""A device that is lost during a run. No GPU here: the exception is raised by hand."""

from __future__ import annotations

from pathlib import Path

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

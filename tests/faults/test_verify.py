"""`verify` beside a run that commits: what is whole is called damaged at no moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command import draw, filterbank, write_config

from pipeline import verify as verifying


@pytest.mark.parametrize(
    ("function", "before"),
    [("glob", 0), ("listed", 1), ("damage", 0), ("damage", 3), ("check_filters", 0)],
    ids=["files listed", "parts listed", "part read", "first part done", "all parts done"],
)
def test_what_a_run_commits_meanwhile_is_no_damage(
    function: str, before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It adds an image, changes one of each shard and deletes one: before a call to `function`."""
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 2)
    images, root = tmp_path / "in", tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", images, root)
    for i in range(4):
        draw(images / f"{i}.png", seed=i, size=8)
    assert filterbank("run", config).code == 0
    calls, real = 0, getattr(verifying, function)

    def hooked(*arguments: Any) -> Any:
        nonlocal calls
        if calls == before:
            (images / "0.png").unlink()
            for i in (1, 2, 4):
                draw(images / f"{i}.png", seed=10 + i, size=8)
            said = filterbank("run", config, "--prune", "--prune-limit", 100)
            assert said.out.startswith("done 3, failed 0, unchanged 1, pruned 1"), said
        calls += 1
        return real(*arguments)

    monkeypatch.setattr(verifying, function, hooked)
    said = filterbank("verify", root)
    assert calls > before
    assert (said.code, said.out) == (0, "every file is as it was committed\n")

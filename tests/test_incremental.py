"""Whatever happens to a folder between runs: the work is its change, the rows are a fresh run's."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from command import draw, filterbank, rows
from running import write_config

TABLES = ("images", "statistics", "regions")


class Folder:
    """Images that come, change and go; `new`: those that a run has to compute."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random = root, random.Random(seed)
        self.drawn = 0
        self.new: set[Path] = set()
        for _ in range(7):
            self.add()

    def draw(self, path: Path) -> None:
        self.drawn += 1
        draw(path, self.drawn, size=self.random.choice([8, 9]))
        self.date(path)
        self.new.add(path)

    def date(self, path: Path) -> None:
        """Give a file a time of its own."""
        second = self.random.randrange(1, 10**9)
        os.utime(path, ns=(second * 10**9, second * 10**9))

    def any(self) -> Path:
        return self.random.choice(sorted(self.root.iterdir()))

    def add(self) -> None:
        self.draw(self.root / f"{self.random.random():.6f}.png")

    def change(self) -> None:
        self.draw(self.any())

    def touch(self) -> None:
        self.date(self.any())

    def delete(self) -> None:
        path = self.any()
        path.unlink()
        self.new.discard(path)

    def rename(self) -> None:
        old, new = self.any(), self.root / f"{self.random.random():.6f}.png"
        old.rename(new)
        self.new.discard(old)
        self.new.add(new)


def shards_of(root: Path) -> dict[str, str]:
    """image -> the part that holds it."""
    return {
        image: part.name
        for part in (root / "images").iterdir()
        for (image,) in rows(part.parent, part.name)
    }


@pytest.mark.parametrize("seed", range(2))
def test_runs_after_any_events_compute_the_change_and_leave_the_rows_of_a_fresh_run(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 3)
    folder = Folder(tmp_path / "in", seed)
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": str(folder.root)},
        output={"path": str(tmp_path / "out")},
        run={"workers": 0, "device": "cpu"},
    )
    said = filterbank("run", config)
    assert said.out.startswith("done 7"), said
    for _ in range(4):
        before, folder.new = shards_of(tmp_path / "out"), set()
        for _ in range(folder.random.randrange(4)):
            event = folder.random.choice(["add", "change", "touch", "delete", "rename"])
            getattr(folder, event)()
        said = filterbank("run", config, "--prune", "--prune-limit", 100)
        assert said.code == 0, said
        assert said.out.startswith((f"done {len(folder.new)},", "nothing to do")), said
        after = shards_of(tmp_path / "out")
        assert {k: v for k, v in after.items() if k in before}.items() <= before.items()
    assert filterbank("run", config, "--output", tmp_path / "fresh").code == 0
    for table in TABLES:
        assert rows(tmp_path / "out", table) == rows(tmp_path / "fresh", table), table
    assert filterbank("verify", tmp_path / "out").code == 0

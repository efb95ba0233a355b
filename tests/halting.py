"""Actors that compute, and halt: so that something can happen while all of them have work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import remote
from pipeline.plan import Plan
from pipeline.types import Progress, Shard, ShardReport

_pinned = remote.pinned


def happens() -> None:
    """What the driver does when it has committed a shard; tests put something else here."""


class Halting(remote.Remote):
    """Two actors begin together, and halt after a shard each until one of them is lost."""

    def work(self, room: str, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
        (Path(self.folder) / f"{os.getpid()}.here").touch()
        while len(list(Path(self.folder).glob("*.here"))) < 2:
            time.sleep(0.01)
        for event in super().work(room, shards):
            yield event
            while isinstance(event, ShardReport) and not (Path(self.folder) / "go").exists():
                time.sleep(0.01)

    def accept(self, room: str, shard: str) -> None:
        super().accept(room, shard)
        happens()

    def close(self, room: str) -> None:
        super().close(room)
        (Path(self.folder) / "go").touch()


def pinned(plan: Plan) -> Halting:
    """What takes the place of `pipeline.remote.pinned`."""
    return Halting(**vars(_pinned(plan)))

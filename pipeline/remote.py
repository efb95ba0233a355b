"""What a worker in another process does for a run, and what the driver makes of it.

The driver computes nothing, so torch is imported by workers alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.budget import READER
from pipeline.commit import adopt, close_room, open_room
from pipeline.discover import check_roots
from pipeline.errors import PlanError
from pipeline.plan import Plan
from pipeline.storage import TMP
from pipeline.types import Progress, Shard, ShardReport
from pipeline.version import versions


@dataclass(frozen=True)
class Remote:
    """A plan for workers that share input and output with the driver.

    folder: where the driver was started, which relative paths start from; versions: its software.
    """

    plan: Plan
    folder: str
    versions: Mapping[str, str]

    def open(self, room: str) -> None:
        """Make a room for a worker."""
        open_room(self.plan.root, room)

    def enter(self, room: str) -> None:
        """Check that this machine sees what the driver sees, and computes what it would.

        Raises PlanError, InputError where it does not see the input, and DeviceError.
        """
        from pipeline.work import configure

        root = self.plan.root
        try:
            os.chdir(self.folder)
        except OSError as error:
            message = f"has no folder {self.folder}, where the run was started ({error.strerror})"
            raise PlanError(message) from error
        if isinstance(root, Path) and not (root / TMP / room).is_dir():
            message = (
                f"does not see what the driver wrote to {root}; output.path must be one folder "
                "that all machines share, under one absolute path, or a URL"
            )
            raise PlanError(message)
        check_roots(self.plan.config.input)
        self._compare(versions())
        configure(self.plan)

    def _compare(self, here: Mapping[str, str]) -> None:
        told = [
            f"{name} {here.get(name, 'missing')} (driver: {self.versions.get(name, 'missing')})"
            for name in sorted({*here, *self.versions})
            if here.get(name) != self.versions.get(name)
        ]
        if told:
            message = f"has other software, which may give other results: {', '.join(told)}"
            raise PlanError(message)

    def work(self, room: str, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
        """Do shards and leave them in the room."""
        from pipeline.work import work

        return work(self.plan, shards, room)

    def accept(self, room: str, shard: str) -> None:
        """Commit a shard, under the lock."""
        adopt(self.plan.root, room, shard)

    def close(self, room: str) -> None:
        """Forget what a worker left."""
        close_room(self.plan.root, room)


def pinned(plan: Plan) -> Remote:
    """A plan for workers: what is `auto` means what it does on the driver's machine."""
    return _with(plan, plan.threads, plan.workers, plan.memory)


def shared(plan: Plan, count: int) -> Remote:
    """A plan for each of some workers that share this machine: one thread, and its part."""
    memory = max(1, (plan.memory - READER) // count)
    return _with(plan, 1, plan.readers_each, memory, executor="local")


def _with(plan: Plan, threads: int, workers: int, memory: int, **more: Any) -> Remote:
    config = plan.config
    output = replace(config.output, path=str(plan.root))
    run = replace(config.run, threads=threads, workers=workers, memory=memory, **more)
    fixed = replace(plan, config=replace(config, output=output, run=run))
    return Remote(fixed, str(Path.cwd()), versions())

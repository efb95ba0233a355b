"""A site for executors whose shards do what their images' names say, without any pixel."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DeviceError, PlanError, WriteError
from pipeline.types import Failure, Progress, Shard, ShardReport, Source

ERRORS = {error.__name__: error for error in (DeviceError, PlanError, WriteError)}


@dataclass(frozen=True)
class Site:
    """Leaves a file per shard in a room, and moves it to `done` when it is accepted.

    Names of images: `kill` ends the process that works on them, `kill-once` the first time only,
    `meet` waits until two processes have worked, `wait` until there is a file `go`, an error's name
    raises it. unfit: what `enter` raises.
    """

    root: Path
    unfit: str = ""

    def open(self, room: str) -> None:
        (self.root / room).mkdir(parents=True)

    def enter(self, room: str) -> None:
        assert (self.root / room).is_dir()
        if self.unfit:
            raise ERRORS[self.unfit]("unfit")

    def work(self, room: str, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
        for shard in shards:
            good = [source for source in shard.sources if source.failure is None]
            for source in good:
                self._act(source.key.partition(" ")[0])
                yield Progress(1, 10)
            failures = tuple(
                (s.key, s.failure.kind, s.failure.error)
                for s in shard.sources
                if s.failure is not None
            )
            (self.root / room / shard.id).write_text(" ".join(s.key for s in good))
            yield ShardReport(shard.id, len(good), failures)

    def _act(self, word: str) -> None:
        if word == "kill" or (word == "kill-once" and self._first(word)):
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "meet":
            (self.root / f"{os.getpid()}.here").touch()
            while len(list(self.root.glob("*.here"))) < 2:
                time.sleep(0.01)
        while word == "wait" and not (self.root / "go").exists():
            time.sleep(0.01)
        if word in ERRORS:
            raise ERRORS[word](f"on {word}")

    def _first(self, word: str) -> bool:
        try:
            (self.root / word).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def accept(self, room: str, shard: str) -> None:
        (self.root / "done").mkdir(exist_ok=True)
        assert not (self.root / "done" / shard).exists(), "a shard was committed twice"
        (self.root / room / shard).rename(self.root / "done" / shard)

    def close(self, room: str) -> None:
        for path in (self.root / room).iterdir():
            path.unlink()
        (self.root / room).rmdir()


def source(key: str, *, failed: bool = False) -> Source:
    """An image of which only the name is known."""
    return Source(key, (), "none", failure=Failure("corrupt", "is none") if failed else None)


def shard(name: str, *keys: str) -> Shard:
    return Shard(name, tuple(map(source, keys)))

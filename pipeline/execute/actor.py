"""What runs in another process, or on another machine: work on shards, told word by word."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.errors import FilterbankError
from pipeline.types import Progress, Shard, ShardReport

TICK = 1.0
"""Seconds between two words of progress, and between two looks at what no event tells of."""


class Site(Protocol):
    """What actors do, and what the driver does with it. Actors get it pickled."""

    def open(self, room: str) -> None:
        """Make a room (driver)."""

    def enter(self, room: str) -> None:
        """Raise FilterbankError, of one argument, where this machine cannot do its part (actor)."""

    def work(self, room: str, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
        """Do shards in order and leave them in the room (actor)."""

    def accept(self, room: str, shard: str) -> None:
        """Commit what a room holds of a shard (driver)."""

    def close(self, room: str) -> None:
        """Forget a room and what is still in it (driver)."""


class Actor:
    """What runs there."""

    def __init__(self, site: Site, room: str) -> None:
        self.site, self.room = site, room

    def host(self) -> tuple[str, str]:
        """Two names of the machine: for people, and for whoever knows which machines live."""
        name = socket.gethostname()
        return name, name

    def enter(self) -> tuple[str, str] | FilterbankError:
        """The names of the machine, or what is wrong with it."""
        name, node = self.host()
        try:
            self.site.enter(self.room)
        except FilterbankError as error:
            return type(error)(f"machine {name}: {error}")
        return name, node

    def work(self, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress | FilterbankError]:
        """Reports of shards, progress once a second, and at most one error, at the end."""
        images = pixels = 0
        said = time.monotonic()
        try:
            for event in self.site.work(self.room, shards):
                if isinstance(event, Progress):
                    images, pixels = images + event.images, pixels + event.pixels
                    if time.monotonic() - said < TICK:
                        continue
                yield Progress(images, pixels)
                images, pixels, said = 0, 0, time.monotonic()
                if isinstance(event, ShardReport):
                    yield event
        except FilterbankError as error:
            yield error

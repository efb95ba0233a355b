"""Actors, and who of them has which shard. The driver is the only judge of what is done.

An actor stages the files of its shards in a room of its own and can give none its final name. It
reports, and the driver, which holds the lock, commits what the report is about. Nobody restarts an
actor or repeats what it was told. When one is lost the driver closes its room and gives its shards
to others; should it live on, on the far side of a cut cable, it finds no room and nobody listens.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pipeline.errors import DeviceError, FilterbankError, ReaderCrashed
from pipeline.execute.actor import TICK, Site
from pipeline.execute.queue import Assignment, Queue
from pipeline.types import Notice, Progress, Shard, ShardReport

_LOOK = 10.0
"""Seconds between two counts of the machines; after a loss it is a tick."""
_SLOW = 60.0, 4.0
"""Seconds, and multiples of the median shard, after which a shard is called slow."""
_PATIENCE = 600.0
"""Seconds without any living actor after which a run ends."""
_USELESS = 3
"""Actors in a row that cannot start or lose their device; a run ends if no other is left then."""

Event: TypeAlias = ShardReport | Progress | Notice


class Lost(Exception):
    """An actor is gone, for the reason that is the message."""


class Line(Protocol):
    """What connects the driver and an actor, which enters its room as soon as it is there."""

    def hand(self, shards: Sequence[Shard]) -> None:
        """Have it work on shards."""

    def word(self) -> Any:
        """What it says next: of entering one word, then of each assignment many, and None.

        Raises Lost.
        """

    def end(self) -> None:
        """End the actor, if it still lives."""


L = TypeVar("L", bound=Line)


class Hosts(Protocol[L]):
    """The machines that actors run on."""

    def places(self) -> int:
        """How many actors fit on those that are alive."""
        ...

    def hire(self, site: Site, room: str) -> L:
        """Start an actor."""
        ...

    def ready(self, lines: Sequence[L]) -> Sequence[L]:
        """Those on which there is a word; waits for one, a tick at most."""
        ...

    def gone(self, node: str) -> bool:
        """Whether a machine is, by the name that an actor had for it."""
        ...


@dataclass(eq=False)
class _Hired(Generic[L]):
    """An actor as the driver sees it.

    busy: whether a word of it is due; machine and node: two names of its host, one for people,
    empty until it has entered; since: when its shard began; told: what it did of that so far;
    patience: the seconds after which that was called slow.
    """

    line: L
    room: str
    busy: bool = True
    machine: str = ""
    node: str = ""
    task: Assignment | None = None
    since: float = 0.0
    told: Progress = field(default_factory=lambda: Progress(0, 0))
    patience: float = 0.0

    def begin(self) -> None:
        """Start the clock of a shard."""
        self.since, self.told, self.patience = time.monotonic(), Progress(0, 0), 0.0


class Driver(Generic[L]):
    """What hires the actors of a run, and hears them."""

    def __init__(self, hosts: Hosts[L], site: Site, queue: Queue) -> None:
        self.hosts, self.site, self.queue = hosts, site, queue
        self.actors: list[_Hired[L]] = []
        self._hired, self._run = 0, uuid.uuid4().hex[:8]
        self._durations: deque[float] = deque(maxlen=1000)
        self._counted = self._alive = time.monotonic()
        self._useless = 0
        self._places = hosts.places()

    def run(self, unfinished: set[str]) -> Iterator[Event]:
        """Until every shard is reported. Something is yielded at least once a second.

        Raises DeviceError when no actor is left, ReaderCrashed, and what `site` raises.
        """
        while unfinished:
            self._hire(len(unfinished))
            for actor in self.actors:
                if not actor.busy:
                    self._hand_out(actor)
            for event in self._hear():
                if isinstance(event, ShardReport):
                    unfinished.remove(event.shard)
                yield event
            yield from self._slow()

    def dismiss(self) -> None:
        """End all actors, whatever their rooms are like: the next recovery clears what is left."""
        for actor in self.actors:
            actor.line.end()
        for actor in self.actors:
            with suppress(OSError, FilterbankError):
                self.site.close(actor.room)

    # ------------------------------------------------------------ actors come and go
    def _hire(self, most: int) -> None:
        """Start as many actors as there are places, and work; the cluster may have grown."""
        now = time.monotonic()
        if now - self._counted > _LOOK:
            self._counted, self._places = now, self.hosts.places()
        if any(actor.machine for actor in self.actors):
            self._alive = now
        elif now - self._alive > _PATIENCE:
            message = f"no actor has answered for {_PATIENCE:.0f} s"
            raise DeviceError(message)
        for _ in range(min(self._places, most) - len(self.actors)):
            self._hired += 1
            room = f"{self._run}-{self._hired}"
            self.site.open(room)
            self.actors.append(_Hired(self.hosts.hire(self.site, room), room))

    def _end(self, actor: _Hired[L]) -> None:
        actor.line.end()
        self.site.close(actor.room)

    def _lose(self, actor: _Hired[L], reason: Exception) -> Iterator[Event]:
        """Give what an actor had to others: it is dead, or of no use any more."""
        self.actors.remove(actor)
        self._end(actor)
        self._places = len(self.actors)  # its machine may be gone, which shows a moment later
        self._counted = time.monotonic() - _LOOK + TICK
        task, text = actor.task, str(reason)
        shards = [shard.id for shard in task.shards] if task else []
        yield Notice("lost", {"machine": actor.machine, "shards": shards, "reason": text})
        yield Progress(-actor.told.images, -actor.told.pixels)
        useless = not actor.machine or isinstance(reason, DeviceError)
        if task is not None and shards:
            if useless:
                self.queue.give_back(task)
            else:
                self.queue.lost(task, with_machine=self.hosts.gone(actor.node))
        self._useless += useless
        if self._useless >= _USELESS and not any(one.machine for one in self.actors):
            message = f"{_USELESS} actors in a row were of no use; the last one: {text}"
            raise DeviceError(message)

    # ------------------------------------------------------------ work goes out, word comes in
    def _hand_out(self, actor: _Hired[L]) -> None:
        actor.task = self.queue.take(len(self.actors))
        if actor.task is not None:
            actor.line.hand(tuple(actor.task.shards))
            actor.busy = True
            actor.begin()

    def _hear(self) -> Iterator[Event]:
        """Wait for a word of some actor, a second at most, and take one of each that has one."""
        busy = {actor.line: actor for actor in self.actors if actor.busy}
        ready = self.hosts.ready(list(busy)) if busy else []
        if not busy:
            time.sleep(TICK)
        yield Progress(0, 0)
        for actor in (busy[line] for line in ready):
            try:
                word = actor.line.word()
            except Lost as error:
                yield from self._lose(actor, error)
            else:
                yield from self._understand(actor, word)

    def _understand(self, actor: _Hired[L], word: Any) -> Iterator[Event]:
        task = actor.task
        if task is None:
            if isinstance(word, FilterbankError):
                raise word
            (actor.machine, actor.node), actor.busy = word, False
            yield Notice("actor", {"machine": actor.machine, "room": actor.room})
        elif word is None:
            actor.busy, actor.task = False, None
        elif isinstance(word, DeviceError | ReaderCrashed):
            yield from self._lose(actor, word)
        elif isinstance(word, FilterbankError):
            raise word
        elif isinstance(word, ShardReport):
            yield from self._take(actor, task, word)
        elif not task.trial:
            actor.told = Progress(actor.told.images + word.images, actor.told.pixels + word.pixels)
            yield word

    def _take(
        self, actor: _Hired[L], task: Assignment, report: ShardReport
    ) -> Iterator[ShardReport]:
        """Commit a shard, unless it was a trial."""
        self._useless = 0
        if task.trial:
            self.queue.survived(task)
            task.finish(report.shard)
            return
        task.finish(report.shard)
        self.site.accept(actor.room, report.shard)
        self._durations.append(time.monotonic() - actor.since)
        actor.begin()
        yield report

    def _slow(self) -> Iterator[Notice]:
        """Name shards that take far longer than others, and again each time that has doubled."""
        least, times = _SLOW
        usual = median(self._durations) if self._durations else 0.0
        for actor in self.actors:
            seconds = time.monotonic() - actor.since
            if actor.task and seconds > max(least, times * usual, 2 * actor.patience):
                actor.patience = seconds
                shard = actor.task.shards[0].id if actor.task.shards else None
                details = {"shard": shard, "machine": actor.machine, "seconds": round(seconds)}
                yield Notice("slow", details)

"""Run shards on the machines of a Ray cluster. The driver is the only judge of what is done.

An actor stages the files of its shards in a room of its own and can give none its final name. It
reports, and the driver, which holds the lock, commits what the report is about. Ray restarts no
actor and repeats no call. When one is lost the driver closes its room and gives its shards to
others; should it live on, on the far side of a cut cable, it finds no room and nobody listens. So
do the actors of a driver that was killed: Ray ends them, and until it has, the next driver, which
gets the lock at once, has cleared all rooms and opened its own under other names.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeAlias

from pipeline.errors import DeviceError, FilterbankError, PlanError, ReaderCrashed
from pipeline.execute.actor import TICK, Actor, Site
from pipeline.execute.cluster import connected
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


@dataclass(eq=False)
class _Hired:
    """An actor as the driver sees it.

    awaited: its next word, None where it has nothing to do; machine and node: its host's name and
    Ray's, empty until it has entered;
    since: when its shard began; told: what it did of that so far; patience: the seconds after which
    that was called slow.
    """

    handle: Any
    room: str
    awaited: Any
    machine: str = ""
    node: str = ""
    task: Assignment | None = None
    since: float = 0.0
    told: Progress = field(default_factory=lambda: Progress(0, 0))
    patience: float = 0.0

    def begin(self) -> None:
        """Start the clock of a shard."""
        self.since, self.told, self.patience = time.monotonic(), Progress(0, 0), 0.0


def run_ray(
    site: Site, shards: Sequence[Shard], *, address: str, needs: Mapping[str, float]
) -> Iterator[Event]:
    """Work through shards on the cluster at an address; `local` starts one on this machine.

    needs: what one actor takes of a machine: `CPU`, `GPU`, `memory` (bytes). Something is yielded
    at least once a second, so that a run can be stopped. Raises MissingDependency; DeviceError when
    there is no cluster, or no machine is left; PlanError when no machine has what an actor needs;
    ReaderCrashed; and what `site` raises.
    """
    with connected(address) as (ray, heed_signals):
        crew = _Crew(ray, site, Queue(shards), needs)
        try:
            for event in crew.run({shard.id for shard in shards}):
                heed_signals()
                yield event
        finally:
            crew.dismiss()


class _Crew:
    """All actors of a run."""

    def __init__(self, ray: Any, site: Site, queue: Queue, needs: Mapping[str, float]) -> None:
        self.ray, self.site, self.queue = ray, site, queue
        self.needs = {name: amount for name, amount in needs.items() if amount}
        self.actors: list[_Hired] = []
        self._hired, self._run = 0, uuid.uuid4().hex[:8]
        self._durations: deque[float] = deque(maxlen=1000)
        self._counted = self._alive = time.monotonic()
        self._useless = 0
        self._places = self._count()
        if not self._places:
            wanted = ", ".join(f"{name} {amount:g}" for name, amount in self.needs.items())
            message = (
                f"no machine of the Ray cluster has what an actor takes ({wanted}); "
                "lower run.threads or run.memory"
            )
            raise PlanError(message)

    def run(self, unfinished: set[str]) -> Iterator[Event]:
        """Until every shard is reported."""
        while unfinished:
            self._hire(len(unfinished))
            for actor in self.actors:
                if actor.awaited is None:
                    self._hand_out(actor)
            for event in self._hear():
                if isinstance(event, ShardReport):
                    unfinished.remove(event.shard)
                yield event
            yield from self._slow()

    def dismiss(self) -> None:
        """End all actors."""
        for actor in self.actors:
            self._end(actor)

    # ------------------------------------------------------------ actors come and go
    def _hire(self, most: int) -> None:
        """Start as many actors as there are places, and work; the cluster may have grown."""
        now = time.monotonic()
        if now - self._counted > _LOOK:
            self._counted, self._places = now, self._count()
        if any(actor.machine for actor in self.actors):
            self._alive = now
        elif now - self._alive > _PATIENCE:
            message = f"no machine of the Ray cluster has answered for {_PATIENCE:.0f} s"
            raise DeviceError(message)
        for _ in range(min(self._places, most) - len(self.actors)):
            self._hired += 1
            room = f"{self._run}-{self._hired}"
            self.site.open(room)
            handle = self._class.remote(self.site, room)
            self.actors.append(_Hired(handle, room, handle.enter.remote()))

    @property
    def _class(self) -> Any:
        others = {k: v for k, v in self.needs.items() if k not in ("CPU", "GPU")}
        return self.ray.remote(Actor).options(
            num_cpus=self.needs.get("CPU", 0),
            num_gpus=self.needs.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            **others,
        )

    def _count(self) -> int:
        """How many actors fit on the machines that are alive."""
        return sum(
            min(int(node["Resources"].get(name, 0) // n) for name, n in self.needs.items())
            for node in self.ray.nodes()
            if node["Alive"]
        )

    def _end(self, actor: _Hired) -> None:
        with suppress(self.ray.exceptions.RayError):
            self.ray.kill(actor.handle, no_restart=True)
        self.site.close(actor.room)

    def _lose(self, actor: _Hired, reason: Exception) -> Iterator[Event]:
        """Give what an actor had to others: it is dead, or of no use any more."""
        self.actors.remove(actor)
        self._end(actor)
        self._places = len(self.actors)  # its machine may be gone, which shows a moment later
        self._counted = time.monotonic() - _LOOK + TICK
        task, text = actor.task, _sentence(reason)
        shards = [shard.id for shard in task.shards] if task else []
        yield Notice("lost", {"machine": actor.machine, "shards": shards, "reason": text})
        yield Progress(-actor.told.images, -actor.told.pixels)
        useless = not actor.machine or isinstance(reason, DeviceError)
        if task is not None and shards:
            if useless:
                self.queue.give_back(task)
            else:
                alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
                self.queue.lost(task, with_machine=actor.node not in alive)
        self._useless += useless
        if self._useless >= _USELESS and not any(one.machine for one in self.actors):
            message = f"{_USELESS} actors in a row were of no use; the last one: {text}"
            raise DeviceError(message)

    # ------------------------------------------------------------ work goes out, word comes in
    def _hand_out(self, actor: _Hired) -> None:
        actor.task = self.queue.take(len(self.actors))
        if actor.task is not None:
            call = actor.handle.work.options(num_returns="streaming")
            actor.awaited = call.remote(tuple(actor.task.shards))
            actor.begin()

    def _hear(self) -> Iterator[Event]:
        """Wait for a word of some actor, a second at most, and take one of each that has one."""
        awaited = {actor.awaited: actor for actor in self.actors if actor.awaited is not None}
        ready = []
        if awaited:
            ready, others = self.ray.wait(list(awaited), timeout=TICK, fetch_local=False)
            if others:
                many = len(others)
                more, _ = self.ray.wait(others, num_returns=many, timeout=0, fetch_local=False)
                ready += more
        else:
            time.sleep(TICK)
        yield Progress(0, 0)
        for actor in (awaited[word] for word in ready):
            try:
                word = self._word_of(actor)
            except self.ray.exceptions.RayTaskError as error:  # a defect of ours
                raise error.cause from error
            except self.ray.exceptions.RayError as error:
                yield from self._lose(actor, error)
            else:
                yield from self._understand(actor, word)

    def _word_of(self, actor: _Hired) -> Any:
        """The word of an actor that is there; None when it has done all it had."""
        try:
            return self.ray.get(next(actor.awaited) if actor.task else actor.awaited)
        except StopIteration:
            return None

    def _understand(self, actor: _Hired, word: Any) -> Iterator[Event]:
        task = actor.task
        if task is None:
            if isinstance(word, FilterbankError):
                raise word
            (actor.machine, actor.node), actor.awaited = word, None
            yield Notice("actor", {"machine": actor.machine, "room": actor.room})
        elif word is None:
            actor.awaited = actor.task = None
        elif isinstance(word, DeviceError | ReaderCrashed):
            yield from self._lose(actor, word)
        elif isinstance(word, FilterbankError):
            raise word
        elif isinstance(word, ShardReport):
            yield from self._take(actor, task, word)
        elif not task.trial:
            actor.told = Progress(actor.told.images + word.images, actor.told.pixels + word.pixels)
            yield word

    def _take(self, actor: _Hired, task: Assignment, report: ShardReport) -> Iterator[ShardReport]:
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


def _sentence(reason: Exception) -> str:
    """The first sentence of the last line: Ray begins with identifiers and ends with advice."""
    lines = str(reason).strip().splitlines() or [type(reason).__name__]
    return lines[-1].partition(". ")[0][:500]

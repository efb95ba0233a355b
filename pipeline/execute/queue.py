"""Which shards an actor gets next, and what the deaths of actors say about images.

Nothing here knows how actors live and die: that is for the executor, or for a simulation.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pipeline.errors import ReaderCrashed
from pipeline.types import Failure, Shard, Source

_MOST = 16
"""Shards handed over at once, at most: what one slow or lost actor holds up."""
_ROUNDS = 3
"""Inquiries into one shard that find nobody guilty, after which a run gives up."""
_MACHINES = 5
"""Machines that go while one shard is worked on, after which that counts against the shard."""
_CRASHED = Failure("crashed", "the process that works on this file dies of it, also on its own")


@dataclass
class Assignment:
    """Shards in the hands of one actor, in order; the first is the one it works on.

    trial: some images of one shard, to see whether an actor survives them; what it makes of them is
    not kept.
    """

    shards: deque[Shard]
    trial: bool = False

    def finish(self, shard: str) -> None:
        """Strike a shard that was reported; they come in order."""
        if self.shards[0].id != shard:
            message = f"shard {shard} was reported, but {self.shards[0].id} was due"
            raise ValueError(message)
        self.shards.popleft()


class Inquiry:
    """Which images of a shard kill actors: those that kill one on their own, twice.

    They are found by bisection; no result of it is kept, because a shard is committed once, whole.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.guilty: set[str] = set()
        self._parts: list[tuple[Source, ...]] = []
        self._accused: str | None = None
        self._split(tuple(source for source in shard.sources if source.failure is None))

    @property
    def trial(self) -> Shard | None:
        """The images to try next; None when all are judged."""
        return replace(self.shard, sources=self._parts[-1], kept=()) if self._parts else None

    def survived(self) -> None:
        """Acquit the images that were tried."""
        self._parts.pop()

    def died(self) -> None:
        """Suspect the halves of the images that were tried; try one alone a second time."""
        part = self._parts.pop()
        key = part[0].key
        if len(part) > 1:
            self._split(part)
        elif self._accused == key:
            self.guilty.add(key)
        else:
            self._accused = key
            self._parts.append(part)

    def verdict(self) -> Shard:
        """The shard with its killers failed."""
        sources = (s.fail(_CRASHED) if s.key in self.guilty else s for s in self.shard.sources)
        return replace(self.shard, sources=tuple(sources))

    def _split(self, part: tuple[Source, ...]) -> None:
        middle = (len(part) + 1) // 2
        self._parts += [half for half in (part[middle:], part[:middle]) if half]


class Queue:
    """Shards that nobody works on, those of lost actors first.

    A shard whose actor is lost goes to another one, by itself; when that is lost too, an inquiry
    finds the images that kill actors, and the shard is done once more, with those failed.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._fresh = deque(shards)
        self._again: deque[Shard] = deque()
        self._inquiries: dict[str, Inquiry] = {}
        self._due: deque[str] = deque()
        self._lost: Counter[str] = Counter()
        self._in_vain: Counter[str] = Counter()
        self._machines: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many actors it could keep busy."""
        return len(self._fresh) + len(self._again) + len(self._due)

    def take(self, actors: int) -> Assignment | None:
        """The next assignment for one of so many actors: fewer shards, the fewer are left.

        Guided self-scheduling (Polychronopoulos and Kuck, IEEE Trans. Comput. C-36, 1987), with
        half of its share, because actors die.
        """
        if self._again:
            return Assignment(deque([self._again.popleft()]))
        if self._due:
            trial = self._inquiries[self._due.popleft()].trial
            assert trial is not None
            return Assignment(deque([trial]), trial=True)
        if not self._fresh:
            return None
        many = max(1, min(_MOST, len(self._fresh) // (2 * max(1, actors))))
        return Assignment(deque(self._fresh.popleft() for _ in range(many)))

    def survived(self, assignment: Assignment) -> None:
        """Note that an actor came through a trial. Raises ReaderCrashed as `lost` does."""
        inquiry = self._inquiries[assignment.shards[0].id]
        inquiry.survived()
        self._go_on(inquiry)

    def lost(self, assignment: Assignment, *, with_machine: bool = False) -> None:
        """Take back what a lost actor had.

        with_machine: its machine is gone as well, which says nothing about the shard unless it
        happens time and again: a shard may take as long as machines live. Raises ReaderCrashed when
        a shard kills actors again and again, but no image of it does.
        """
        first, *others = assignment.shards
        if with_machine:
            self._machines[first.id] += 1
            if self._machines[first.id] < _MACHINES:
                self.give_back(assignment)
                return
        self._fresh.extendleft(reversed(others))
        if assignment.trial:
            inquiry = self._inquiries[first.id]
            inquiry.died()
            self._go_on(inquiry)
        elif self._lost[first.id]:
            self._go_on(Inquiry(first))
        else:
            self._lost[first.id] += 1
            self._again.append(first)

    def give_back(self, assignment: Assignment) -> None:
        """Take back what an actor had that failed for a reason of its own."""
        first, *others = assignment.shards
        self._fresh.extendleft(reversed(others))
        if assignment.trial:
            self._due.append(first.id)
        else:
            self._again.append(first)

    def _go_on(self, inquiry: Inquiry) -> None:
        shard = inquiry.shard
        if inquiry.trial is not None:
            self._inquiries[shard.id] = inquiry
            self._due.append(shard.id)
            return
        self._inquiries.pop(shard.id, None)
        del self._lost[shard.id]
        self._in_vain[shard.id] += not inquiry.guilty
        if self._in_vain[shard.id] == _ROUNDS:
            message = (
                f"shard {shard.id} ({shard.sources[0].key} ...) kills the processes that work on "
                "it, and no file by itself is to blame; is memory short? Set run.memory"
            )
            raise ReaderCrashed(message)
        self._again.append(inquiry.verdict())

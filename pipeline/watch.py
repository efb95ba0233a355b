"""How long each stage was at work, and how much memory it took: what a run tells of its speed."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias, cast

Seconds: TypeAlias = Mapping[str, float]
"""By stage: read, decode (on a GPU), filter, measure, render or write."""

COMPUTED = ("decode", "filter", "measure", "render")
"""Stages of the threads that compute; the others have processes, or a thread, of their own."""


class Watch:
    """Seconds by stage of one thread, from now on."""

    def __init__(self) -> None:
        self._laps = [("", self._now())]

    def lap(self, stage: str) -> None:
        """Put down what has passed since the last lap for a stage."""
        self._laps.append((stage, self._now()))

    @property
    def seconds(self) -> Seconds:
        """All that was put down, by stage."""
        found: dict[str, float] = {}
        for (_, began), (stage, ended) in pairwise(self._laps):
            found[stage] = found.get(stage, 0.0) + self._between(began, ended)
        return found

    def _now(self) -> Any:
        return perf_counter()

    def _between(self, began: Any, ended: Any) -> float:
        return cast("float", ended - began)


def peak_memory() -> int:
    """The most bytes that this process has had in memory."""
    try:  # ru_maxrss is also that of the program this one was started from
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10
    except (OSError, IndexError):  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@dataclass
class Effort:
    """What some work took: `wall` seconds, in which each stage was at work for `busy` seconds.

    Where a stage has several processes or threads, it counts as busy as they are on average.
    peaks: bytes of the largest process that computes, of the largest that reads, and of torch on a
    GPU; gpus: their names.
    """

    wall: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    gpus: set[str] = field(default_factory=set)

    def add(self, other: Effort) -> None:
        """Take further work into account."""
        self.wall += other.wall
        for stage, seconds in other.busy.items():
            self.busy[stage] = self.busy.get(stage, 0.0) + seconds
        for process, size in other.peaks.items():
            self.peaks[process] = max(self.peaks.get(process, 0), size)
        self.gpus |= other.gpus

    def record(self) -> dict[str, Any]:
        """Shares of the time in which the stages were busy, and which of them held up the rest."""
        shares = {stage: round(s / self.wall, 3) for stage, s in self.busy.items() if self.wall}
        told = {"busy": shares, "bottleneck": self.bottleneck, "peak_memory": self.peaks}
        return told | ({"gpus": sorted(self.gpus)} if self.gpus else {})

    @property
    def bottleneck(self) -> str | None:
        """The stage that took most of what was busiest: reading, computing or writing."""
        computed = {stage: self.busy[stage] for stage in COMPUTED if stage in self.busy}
        rivals = {stage: s for stage, s in self.busy.items() if stage not in computed}
        if computed:
            rivals[max(computed, key=computed.__getitem__)] = sum(computed.values())
        return max(rivals, key=rivals.__getitem__, default=None)


class Timesheet:
    """The effort of one worker, from one report to the next; lanes: of each stage, how many."""

    def __init__(self, lanes: Mapping[str, int]) -> None:
        self.lanes = lanes
        self._effort, self._began = Effort(), perf_counter()

    def add(self, seconds: Seconds) -> None:
        """Put seconds down for the stages of one process or thread."""
        self._effort.add(Effort(busy={s: took / self.lanes[s] for s, took in seconds.items()}))

    def peak(self, process: str, size: int) -> None:
        """Put down the most memory that a process has had."""
        self._effort.add(Effort(peaks={process: size}))

    def gpu(self, name: str, size: int) -> None:
        """Put down a GPU, and the most of its memory that was taken."""
        self._effort.add(Effort(peaks={"gpu": size}, gpus={name}))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Put down for `write` what the block takes."""
        watch = Watch()
        yield
        watch.lap("write")
        self.add(watch.seconds)

    def close(self) -> Effort:
        """What has been put down, and the time it took; begins anew."""
        now = perf_counter()
        self.peak("compute", peak_memory())
        done, self._effort = self._effort, Effort()
        done.wall, self._began = now - self._began, now
        return done

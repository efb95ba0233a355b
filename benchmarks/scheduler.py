"""How long does a cluster take, against the ideal? The Ray executor's queue in simulated time.

Shards take heavy-tailed times, machines die and come back, and the driver commits one shard after
another. The queue is the product's own; fixed sizes of assignments stand beside it. Nothing here
depends on this machine: a seed gives the same figures anywhere.

    python benchmarks/scheduler.py [--shards 20000] [--actors 256] [--mtbf-hours 6]
"""

from __future__ import annotations

import argparse
import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

import numpy as np

from pipeline.execute.queue import Assignment, Queue
from pipeline.types import Shard, Source

SOURCES = tuple(Source(str(i), (), "none") for i in range(8))
"""Of every shard: enough for inquiries to have halves to try."""
RESTART = 60.0
"""Seconds until a machine that died is replaced."""


class Fixed(Queue):
    """The same queue with assignments of one size."""

    size = 1

    def take(self, actors: int) -> Assignment | None:  # noqa: ARG002
        first = super().take(1 << 30)
        while first and not first.trial and len(first.shards) < self.size:
            more = super().take(1 << 30)
            if more is None:
                break
            if more.trial:
                self.give_back(more)
                break
            first.shards += more.shards
        return first


def simulate(
    queue: Queue, seconds: dict[str, float], actors: int, mtbf: float, commit: float, seed: int
) -> tuple[float, int, int]:
    """Makespan in seconds, machines lost, images accused; mtbf and commit in seconds."""
    rng, order = np.random.default_rng(seed), count()
    events: list[tuple[float, int, Callable[[], None]]] = []
    open_shards, lost, accused, free, now = len(seconds), 0, 0, 0.0, 0.0
    idle: deque[int] = deque()
    task: dict[int, Assignment] = {}
    life = dict.fromkeys(range(actors), 0)

    def at(when: float, act: Callable[[], None]) -> None:
        heapq.heappush(events, (when, next(order), act))

    def born(actor: int) -> None:
        at(now + rng.exponential(mtbf), lambda own=life[actor]: die(actor, own))
        hand_out(actor)

    def hand_out(actor: int) -> None:
        taken = queue.take(actors)
        if taken is None:
            idle.append(actor)
            return
        task[actor] = taken
        work(actor)

    def work(actor: int) -> None:
        shard = task[actor].shards[0]
        share = len(shard.sources) / len(SOURCES)
        at(now + share * seconds[shard.id], lambda own=life[actor]: finish(actor, own))

    def finish(actor: int, own: int) -> None:
        nonlocal free, open_shards, accused
        if life[actor] != own:
            return
        taken = task[actor]
        shard = taken.shards[0]
        if taken.trial:
            queue.survived(taken)
        else:
            free = max(now, free) + commit
            open_shards -= 1
            accused += sum(source.failure is not None for source in shard.sources)
        taken.finish(shard.id)
        if taken.shards:
            work(actor)
        else:
            del task[actor]
            at(max(now, free), lambda: life[actor] == own and hand_out(actor))
        wake()

    def die(actor: int, own: int) -> None:
        nonlocal lost
        if life[actor] != own:
            return
        life[actor] += 1
        lost += 1
        if actor in idle:
            idle.remove(actor)
        taken = task.pop(actor, None)
        if taken is not None and taken.shards:
            queue.lost(taken, with_machine=True)
        at(now + RESTART, lambda: born(actor))
        wake()

    def wake() -> None:
        while idle and len(queue):
            hand_out(idle.popleft())

    for actor in range(actors):
        born(actor)
    while open_shards:
        now, _, act = heapq.heappop(events)
        act()
    return max(now, free), lost, accused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--actors", type=int, default=256)
    parser.add_argument("--mean", type=float, default=30.0, help="seconds per shard")
    parser.add_argument("--mtbf-hours", type=float, default=6.0, help="of one machine")
    parser.add_argument("--commit-ms", type=float, default=10.0, help="of the driver, per shard")
    options = parser.parse_args()
    rng, n = np.random.default_rng(0), options.shards
    drawings = {
        "equal": np.ones(n),
        "lognormal, sigma 1": rng.lognormal(0, 1, n),
        "Pareto, alpha 2.5": 1 + rng.pareto(2.5, n),
    }
    print(f"{n} shards of {options.mean:g} s, {options.actors} actors: makespan / ideal")
    print(f"{'durations':20} {'guided':>8} {'one':>8} {'16 each':>8}   lost accused (guided)")
    for name, drawn in drawings.items():
        times = options.mean * drawn / drawn.mean()
        seconds = {str(i): float(time) for i, time in enumerate(times)}
        ideal = max(times.sum() / options.actors, times.max())
        found = []
        for kind, size in ((Queue, 0), (Fixed, 1), (Fixed, 16)):
            Fixed.size = size
            queue = kind(Shard(i, SOURCES) for i in seconds)
            mtbf, commit = 3600 * options.mtbf_hours, options.commit_ms / 1000
            found.append(simulate(queue, seconds, options.actors, mtbf, commit, seed=1))
        ratios = " ".join(f"{makespan / ideal:8.3f}" for makespan, _, _ in found)
        print(f"{name:20} {ratios} {found[0][1]:6} {found[0][2]:7}")


if __name__ == "__main__":
    main()

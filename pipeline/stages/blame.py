"""Which files kill the processes that read them?"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection

from pipeline.errors import ReaderCrashed
from pipeline.plan import Plan
from pipeline.stages.processes import start_worker
from pipeline.stages.read import Job, Tiles
from pipeline.types import Failure, Shard, Source


def blame(plan: Plan, shards: Sequence[Shard], crash: ReaderCrashed) -> tuple[Shard, ...]:
    """Fail those suspects of a crash whose reading kills a process, twice; else the same shards.

    Each is read by itself, so that nobody else can be meant.
    """
    suspects = [
        source
        for shard in shards
        for source in shard.sources
        if source.key in crash.suspects and source.failure is None
    ]
    guilty: dict[str, Failure] = {}
    for source, _ in _deaths(plan, suspects):
        for _, death in _deaths(plan, [source]):
            guilty[source.key] = Failure("crashed", f"the process that read this file {death}")
    return tuple(
        replace(
            shard,
            sources=tuple(s.fail(guilty[s.key]) if s.key in guilty else s for s in shard.sources),
        )
        for shard in shards
    )


def _deaths(plan: Plan, sources: Sequence[Source]) -> Iterator[tuple[Source, str]]:
    """Read sources one after another in a process; name each one it dies of, and how."""
    context = get_context("forkserver")
    while sources:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_try_each, args=(plan, sources, theirs), daemon=True)
        process.start()
        theirs.close()
        survived = 0
        with suppress(EOFError), ours:
            while survived < len(sources):
                ours.recv()
                survived += 1
        process.join()
        if survived < len(sources):
            yield sources[survived], _cause(process.exitcode)
        sources = sources[survived + 1 :]


def _try_each(plan: Plan, sources: Sequence[Source], survived: Connection) -> None:
    start_worker(0)
    for source in sources:
        for tile in plan.tiles(source):
            Tiles(plan)[Job(0, (tile,))]
        survived.send(None)


def _cause(code: int | None) -> str:
    """How a process ended, from its exit code."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"

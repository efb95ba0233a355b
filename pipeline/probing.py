"""Listed files -> what their headers say, asked in processes that a header may hold up or kill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeAlias, TypeVar

from pipeline.config.schema import Limits
from pipeline.storage import is_url
from pipeline.types import Failure, Source
from pipeline.workers.bounds import TOO_LARGE, Begin, Bounds, unguarded
from pipeline.workers.pool import Crew, in_order

_CHUNK = 64
"""Sources that a process is handed at once."""

Found = TypeVar("Found")
Look: TypeAlias = Callable[[Source], Found]


def look_into(
    look: Look[Found], sources: Sequence[Source], limits: Limits, *, workers: int
) -> Iterator[Found | Failure]:
    """What a function finds in the files of each source, in order; or why it never came back.

    It runs in so many processes within the limits, or, without any, in this one. They are forks:
    nothing here has to be imported again. Where this process has threads, a fork of it might wait
    for ever for what a thread holds, so they come from a process without.
    """
    duty = partial(_look_each, look)
    chunks = _chunks(sources, max(1, min(_CHUNK, -(-len(sources) // max(1, workers)))))
    if not workers:
        for chunk in chunks:
            yield from duty(chunk, unguarded)
        return
    alone = threading.active_count() == 1
    bounds = Bounds(limits.seconds_per_file, limits.reader_memory)
    crew = Crew(workers, "fork" if alone else "forkserver", bounds)
    with closing(in_order(duty, chunks, crew)) as answers:
        for found in answers:
            yield from found


@dataclass(frozen=True)
class _Chunk:
    """Some sources; failed: those not to be looked into, by their place, and why."""

    sources: tuple[Source, ...]
    failed: Mapping[int, Failure] = field(default_factory=dict)

    def alone(self, item: int) -> _Chunk:
        return _Chunk((self.sources[item],))

    def without(self, item: int, failure: Failure) -> _Chunk:
        return replace(self, failed={**self.failed, item: failure})


def _chunks(sources: Sequence[Source], size: int) -> Iterator[_Chunk]:
    rest = iter(sources)
    while some := tuple(islice(rest, size)):
        yield _Chunk(some)


def _look_each(look: Look[Found], chunk: _Chunk, begin: Begin) -> list[Found | Failure]:
    found: list[Found | Failure] = []
    for i, source in enumerate(chunk.sources):
        if i in chunk.failed:
            found.append(chunk.failed[i])
            continue
        begin(i, size=sum(m.bytes for m in source.files if is_url(m.path)))
        try:
            found.append(look(source))
        except MemoryError:
            found.append(TOO_LARGE)
    return found

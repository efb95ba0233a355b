"""Several batches in flight on one device: while one is computed, others come, go and are coded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from queue import SimpleQueue
from threading import Lock

import torch

from pipeline.watch import Watch


class Lanes:
    """Where threads compute at once, each batch in a lane.

    A lane of a GPU is a CUDA stream, on which the pixels of a batch are copied, filtered and
    measured, and on which what is kept of it is copied back: nothing there waits for other batches.
    Memory that one lane has freed is its own until another would run out of it, so they are few.
    """

    def __init__(self, device: str, count: int) -> None:
        self.count, self._clearing = count, Lock()
        self._free: SimpleQueue[torch.cuda.Stream | None] = SimpleQueue()
        for number in range(count):
            self._free.put(_stream(number) if device == "cuda" else None)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Compute beside others."""
        lane = self._free.get()
        try:
            with _within(lane):
                yield
        finally:
            self._free.put(lane)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute once nothing else is computed, with all of the device's memory."""
        with self._clearing:  # two that each held some would wait for one another
            held = [self._free.get() for _ in range(self.count)]
        try:
            torch.cuda.empty_cache()  # of all lanes; nothing where CUDA is not in use
            with _within(held[0]):
                yield
        finally:
            for lane in held:
                self._free.put(lane)


@cache
def _stream(number: int) -> torch.cuda.Stream:  # noqa: ARG001 - what tells them apart
    """Of a lane, for as long as the process lives: what is freed on a stream stays with it."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _within(lane: torch.cuda.Stream | None) -> AbstractContextManager[object]:
    """Torch's own context of no stream asks for a device, also where the work is a CPU's."""
    return nullcontext() if lane is None else torch.cuda.stream(lane)


class StreamWatch(Watch):
    """Seconds by stage of a stream: to each goes what it asked of the GPU, which runs behind."""

    def _now(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, began: torch.cuda.Event, ended: torch.cuda.Event) -> float:
        ended.synchronize()
        return float(began.elapsed_time(ended)) / 1e3


def watch(device: str) -> Watch:
    """A watch of what this thread computes, or of its lane of a GPU."""
    return StreamWatch() if device == "cuda" else Watch()

"""Several batches in flight on one device: while one is computed, others come, go and are coded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock

import torch


class Lanes:
    """Where threads compute at once, each batch in a lane.

    A lane of a GPU is a CUDA stream, on which the pixels of a batch are copied, filtered and
    measured, and on which what is kept of it is copied back: nothing there waits for other batches.
    Memory that one lane has freed is its own until another would run out of it, so they are few.
    """

    def __init__(self, device: str, count: int) -> None:
        self.count, self._clearing = count, Lock()
        self._free: SimpleQueue[torch.cuda.Stream | None] = SimpleQueue()
        for _ in range(count):
            self._free.put(torch.cuda.Stream() if device == "cuda" else None)  # type: ignore[no-untyped-call]

    @contextmanager
    def one(self) -> Iterator[None]:
        """Compute beside others."""
        lane = self._free.get()
        try:
            with torch.cuda.stream(lane):
                yield
        finally:
            self._free.put(lane)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Compute once nothing else is computed, with all of the device's memory."""
        with self._clearing:  # two that each held some would wait for one another
            held = [self._free.get() for _ in range(self.count)]
        try:
            torch.cuda.empty_cache()  # of all lanes; nothing without CUDA
            with torch.cuda.stream(held[0]):
                yield
        finally:
            for lane in held:
                self._free.put(lane)

"""What a process may take for one file: time and memory, kept by the kernel.

Neither bound asks the code that reads for help: it may be C that never returns, or that does not
look whether memory was given.
"""

from __future__ import annotations

import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.types import Failure
from pipeline.workers.letters import Letter

SLOWEST = 4 << 20
"""Bytes per second of a disk that is slow, and not to be taken for one that hangs."""


class Begin(Protocol):
    """How a duty says which item of its task is next."""

    def __call__(self, item: int | None, *, size: int = 0, needs: int = 0) -> None:
        """Bound the work on an item; None: what comes next is no item's doing.

        size: bytes of its files that are read, which are given time to arrive; needs: memory in
        bytes that its header says it takes.
        """
        ...


@dataclass(frozen=True)
class Bounds:
    """Of one item: seconds, and bytes beyond what its process took before the task.

    None: unbounded. An item that its header says to need more memory may have that much.
    """

    seconds: float | None = None
    memory: int | None = None

    @property
    def too_slow(self) -> Failure:
        """Of what a process was working on when its time was over."""
        text = f"reading took longer than limits.seconds_per_file ({self.seconds:g} s)"
        return Failure("timeout", text)


TOO_LARGE = Failure("limit", "reading it takes more memory than limits.reader_memory")
"""Of what asked for memory in vain."""


class Guard:
    """Bounds this process, item by item: SIGALRM ends one that is late."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._taken: int | None = None
        _, self._hard = resource.getrlimit(resource.RLIMIT_DATA)

    def begin(self, letter: Letter, item: int | None, *, size: int = 0, needs: int = 0) -> None:
        """Bound the work on an item from now on, and note in the letter which one it is."""
        self.lift()  # first, or the last item's alarm could end the next one
        if item is None:
            return
        letter.begun = item + 1
        seconds, memory = self.bounds.seconds, self.bounds.memory
        if memory is not None:
            if self._taken is None:  # libraries that earlier tasks imported are no file's doing
                self._taken = _data_bytes()
            self._allow(self._taken + max(memory, needs))
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds + size / SLOWEST)

    def lift(self) -> None:
        """Bound nothing until the next item begins."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._allow(resource.RLIM_INFINITY)

    def end(self) -> None:
        """Bound nothing until the next task."""
        self.lift()
        self._taken = None

    def _allow(self, memory: int) -> None:
        """Private memory: RLIMIT_AS would count what libraries map and never touch."""
        if self._hard != resource.RLIM_INFINITY:
            memory = self._hard if memory == resource.RLIM_INFINITY else min(memory, self._hard)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, self._hard))


def unguarded(item: int | None, *, size: int = 0, needs: int = 0) -> None:
    """Bound nothing: the main process does not end itself."""


def _data_bytes() -> int:
    """Private memory of this process, as RLIMIT_DATA counts it."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * resource.getpagesize()

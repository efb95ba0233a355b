"""How this process asks the system for memory: once, for what it will need again."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Names of malloc.h for mallopt."""


def keep_memory() -> None:
    """Let glibc reuse what is freed: a response in fresh pages costs more than a small kernel.

    The process never gives back what it once had: its peak is what it holds until it ends.
    Threads share one heap: those of their own end at 64 MiB, and a larger plane would be fresh. So
    this has to come before the first thread, which numpy starts: threads take turns at the heaps
    that are there.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(_MMAP_THRESHOLD, (1 << 31) - 1) or mallopt(_MMAP_THRESHOLD, 1 << 25)  # before 2.35
    mallopt(_TRIM_THRESHOLD, -1)  # never
    mallopt(_ARENA_MAX, 1)

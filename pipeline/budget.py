"""What computing takes of the machine's memory, measured or counted, and how much that has."""

from __future__ import annotations

import math
import os
from collections import Counter
from pathlib import Path

from pipeline.bank.compile import Schedule
from pipeline.bank.expr import Blocks, Input, Repair, Spectrum

WORKING = 14
"""float32 planes of one response that statistics and rendering hold at the same time."""

_PLANES: dict[type, int] = {Input: 2, Blocks: 4, Spectrum: 4, Repair: 3}
"""float32 planes that a node takes, where not one: its copy, overlap, complex numbers, support."""

_GAPS = 1.25
"""What planes of a few sizes take from malloc, by what they hold (measured: at most 1.26)."""

THREAD = 256 << 20
"""Bytes of a thread that computes, however small its images: gaps in its heap, its tables."""

PROCESS, READER = 900 << 20, 200 << 20
"""Bytes of the main process and of one that reads, before the first image: libraries, mostly."""


def live_planes(schedule: Schedule) -> int:
    """The most planes that exist at one time while a schedule runs."""
    size = {node: _PLANES.get(type(node), 1) for node in schedule.order}
    ends: Counter[int] = Counter()
    for node, position in schedule.last_use.items():
        ends[position] += size[node]
    live = most = 0
    for position, node in enumerate(schedule.order):
        live += size[node]
        most = max(most, live)
        live -= ends[position]
    return math.ceil(_GAPS * most) + 2


def machine_memory() -> float:
    """Bytes that the machine has, or its container."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _cgroup())


def _cgroup() -> float:
    """The memory limit of the container this runs in, if any."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return math.inf

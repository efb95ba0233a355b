"""What computing takes of the machine's memory, measured or counted, and how much that has."""

from __future__ import annotations

import math
import os
from collections import Counter
from math import prod
from pathlib import Path

from pipeline.bank.blockgrid import Grid
from pipeline.bank.compile import Schedule
from pipeline.bank.expr import Blocks, Input, Node, Repair, Spectrum
from pipeline.types import Ints, Region

WORKING = 14
"""float32 planes of one response that statistics and rendering hold at the same time."""

_PLANES: dict[type, int] = {Input: 2, Blocks: 4, Spectrum: 4, Repair: 3}
"""float32 planes that a node takes, where not one: its copy, overlap, complex numbers, support. Of
blocks at least: of an image not much larger than they are they take more."""

_GAPS = 1.25
"""What planes of a few sizes take from malloc, by what they hold (measured: at most 1.26)."""

THREAD = 256 << 20
"""Bytes of a thread that computes, however small its images: gaps in its heap, its tables."""

SOUGHT = 2 << 20
"""Bytes of a scene's keys that begin like those of percentiles, or of all of few whole numbers, for
each statistic that asks for them, response and band."""

PROCESS, READER = 900 << 20, 200 << 20
"""Bytes of the main process and of one that reads, before the first image: libraries, mostly."""


def live_planes(schedule: Schedule, shape: Ints) -> int:
    """The most planes of this shape that exist at one time while a schedule runs."""
    size = {node: _planes(node, shape) for node in schedule.order}
    ends: Counter[int] = Counter()
    for node, position in schedule.last_use.items():
        ends[position] += size[node]
    live = most = 0
    for position, node in enumerate(schedule.order):
        live += size[node]
        most = max(most, live)
        live -= ends[position]
    return math.ceil(_GAPS * most) + 2


def _planes(node: Node, shape: Ints) -> int:
    least = _PLANES.get(type(node), 1)
    if not isinstance(node, Blocks) or not prod(shape):
        return least
    return max(least, math.ceil(Grid.of(Region.whole(shape), shape, node.reach).planes))


def machine_memory() -> float:
    """Bytes that the machine has, or its container."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _cgroup())


def _cgroup() -> float:
    """The memory limit of the container this runs in, if any."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return math.inf

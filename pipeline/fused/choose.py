"""Which responses are fused with their statistics, and in whose company: decided with the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.bank.compile import Output
from pipeline.bank.expr import Conv, Input, Kernel
from pipeline.fused.source import Stencil
from pipeline.types import Ints, Reach

TOGETHER, FEWER = 16, 12
"""Most responses that one kernel computes: their sums fill the registers of a thread. Fewer where a
kernel has more than SMALL taps, as pixels that wait for them need some, too (16 of 7 x 7 would put
sums into memory, compiled for compute capability 9.0; 16 of 5 x 5 and 12 of 8 x 8 do not)."""

SMALL = 25
"""Taps of a kernel of 5 x 5."""

LITERALS = 1024
"""Most taps that are written out in one text: Triton takes seconds to compile them."""

STEPS = (14, 9, 9)
"""Bits of a key that a walk finds: by `ranks`."""

COUNTERS = 8 << STEPS[0]
"""Bytes that a walk holds for each of its planes: int32 counters of keys, and their sums."""

_LARGEST = 256
"""Most taps of one kernel: four such fill a text."""


@dataclass(frozen=True)
class Group(Stencil):
    """Responses that are computed together.

    lost: of pixels at each end of each axis that have no response, which only the boundary `valid`
    leaves out; joint: of all bands there is one response.
    """

    source: Input
    names: tuple[str, ...]
    lost: Reach
    joint: bool


def choose(outputs: Iterable[Output]) -> tuple[Group, ...]:
    """Group those responses that are convolutions of an image with few taps."""
    alike: dict[tuple[Input, Reach, bool], list[tuple[str, Kernel]]] = {}
    for output in outputs:
        node = output.node
        if (
            isinstance(node, Conv)
            and isinstance(node.of, Input)
            and output.boundary.mode != "nodata"
            and _taps(node.kernel) <= _LARGEST
            and np.isfinite(node.kernel.array.astype(np.float32)).all()
        ):
            shrinks = output.boundary.mode == "valid"
            lost = node.kernel.reach if shrinks else ((0, 0),) * len(node.kernel.shape)
            key = node.of, lost, output.joint
            alike.setdefault(key, []).append((output.name, node.kernel))
    return tuple(
        Group(
            tuple(kernel for _, kernel in members),
            _widest([kernel.reach for _, kernel in members]),
            source,
            tuple(name for name, _ in members),
            lost,
            joint,
        )
        for (source, lost, joint), found in alike.items()
        for members in _cut(found)
    )


def _cut(members: list[tuple[str, Kernel]]) -> list[list[tuple[str, Kernel]]]:
    """Fill one text after another, as long as it may be."""
    teams: list[list[tuple[str, Kernel]]] = []
    literals = LITERALS
    for member in members:
        taps = _taps(member[1])
        if literals + taps > LITERALS or len(teams[-1]) >= _most([*teams[-1], member]):
            teams.append([])
            literals = 0
        teams[-1].append(member)
        literals += taps
    return teams


def _most(members: list[tuple[str, Kernel]]) -> int:
    return FEWER if any(_taps(kernel) > SMALL for _, kernel in members) else TOGETHER


def _taps(kernel: Kernel) -> int:
    return int(np.count_nonzero(kernel.array))


def _widest(reaches: list[Reach]) -> Reach:
    pairs: Iterable[tuple[Ints, ...]] = zip(*reaches, strict=True)
    return tuple((max(a for a, _ in axis), max(b for _, b in axis)) for axis in pairs)

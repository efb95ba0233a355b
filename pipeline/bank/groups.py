"""Which convolutions are computed together, so that a pixel is loaded once for several of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import ceil

import numpy as np

from pipeline.bank.costs import ODD, STACKED, TOGETHER, alike, way
from pipeline.bank.expr import Conv, Node, children
from pipeline.types import Reach

AHEAD = 16
"""Nodes by which one may be computed early for the sake of company; until then it takes memory."""


def group(order: Sequence[Node], margin: Mapping[Node, Reach]) -> tuple[tuple[Node, ...], ...]:
    """Cut an order of evaluation into steps: one node, or convolutions alike of one."""
    where = {node: position for position, node in enumerate(order)}

    def window(node: Node) -> object:
        if not isinstance(node, Conv) or way(node.kernel) == STACKED:
            return None
        return where[node.of], alike(node.kernel), margin[node]

    windows = [window(node) for node in order]
    taken: set[int] = set()
    steps = []
    for position, mine in enumerate(windows):
        if position in taken:
            continue
        company = [position]
        if mine is not None:
            near = range(position + 1, min(position + AHEAD, len(order)))
            others = [p for p in near if windows[p] == mine and p not in taken]
            company += sorted(others, key=lambda p: _taps(order[p]) != _taps(order[position]))
        odd = [p for p in company if _odd(order[p])]
        together = _team([p for p in company if p not in odd]) + _team(odd)
        taken.update(together)
        steps.append(tuple(order[p] for p in together))
    return tuple(steps)


def through(steps: Sequence[Sequence[Node]], outputs: Collection[Node]) -> Mapping[Node, Conv]:
    """By the first node of a step along lines, the pass over columns that it alone reads.

    The two are computed together, a few lines at a time.
    """
    users = Counter(part for step in steps for node in step for part in children(node))
    found: dict[Node, Conv] = {}
    for step in steps:
        line = step[0]
        if not isinstance(line, Conv) or not 1 < line.kernel.array.size == line.kernel.shape[-1]:
            continue
        column = line.of
        alone = users[column] == len(step) and column not in outputs
        if alone and isinstance(column, Conv) and way(column.kernel) == STACKED:
            found[line] = column
    return found


def _team(positions: Sequence[int]) -> list[int]:
    """As many of them as are computed together: four are two and two."""
    teams = ceil(len(positions) / TOGETHER)
    return sorted(positions[: ceil(len(positions) / max(1, teams))])


def _odd(node: Node) -> bool:
    return isinstance(node, Conv) and way(node.kernel) == ODD


def _taps(node: Node) -> bytes:
    """Where a kernel is not zero: those that agree take no tap for the sake of another."""
    assert isinstance(node, Conv)
    return np.flatnonzero(node.kernel.array).tobytes()

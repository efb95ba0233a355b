"""Which convolutions are computed together, so that a pixel is loaded once for several of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

from pipeline.bank.costs import TOGETHER, column
from pipeline.bank.expr import Conv, Node
from pipeline.types import Reach

AHEAD = 16
"""Nodes by which one may be computed early for the sake of company; until then it takes memory."""


def group(order: Sequence[Node], margin: Mapping[Node, Reach]) -> tuple[tuple[Node, ...], ...]:
    """Cut an order of evaluation into steps: one node, or convolutions alike of one."""
    where = {node: position for position, node in enumerate(order)}

    def window(node: Node) -> object:
        if not isinstance(node, Conv) or column(node.kernel):
            return None
        return where[node.of], node.kernel.shape, node.kernel.origin, margin[node]

    windows = [window(node) for node in order]
    taken: set[int] = set()
    steps = []
    for position, mine in enumerate(windows):
        if position in taken:
            continue
        alike = [position]
        if mine is not None:
            near = range(position + 1, min(position + AHEAD, len(order)))
            alike += [p for p in near if windows[p] == mine and p not in taken]
        size = ceil(len(alike) / ceil(len(alike) / TOGETHER))  # four are two and two
        taken.update(alike[:size])
        steps.append(tuple(order[p] for p in alike[:size]))
    return tuple(steps)

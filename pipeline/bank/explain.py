"""How a bank will be computed, in words and numbers: what `plan` prints per response."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pipeline.bank.compile import BankPlan
from pipeline.bank.costs import cost
from pipeline.bank.expr import (
    Box,
    Conv,
    Edge,
    Input,
    Mix,
    Node,
    Product,
    Spectral,
    nodes_of,
)


@dataclass(frozen=True, slots=True)
class Explained:
    """One response: engines, 1-D chains that are summed, predicted ns per pixel on one core.

    rank: None where no kernel is factored; cost: with its share of what responses have in common.
    """

    engine: str
    rank: int | None
    cost: float


def explain(plan: BankPlan) -> dict[str, Explained]:
    """What the compiler chose for images without invalid pixels, by response."""
    below = [nodes_of(node) for node in plan.fast.outputs]
    users = Counter(node for nodes in below for node in nodes)
    company = {node: len(step.nodes) for step in plan.fast.steps for node in step.nodes}
    company |= {step.through: 1 for step in plan.fast.steps if step.through}
    found = {}
    for output, nodes in zip(plan.outputs, below, strict=True):
        work = [n for n in nodes if not isinstance(n, Input | Edge)]
        engines = dict.fromkeys(_engine(n) for n in work)
        engines.pop("", None)
        ranks = [_rank(n) for n in work]
        price = sum(cost(n, company[n]) / users[n] for n in work)
        rank = max(ranks, default=0) or None
        found[output.name] = Explained("+".join(engines) or "pixels", rank, price)
    return found


def _engine(node: Node) -> str:
    if isinstance(node, Conv):
        return "dense" if sum(n > 1 for n in node.kernel.shape) > 1 else "passes"
    if isinstance(node, Box):
        return "box"
    if isinstance(node, Product):
        return "fft"
    if isinstance(node, Spectral):
        return "spectrum"
    if isinstance(node, Mix):  # of chains: their rank says so
        return "" if _rank(node) else "reuse"
    return ""


def _rank(node: Node) -> int:
    """How many chains of 1-D passes a node adds up, 0 where it is none."""
    if isinstance(node, Mix):
        chains = len(node.of) > 1 and all(_rank(part) == 1 for part in node.of)
        return len(node.of) if chains else 0
    if isinstance(node, Conv | Box) and sum(n > 1 for n in node.kernel.shape) == 1:
        return 1
    return 0

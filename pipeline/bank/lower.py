"""Choose an engine for every convolution of a bank: nodes in, equal but cheaper nodes out.

All kernels that are applied to one input are looked at together, because most of what is saved
is work that they share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Literal

import numpy as np

from pipeline.bank import costs
from pipeline.bank.expr import (
    Blocks,
    Box,
    Conv,
    Join,
    Kernel,
    Mix,
    Node,
    Product,
    Repair,
    Seen,
    children,
    nodes_of,
    with_children,
)
from pipeline.bank.passes import Chain, factors
from pipeline.bank.reuse import Combined, combinations, common_reach, multiples
from pipeline.types import Reach


@dataclass(frozen=True, slots=True)
class Dense:
    """All taps of the kernel at once."""

    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Separated:
    """A sum of chains of 1-D passes."""

    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class Transformed:
    """Blocks, multiplied in the frequency domain.

    reach: of the kernels that share the transform of the blocks.
    """

    kernel: Kernel
    reach: Reach


_IN_TURN: Mapping[str, Literal["sum", "product", "max", "min"]] = {
    "sum": "sum",
    "mean": "sum",
    "product": "product",
    "max": "max",
    "min": "min",
}
"""By functions that take their parts one after the other, the one that combines the first few."""

_FEW, _DEEPEST = 5, 64
"""Parts that are combined at once: fewer take small images longer, more take memory of volumes. And
joins of joins: pickle and Python's stack end at some hundreds."""

Recipe = Dense | Separated | Transformed | Combined
Recipes = Mapping[Kernel, Recipe]


Nodes = tuple[Node, ...]


def lower(outputs: Sequence[Node], *, strict: bool = False) -> tuple[Nodes, Nodes]:
    """Rewrite every convolution of a bank for the engine that is predicted to cost least.

    Twice: for images without invalid pixels, and for others, where the same engines see 0 in the
    place of invalid pixels and what misses a tap is repaired. strict: keep to sums of taps, whose
    bits do not depend on how an image is cut into tiles.
    """
    kernels: dict[Node, dict[Kernel, None]] = {}
    for node in dict.fromkeys(n for output in outputs for n in nodes_of(output)):
        if isinstance(node, Conv):
            kernels.setdefault(node.of, {})[node.kernel] = None
    recipes = {of: choose(tuple(group), strict=strict) for of, group in kernels.items()}

    def rebuild(*, masked: bool) -> Nodes:
        done: dict[Node, Node] = {}

        def visit(node: Node) -> Node:
            if node not in done:
                parts = tuple(visit(part) for part in children(node))
                done[node] = with_children(node, parts)
                if isinstance(node, Conv):
                    (of,) = parts
                    seen = Seen(of) if masked else of
                    plain = _build(node.kernel, seen, recipes[node.of], strict=strict)
                    done[node] = Repair(plain, of, node.kernel) if masked else plain
                elif isinstance(node, Join):
                    done[node] = _in_turn(replace(node, of=parts))
            return done[node]

        return tuple(visit(output) for output in outputs)

    return rebuild(masked=False), rebuild(masked=True)


def choose(kernels: Sequence[Kernel], *, strict: bool) -> Recipes:
    """A recipe for each kernel of one input."""
    combined = multiples(kernels)
    left = [k for k in kernels if k not in combined]
    recipes, each = _cheapest(left, strict=strict)
    dear = [k for k in left if each[k] > 2 * costs.mix(3)]
    found = combinations(dear)
    cheaper = {k: r for k, r in found.items() if costs.mix(len(r.kernels)) < each[k]}
    if cheaper:
        recipes, _ = _cheapest([k for k in left if k not in cheaper], strict=strict)
    return {**recipes, **cheaper, **combined}


# ---------------------------------------------------------------- engines
def _cheapest(
    kernels: Sequence[Kernel], *, strict: bool
) -> tuple[dict[Kernel, Recipe], dict[Kernel, float]]:
    """The cheapest engine for each kernel, and what it costs; shared work is paid in shares.

    Chains begin with the first axis or all with the last, wherever passes share more.
    """
    chains = {k: c for k in kernels if (c := factors(k)) is not None}
    flipped = {k: tuple(chain.reversed for chain in c) for k, c in chains.items()}
    ways = [_settle(kernels, way, strict=strict) for way in (chains, flipped)]
    return min(ways, key=lambda way: sum(way[1].values()))


def _settle(
    kernels: Sequence[Kernel], chains: Mapping[Kernel, tuple[Chain, ...]], *, strict: bool
) -> tuple[dict[Kernel, Recipe], dict[Kernel, float]]:
    """Who shares depends on who takes part: begin with all, repeat until nobody changes.

    Who has found something cheaper than a transform never comes back to one.
    """
    blocks = not strict and sum(a + b > 0 for a, b in common_reach(kernels)) > 1
    takes: dict[Kernel, Recipe] = {k: Dense(k) for k in kernels}
    each: dict[Kernel, float] = {}
    sharing, large = set(chains), [k for k in kernels if not _is_column(k)]
    for _ in range(8):
        transforms = _transforms(large) if blocks else {}
        users = Counter(p for k in sharing for p in _prefixes(chains[k]))
        company = Counter((p[:-1], costs.alike(p[-1])) for p in users)
        company.update(((), costs.alike(k)) for k, r in takes.items() if isinstance(r, Dense))
        options: dict[Kernel, list[tuple[float, Recipe]]] = {}
        for k in kernels:
            options[k] = [(costs.taps(k, company[(), costs.alike(k)]), Dense(k))]
            if k in chains:
                shared = sum(
                    _pass(p[-1], company[p[:-1], costs.alike(p[-1])], strict=strict)
                    / max(1, users[p])
                    for p in _prefixes(chains[k])
                )
                sums = costs.mix(len(chains[k])) if len(chains[k]) > 1 else 0.0
                options[k].append((shared + sums, Separated(chains[k])))
            if k in transforms:
                reach, many = transforms[k]
                price = _transform(reach, many) / many
                options[k].append((price, Transformed(k, reach)))
        best = {k: min(options[k], key=lambda option: option[0]) for k in kernels}
        each = {k: price for k, (price, _) in best.items()}
        if takes == (new := {k: recipe for k, (_, recipe) in best.items()}):
            break
        takes = new
        sharing = {k for k, r in takes.items() if isinstance(r, Separated)}
        large = [k for k in large if isinstance(takes[k], Transformed)]
    return takes, each


def _is_column(kernel: Kernel) -> bool:
    """Whether its taps stand above one another, and are cheap for that, or are only one."""
    return kernel.shape[-1] == 1 and max(kernel.shape) == kernel.array.size


def _transforms(kernels: Iterable[Kernel]) -> dict[Kernel, tuple[Reach, int]]:
    """The transform of each kernel, as the reach and the number of those that share it.

    A wide kernel makes blocks overlap more for all that share its transform. Kernels in the order
    of their extent are cut into the groups that cost least together.
    """
    alike: dict[Reach, list[Kernel]] = {}
    for k in kernels:
        alike.setdefault(common_reach([k]), []).append(k)
    reaches = sorted(alike, key=lambda reach: prod(a + b + 1 for a, b in reach))
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(reaches) + 1):
        groups = []
        for start in range(end):
            members = [k for reach in reaches[start:end] for k in alike[reach][:1]]
            many = sum(len(alike[reach]) for reach in reaches[start:end])
            groups.append((best[start][0] + _transform(common_reach(members), many), start))
        best.append(min(groups))
    found: dict[Kernel, tuple[Reach, int]] = {}
    end = len(reaches)
    while end:
        start = best[end][1]
        group = [k for reach in reaches[start:end] for k in alike[reach]]
        found |= dict.fromkeys(group, (common_reach(group), len(group)))
        end = start
    return found


def _transform(reach: Reach, many: int) -> float:
    """What a transform costs with the products and inverses of so many kernels."""
    points = costs.overlap(tuple(a + b + 1 for a, b in reach))
    return points * (costs.FORWARD + many * costs.INVERSE)


@lru_cache(maxsize=4096)
def _prefixes(chains: tuple[Chain, ...]) -> tuple[tuple[Kernel, ...], ...]:
    """Every pass of some chains, named by the passes up to it."""
    passes = (c.passes[: i + 1] for c in chains for i in range(len(c.passes)))
    return tuple(dict.fromkeys(passes))


def _pass(kernel: Kernel, company: int, *, strict: bool) -> float:
    return costs.box(kernel) if _runs(kernel, strict=strict) else costs.taps(kernel, company)


def _runs(kernel: Kernel, *, strict: bool) -> bool:
    """Whether running sums are the engine of a 1-D pass."""
    if strict or costs.box(kernel) >= costs.taps(kernel):
        return False
    array = kernel.array
    return max(kernel.shape) == array.size and bool(np.ptp(array) <= 1e-12 * abs(array.flat[0]))


# ---------------------------------------------------------------- nodes
def _in_turn(node: Join) -> Join:
    """Combine the first parts, what they give with the next ones, and so on: few live together."""
    if node.fn not in _IN_TURN:
        return node
    parts = node.of
    many = max(_FEW, 1 + len(parts) // _DEEPEST)
    while len(parts) > many:
        parts = (Join(parts[:many], _IN_TURN[node.fn]), *parts[many:])
    return replace(node, of=parts, index=node.count if node.fn == "mean" else node.index)


def _build(kernel: Kernel, of: Node, recipes: Recipes, *, strict: bool) -> Node:
    recipe = recipes[kernel]
    if isinstance(recipe, Combined) and not _cheaper_again(kernel, recipe, recipes):
        parts = tuple(_build(k, of, recipes, strict=strict) for k in recipe.kernels)
        return Mix(parts, recipe.weights)
    if isinstance(recipe, Transformed):
        return Product(Blocks(of, recipe.reach), kernel)
    if isinstance(recipe, Combined | Dense):
        return _one(of, kernel, strict=strict)
    if len(recipe.chains) == 1:  # nobody else has its last pass: it takes the weight
        (chain,) = recipe.chains
        *first, last = chain.passes
        passes = (*first, Kernel.of(last.array * chain.weight, last.origin))
        return _chain(of, passes, strict=strict)
    parts = tuple(_chain(of, chain.passes, strict=strict) for chain in recipe.chains)
    return Mix(parts, tuple(chain.weight for chain in recipe.chains))


def _cheaper_again(kernel: Kernel, recipe: Combined, recipes: Recipes) -> bool:
    """Whether a copy costs less beside kernels of its window than made from the one it copies."""
    mine = costs.alike(kernel)
    dense = [k for k, r in recipes.items() if isinstance(r, Dense) and costs.alike(k) == mine]
    copied = len(recipe.kernels) == 1 and recipe.kernels[0] in dense
    return copied and costs.taps(kernel, len(dense)) < costs.mix(1)


def _chain(of: Node, passes: Iterable[Kernel], *, strict: bool) -> Node:
    for kernel in passes:
        of = _one(of, kernel, strict=strict)
    return of


def _one(of: Node, kernel: Kernel, *, strict: bool) -> Node:
    return Box(of, kernel) if _runs(kernel, strict=strict) else Conv(of, kernel)

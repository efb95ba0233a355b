"""Choose an engine for every convolution of a bank: nodes in, equal but cheaper nodes out.

All kernels that are applied to one input are looked at together, because most of what is saved
is work that they share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pipeline.bank import costs
from pipeline.bank.expr import (
    Array,
    Blocks,
    Box,
    Conv,
    Kernel,
    Mix,
    Node,
    Product,
    children,
    nodes_of,
    with_children,
)
from pipeline.bank.passes import TOLERANCE, Chain, factors
from pipeline.types import Reach

DEPENDENT = 1 << 24
"""Weights of one bank; linear dependence is not looked for among more."""

LARGEST_WEIGHT = 8.0
"""Sum of |weights| of a linear combination: rounding errors grow no more than this."""


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
    """Blocks, multiplied in the frequency domain."""

    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Combined:
    """A weighted sum of responses to other kernels."""

    kernels: tuple[Kernel, ...]
    weights: tuple[float, ...]


Recipe = Dense | Separated | Transformed | Combined
Recipes = Mapping[Kernel, Recipe]


def lower(outputs: Sequence[Node], *, strict: bool = False) -> tuple[Node, ...]:
    """Rewrite every convolution of a bank for the engine that is predicted to cost least.

    strict: keep to sums of taps, whose bits do not depend on how an image is cut into tiles.
    """
    kernels: dict[Node, dict[Kernel, None]] = {}
    for node in dict.fromkeys(n for output in outputs for n in nodes_of(output)):
        if isinstance(node, Conv):
            kernels.setdefault(node.of, {})[node.kernel] = None
    recipes = {of: choose(tuple(group), strict=strict) for of, group in kernels.items()}
    done: dict[Node, Node] = {}

    def visit(node: Node) -> Node:
        if node not in done:
            parts = tuple(visit(part) for part in children(node))
            if isinstance(node, Conv):
                done[node] = _build(node.kernel, parts[0], recipes[node.of], strict=strict)
            else:
                done[node] = with_children(node, parts)
        return done[node]

    return tuple(visit(output) for output in outputs)


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


# ---------------------------------------------------------------- reuse
def multiples(kernels: Iterable[Kernel]) -> dict[Kernel, Combined]:
    """Kernels that are a number times an earlier one: scaled and negated copies."""
    first: dict[Kernel, tuple[Kernel, float]] = {}
    found = {}
    for kernel in kernels:
        weight, normal = normalized(kernel)
        if normal not in first:
            first[normal] = kernel, weight
        elif costs.mix(1) < costs.taps(kernel):
            other, its = first[normal]
            found[kernel] = Combined((other,), (weight / its,))
    return found


def normalized(kernel: Kernel) -> tuple[float, Kernel]:
    """A number and a kernel of peak 1, whose product is the kernel to 12 digits."""
    array = kernel.array
    size = np.abs(array).ravel()
    if not size.max():
        return 1.0, kernel
    peak = float(array.ravel()[np.argmax(size > size.max() * (1 - 1e-9))])
    return peak, Kernel.of(np.round(array / peak, 12), kernel.origin)


def combinations(kernels: Sequence[Kernel]) -> dict[Kernel, Combined]:
    """Kernels that are linear combinations of others, as the orientations of a steerable filter.

    Gram-Schmidt with pivots finds the ones to compute; of the others the weights are found by
    least squares and checked against the same bound as factored kernels.
    """
    if len(kernels) < 2:
        return {}
    stack = aligned(kernels)
    if stack.size > DEPENDENT:
        return {}
    sizes = np.abs(stack).sum(1)
    rows = stack / sizes[:, None]
    basis = _pivots(rows)
    rest = [i for i in range(len(kernels)) if i not in basis]
    if not rest:
        return {}
    weights = np.linalg.lstsq(rows[basis].T, rows[rest].T, rcond=None)[0].T
    weights[np.abs(weights) < 1e-13] = 0.0
    errors = np.abs(weights @ rows[basis] - rows[rest]).sum(1)
    found = {}
    for i, row, error in zip(rest, weights, errors, strict=True):
        if error <= TOLERANCE and np.abs(row).sum() <= LARGEST_WEIGHT:
            used = [
                (basis[j], float(row[j] * sizes[i] / sizes[basis[j]])) for j in np.flatnonzero(row)
            ]
            found[kernels[i]] = Combined(
                tuple(kernels[j] for j, _ in used), tuple(w for _, w in used)
            )
    return found


def aligned(kernels: Sequence[Kernel]) -> Array:
    """(kernels, taps): all of them over one window that holds them, origin on origin."""
    before, after = zip(*_reach(kernels), strict=True)
    out = np.zeros((len(kernels), *(a + b + 1 for a, b in zip(before, after, strict=True))))
    for row, kernel in zip(out, kernels, strict=True):
        corner = tuple(b - o for b, o in zip(before, kernel.origin, strict=True))
        row[tuple(slice(c, c + n) for c, n in zip(corner, kernel.shape, strict=True))] = (
            kernel.array
        )
    return out.reshape(len(kernels), -1)


def _pivots(rows: Array) -> list[int]:
    """Rows that span the others, to rounding; early ones, which are computed first anyway."""
    left = rows.copy()
    chosen: list[int] = []
    start = np.linalg.norm(rows, axis=1).max()
    while len(chosen) < min(rows.shape):
        size = np.linalg.norm(left, axis=1)
        size[chosen] = 0.0
        if size.max() <= 1e-11 * start:
            break
        pivot = int(np.argmax(size > 0.3 * size.max()))
        chosen.append(pivot)
        direction = left[pivot] / size[pivot]
        for _ in range(2):  # twice is enough
            left = left - np.outer(left @ direction, direction)
    return chosen


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
    """Who shares depends on who takes part: begin with all, repeat until nobody changes."""
    blocks = not strict and sum(a + b > 0 for a, b in _reach(kernels)) > 1
    takes: dict[Kernel, Recipe] = {k: Dense(k) for k in kernels}
    each: dict[Kernel, float] = {}
    sharing, large = set(chains), list(kernels)
    for _ in range(8):
        extent = tuple(a + b + 1 for a, b in _reach(large))
        users = Counter(p for k in sharing for p in _prefixes(chains[k]))
        company = Counter((p[:-1], p[-1].shape) for p in users)
        company.update(((), k.shape) for k, r in takes.items() if isinstance(r, Dense))
        options: dict[Kernel, list[tuple[float, Recipe]]] = {}
        for k in kernels:
            options[k] = [(costs.taps(k, company[(), k.shape]), Dense(k))]
            if k in chains:
                shared = sum(
                    _pass(p[-1], company[p[:-1], p[-1].shape], strict=strict) / max(1, users[p])
                    for p in _prefixes(chains[k])
                )
                sums = costs.mix(len(chains[k])) if len(chains[k]) > 1 else 0.0
                options[k].append((shared + sums, Separated(chains[k])))
            if blocks and k.shape[-1] > 1 and large:
                points = costs.overlap(extent)
                price = points * (costs.INVERSE + costs.FORWARD / len(large))
                options[k].append((price, Transformed(k)))
        best = {k: min(options[k], key=lambda option: option[0]) for k in kernels}
        each = {k: price for k, (price, _) in best.items()}
        if takes == (new := {k: recipe for k, (_, recipe) in best.items()}):
            break
        takes = new
        sharing = {k for k, r in takes.items() if isinstance(r, Separated)}
        large = [k for k, r in takes.items() if isinstance(r, Transformed)]
    return takes, each


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


def _reach(kernels: Iterable[Kernel]) -> Reach:
    """The reach that holds that of all kernels."""
    every = list(zip(*(k.reach for k in kernels), strict=True))
    return tuple((max(a for a, _ in axis), max(b for _, b in axis)) for axis in every)


# ---------------------------------------------------------------- nodes
def _build(kernel: Kernel, of: Node, recipes: Recipes, *, strict: bool) -> Node:
    recipe = recipes[kernel]
    if isinstance(recipe, Combined):
        parts = tuple(_build(k, of, recipes, strict=strict) for k in recipe.kernels)
        return Mix(parts, recipe.weights)
    if isinstance(recipe, Transformed):
        large = [k for k, r in recipes.items() if isinstance(r, Transformed)]
        return Product(Blocks(of, _reach(large)), kernel)
    if isinstance(recipe, Dense):
        return _one(of, kernel, strict=strict)
    if len(recipe.chains) == 1:  # nobody else has its last pass: it takes the weight
        (chain,) = recipe.chains
        *first, last = chain.passes
        passes = (*first, Kernel.of(last.array * chain.weight, last.origin))
        return _chain(of, passes, strict=strict)
    parts = tuple(_chain(of, chain.passes, strict=strict) for chain in recipe.chains)
    return Mix(parts, tuple(chain.weight for chain in recipe.chains))


def _chain(of: Node, passes: Iterable[Kernel], *, strict: bool) -> Node:
    for kernel in passes:
        of = _one(of, kernel, strict=strict)
    return of


def _one(of: Node, kernel: Kernel, *, strict: bool) -> Node:
    return Box(of, kernel) if _runs(kernel, strict=strict) else Conv(of, kernel)

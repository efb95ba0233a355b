"""Turn responses into a schedule: what to run, in which order, with how much margin."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.bank.expr import (
    MIN_SUPPORT,
    Blocks,
    Box,
    Conv,
    Edge,
    Input,
    Kernel,
    Node,
    Pool,
    Repair,
    Spectral,
    Spectrum,
    add_reach,
    bands_of,
    children,
    nodes_of,
    reach_of,
)
from pipeline.bank.groups import group, through
from pipeline.bank.lower import lower
from pipeline.bank.passes import bind, compose
from pipeline.boundary import Boundary
from pipeline.errors import PlanError
from pipeline.types import Ints, Reach, Region


@dataclass(frozen=True, slots=True)
class Output:
    """One response of a bank. bands: those, from 0, that it names; empty for each by itself."""

    name: str
    node: Node
    boundary: Boundary
    reach: Reach
    bands: Ints

    @property
    def joint(self) -> bool:
        """Whether there is one response for all bands, not one for each."""
        return bool(self.bands)

    @property
    def needs_whole(self) -> bool:
        """Whether each of its pixels may depend on every pixel of the image."""
        return any(
            isinstance(node, Spectrum)
            or (
                isinstance(node, Input | Edge)
                and node.boundary is not None
                and node.boundary.mode == "wrap"
            )
            for node in nodes_of(self.node)
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Nodes that are computed together from the same parts, with the margin to keep.

    at, parts, ends: positions in the order of evaluation, as nodes are dear to look up: of the
    nodes, of what they are computed from, and of what is not needed any more after this step.
    corners: where in each part the pixels that are needed begin; kernels: of convolutions.
    through: of convolutions along lines, the one along columns that they are taken of, if nobody
    else needs it: it is computed on the way, and from the part.
    """

    nodes: tuple[Node, ...]
    at: Ints
    margin: Reach
    parts: Ints
    ends: Ints
    corners: tuple[Ints, ...]
    kernels: tuple[Kernel, ...]
    through: Conv | None = None


@dataclass(frozen=True)
class Schedule:
    """An order of evaluation with, for each node, the margin to keep and its last use.

    answers: positions of the outputs. The last use is the last node of a step, as its nodes are
    there together.
    """

    outputs: tuple[Node, ...]
    order: tuple[Node, ...]
    margin: Mapping[Node, Reach]
    last_use: Mapping[Node, int]
    steps: tuple[Step, ...]
    answers: Ints

    @cached_property
    def inputs(self) -> int:
        """In how many ways the image itself is extended."""
        return sum(isinstance(node, Input) for node in self.order)

    def only(self, places: Ints) -> Schedule:
        """The steps that some of the outputs need, as they are: with the bits they have in all."""
        answers = tuple(self.answers[i] for i in places)
        needed, steps = set(answers), []
        for step in reversed(self.steps):
            if not needed.isdisjoint(step.at):
                needed.update(step.parts)
                steps.append(step)
        steps.reverse()
        made = {at: i for i, step in enumerate(steps) for at in step.at}
        last = {at: i for i, step in enumerate(steps) for at in step.parts}
        due = 0
        for answer in answers:  # handed out in this order
            due = max(due, made[answer])
            last[answer] = max(due, last.get(answer, 0))
        ends: dict[int, Ints] = {}
        for at, i in made.items():
            end = last.get(at, i)
            ends[end] = (*ends.get(end, ()), at)
        kept = tuple(replace(step, ends=ends.get(i, ())) for i, step in enumerate(steps))
        outputs = tuple(self.outputs[i] for i in places)
        return replace(self, outputs=outputs, steps=kept, answers=answers)


@dataclass(frozen=True)
class BankPlan:
    """Immutable and picklable; the same plan runs on a tile, an image or a volume.

    Both schedules are lowered to the same engines: `fast` for images and tiles without invalid
    pixels, `masked` for others; where no tap is missed, they agree bit for bit. min_support: the
    least support of a valid pixel.
    """

    outputs: tuple[Output, ...]
    fast: Schedule
    masked: Schedule
    ndim: int
    min_support: float = MIN_SUPPORT

    @cached_property
    def halo(self) -> Ints:
        """Pixels of an image that the bank needs on either side of a core, per axis."""
        margins = [m for node, m in self.masked.margin.items() if isinstance(node, Input)]
        return tuple(max(max(m[axis]) for m in margins) for axis in range(self.ndim))

    def only(self, names: Collection[str]) -> BankPlan:
        """Some of the responses alone, which have the bits that they have among all.

        Halo and margins stay those of all, for the same reason.
        """
        places = tuple(i for i, output in enumerate(self.outputs) if output.name in names)
        if len(places) == len(self.outputs):
            return self
        outputs = tuple(self.outputs[i] for i in places)
        fast, masked = self.fast.only(places), self.masked.only(places)
        return replace(self, outputs=outputs, fast=fast, masked=masked)

    def box(self, core: Region, shape: Ints) -> Region:
        """The pixels to read for a core: core and halo, as far as the image has them."""
        wide = core.grow(tuple((h, h) for h in self.halo))
        whole, box = Region.whole(shape), wide.clip(shape)
        if not any(boundary.mode == "wrap" for boundary in self.boundaries):
            return box
        spans = [  # what lies beyond one end is found at the other
            (a, b) if (a, b) == (c, d) else (e, f)
            for a, b, c, d, e, f in zip(
                box.start, box.stop, wide.start, wide.stop, whole.start, whole.stop, strict=True
            )
        ]
        return Region(tuple(a for a, _ in spans), tuple(b for _, b in spans))

    @cached_property
    def boundaries(self) -> frozenset[Boundary]:
        """Every boundary rule that some node of the bank extends by."""
        return frozenset(
            node.boundary
            for node in self.masked.order
            if isinstance(node, Input | Edge | Spectrum) and node.boundary is not None
        )


def compile_bank(
    responses: Iterable[tuple[str, Node, Boundary]],
    ndim: int,
    *,
    strict: bool = False,
    min_support: float = MIN_SUPPORT,
) -> BankPlan:
    """Compile (name, expression, boundary) triples for images of one rank.

    Parts that several responses share are computed once, because equal nodes are one node.
    strict: only engines whose bits do not depend on how an image is cut into tiles; min_support:
    the least support of a valid pixel.
    Raises PlanError for a filter in the frequency domain with the boundary `valid`, ValueError for
    a kernel of another rank.
    """
    outputs = []
    for name, node, boundary in responses:
        _check(name, node, ndim)
        whole = compose(bind(node, boundary))
        if boundary.mode == "valid" and any(isinstance(n, Spectral) for n in nodes_of(whole)):
            message = f"{name} depends on the whole image: no map is `valid`; set its boundary"
            raise PlanError(message)
        outputs.append(Output(name, whole, boundary, reach_of(whole, ndim), bands_of(whole)))
    fast, masked = lower([o.node for o in outputs], strict=strict)
    schedules = (_schedule(fast, ndim), _schedule(masked, ndim))
    return BankPlan(tuple(outputs), *schedules, ndim, min_support)


def _check(name: str, node: Node, ndim: int) -> None:
    """Raise ValueError for a kernel that does not have the axes of the images."""
    for part in nodes_of(node):
        if isinstance(part, Conv) and len(part.kernel.shape) != ndim:
            axes = len(part.kernel.shape)
            message = f"{name}: a kernel has {axes} axes, the images {ndim}; give it one for each"
            raise ValueError(message)


def _schedule(outputs: tuple[Node, ...], ndim: int) -> Schedule:
    plain = tuple(dict.fromkeys(node for output in outputs for node in nodes_of(output)))
    margin: dict[Node, Reach] = dict.fromkeys(plain, ((0, 0),) * ndim)
    for node in reversed(plain):
        for child in children(node):
            margin[child] = _widest(margin[child], _needed(node, child, margin[node]))
    groups = group(plain, margin)
    columns = through(groups, outputs)
    private = set(columns.values())
    groups = tuple(together for together in groups if together[0] not in private)
    order: list[Node] = []
    for together in groups:
        order += [columns[together[0]]] if together[0] in columns else []
        order += together
    where = {node: position for position, node in enumerate(order)}
    end = {node: where[together[-1]] for together in groups for node in together}
    end |= {column: end[line] for line, column in columns.items()}
    last_use: dict[Node, int] = {}
    for node in reversed(order):
        for child in children(node):
            last_use.setdefault(child, end[node])
    position = 0
    for output in outputs:  # handed out in this order, each as soon as those before it are
        position = max(position, end[output])
        last_use[output] = max(position, last_use.get(output, 0))
    ends: dict[int, Ints] = {}
    for node, position in last_use.items():
        if node not in private:
            ends[position] = (*ends.get(position, ()), where[node])
    steps = []
    for together in groups:
        column = columns.get(together[0])
        first = column or together[0]
        steps.append(
            Step(
                together,
                tuple(where[node] for node in together),
                margin[together[0]],
                tuple(where[part] for part in children(first)),
                ends.get(end[first], ()),
                tuple(
                    _corner(margin[part], _needed(first, part, margin[first]))
                    for part in children(first)
                ),
                tuple(node.kernel for node in together if isinstance(node, Conv)),
                column,
            )
        )
    answers = tuple(where[output] for output in outputs)
    return Schedule(outputs, tuple(order), margin, last_use, tuple(steps), answers)


def _needed(node: Node, part: Node, margin: Reach) -> Reach:
    """The margin that a part of a node must keep so that the node can keep its own."""
    if isinstance(node, Conv | Box) or (isinstance(node, Repair) and part == node.of):
        return add_reach(margin, node.kernel.reach)
    if isinstance(node, Pool | Blocks):
        return add_reach(margin, node.reach)
    if isinstance(node, Spectrum | Spectral):  # of the whole image, which is all there is
        return ((0, 0),) * len(margin)
    if isinstance(node, Edge):  # a pixel beyond one side is folded to as far inside it
        return tuple((max(pair), max(pair)) for pair in margin)
    return margin


def _corner(have: Reach, need: Reach) -> Ints:
    return tuple(wide - narrow for (wide, _), (narrow, _) in zip(have, need, strict=True))


def _widest(a: Reach, b: Reach) -> Reach:
    return tuple((max(p, r), max(q, s)) for (p, q), (r, s) in zip(a, b, strict=True))

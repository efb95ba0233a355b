"""Run a bank on a batch: convolution is always `valid`, padding happens in `extend` alone.

Over 300 lines, because each kind of node has its few here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import prod

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.blockgrid import Grid
from pipeline.bank.blocks import forward as to_blocks
from pipeline.bank.blocks import inverse as from_blocks
from pipeline.bank.compile import BankPlan, Output, Step
from pipeline.bank.engine import add_up, convolve, correlate, correlate_through, run_sums
from pipeline.bank.expr import (
    Blocks,
    Box,
    Edge,
    Input,
    Join,
    Kernel,
    Lookup,
    Map,
    Mix,
    Node,
    Pool,
    Product,
    Repair,
    Seen,
    Spectral,
    Spectrum,
    add_reach,
)
from pipeline.bank.holes import around_holes
from pipeline.bank.memory import around, empty
from pipeline.bank.pointwise import join_pixels, look_up, map_pixels
from pipeline.bank.spectral import respond, transform
from pipeline.bank.value import Value, extend, settle, trim
from pipeline.boundary import Boundary
from pipeline.types import Batch, Ints, Reach, Region, Response, Tile


def apply_bank(plan: BankPlan, batch: Batch) -> Iterator[Response]:
    """Yield the responses of a batch in order, one at a time; they never exist all together.

    Batch values are (N, C, *box) float32 with `batch.offset` removed; it is added back through
    each kernel's sum, so that data with a large mean keep their digits.
    """
    schedule = plan.fast if _complete(plan, batch) else plan.masked
    if schedule.inputs > 1:
        batch = replace(batch, room=())  # each extends it in its own way
    due = deque(zip(schedule.answers, plan.outputs, strict=True))
    done: dict[int, Value] = {}
    frames: dict[object, _Frame] = {}
    for step in schedule.steps:
        below = [done[part] for part in step.parts]
        done.update(zip(step.at, _evaluate(step, below, batch, plan.min_support), strict=True))
        while due and due[0][0] in done:
            answer, output = due.popleft()
            yield _response(output, done[answer], batch, frames)
        for old in step.ends:
            del done[old]


def _complete(plan: BankPlan, batch: Batch) -> bool:
    """Whether no pixel is missing; it depends on the mask and on where the tile lies alone."""
    if batch.valid is not None:
        return False
    if not any(boundary.mode == "nodata" for boundary in plan.boundaries):
        return True
    tile = batch.tiles[0]
    wide = tile.core.grow(tuple((h, h) for h in plan.halo))
    whole_image = any(isinstance(node, Spectrum) for node in plan.fast.order)
    return not whole_image and wide.clip(tile.source.header.shape) == wide


def _evaluate(step: Step, parts: Sequence[Value], batch: Batch, least: float) -> Sequence[Value]:
    """The results of a step."""
    if step.kernels:
        return _correlate(step, parts[0], batch)
    (node,) = step.nodes
    return (_evaluate_one(node, step, parts, batch, least),)


def _evaluate_one(
    node: Node, step: Step, parts: Sequence[Value], batch: Batch, least: float
) -> Value:
    margin = step.margin
    if isinstance(node, Input):
        return input_planes(node, margin, batch)
    if isinstance(node, Join):
        return _join(node, [trim(part, margin) for part in parts])
    if isinstance(node, Mix):
        return _mix(node, step, parts, batch)
    if isinstance(node, Repair):
        plain, of = parts
        wide = trim(of, add_reach(margin, node.kernel.reach))
        return _repair(trim(plain, margin), wide, node, least)
    (below,) = parts
    if isinstance(node, Seen):
        return _seen(trim(below, margin))
    if isinstance(node, Box):
        wide = trim(below, add_reach(margin, node.kernel.reach))
        return _weighted(wide, run_sums(wide.data, node.kernel), node.kernel, margin)
    if isinstance(node, Blocks):
        return _blocks(node, trim(below, add_reach(margin, node.reach)), margin, batch.tiles[0])
    if isinstance(node, Product):
        return _product(node, below, margin, batch.tiles[0])
    if isinstance(node, Map):
        value = settle(trim(below, margin))
        return replace(value, data=map_pixels(node, value.data))
    if isinstance(node, Lookup):
        value = settle(trim(below, margin))
        return replace(value, data=look_up(node.table, value.data))
    if isinstance(node, Pool):
        return _pool(node, settle(trim(below, add_reach(margin, node.reach))), margin, least)
    if isinstance(node, Edge):
        return _edge(node, below, margin, batch)
    if isinstance(node, Spectrum):
        return transform(node, trim(below, margin), batch.tiles[0])
    assert isinstance(node, Spectral), "convolutions are computed by the step"
    return respond(node, below, margin, batch.tiles[0])


@dataclass(frozen=True, slots=True)
class _Frame:
    """What of planes over core + margin is the response, and the shape (N, C, *region) it has."""

    region: Region
    cut: tuple[slice, ...] | None
    bands: tuple[str, ...]
    shape: Ints

    @classmethod
    def of(cls, output: Output, margin: Reach, batch: Batch) -> _Frame:
        """Without the margin; with the boundary `valid`, without what pixels outside decide."""
        tile = batch.tiles[0]
        region, cut = tile.core, None
        if output.boundary.mode == "valid":
            shrink = tuple((-before, -after) for before, after in output.reach)
            region = region.overlap(Region.whole(tile.source.header.shape).grow(shrink))
        if region is not tile.core or any(map(any, margin)):
            cut = (slice(None), *region.slices(tile.core.grow(margin).start))
        bands = ("all",) if output.joint else batch.bands
        return cls(region, cut, bands, (len(batch.tiles), len(bands), *region.shape))


def _response(output: Output, value: Value, batch: Batch, frames: dict[object, _Frame]) -> Response:
    """Frame a value; most responses of a batch have the same frame, so that it is kept."""
    key = value.margin, output.joint, output.boundary.mode == "valid" and output.reach
    frame = frames.get(key)
    if frame is None:
        frame = frames[key] = _Frame.of(output, value.margin, batch)
    cut, shape = frame.cut, frame.shape

    def view(x: Tensor) -> Tensor:
        return (x if cut is None else x[cut]).reshape(shape)

    valid = None if value.valid is None else view(value.valid)
    support = None if value.support is None else view(value.support)
    base = None if value.base is None else value.base.reshape(shape[:2])
    return Response(output.name, frame.bands, frame.region, view(value.data), valid, support, base)


# ---------------------------------------------------------------- what lies beyond the image
def input_planes(node: Input, margin: Reach, batch: Batch) -> Value:
    """The prepared pixels over core + margin: P is N * C, or N where the node names a band."""
    band = slice(None) if node.band is None else slice(node.band, node.band + 1)
    values = batch.values if node.band is None else batch.values[:, band]
    tile = batch.tiles[0]
    valid = None if batch.valid is None else batch.valid[:, band].flatten(0, 1)
    base = None if batch.offset is None else batch.offset[:, band].flatten()
    value = Value(values.flatten(0, 1), margin, valid, None, base)
    room = around(values, batch.box, tile.core.grow(margin), batch.room)
    return extend(value, batch.box, tile, node.boundary or Boundary(), room)


def _edge(node: Edge, value: Value, margin: Reach, batch: Batch) -> Value:
    """Extend a response again at the image border, as scipy and the IBSI do between two filters."""
    boundary = node.boundary or Boundary()
    if boundary.mode in ("wrap", "valid"):  # periodic as it stands; cut away at the end
        return trim(value, margin)
    tile = batch.tiles[0]
    return extend(replace(value, margin=margin), tile.core.grow(value.margin), tile, boundary)


# ---------------------------------------------------------------- arithmetic
def _correlate(step: Step, value: Value, batch: Batch) -> list[Value]:
    """Take all taps of some kernels at once."""
    shape = _shape(batch.tiles[0].core, step.margin)
    part, passing = (value.data, step.corners[0]), _passing(step)
    if step.through is None:
        found = correlate(part, step.kernels, shape, passing=passing)
    else:
        column = step.through.kernel
        found = correlate_through(part, column, step.kernels, shape, passing=passing)
        value = _weighted(value, value.data, column, value.margin)
    pairs = zip(found, step.kernels, strict=True)
    return [_weighted(value, data, kernel, step.margin) for data, kernel in pairs]


def _passing(step: Step) -> bool:
    """Whether more than the core is computed: it is for a next pass, or will be cut."""
    return any(map(any, step.margin))


def _shape(core: Region, margin: Reach) -> Ints:
    sizes = zip(core.start, core.stop, margin, strict=True)
    return tuple([b - a + before + after for a, b, (before, after) in sizes])


def _seen(value: Value) -> Value:
    if value.valid is None:
        return value
    data = torch.where(value.valid, value.data, 0.0)
    return replace(value, data=data, valid=None, support=None)


def _repair(plain: Value, of: Value, node: Repair, least: float) -> Value:
    """The plain response but where a tap is missed; a constant is missed like any other value."""
    if of.valid is None:
        return plain
    data, centre, support = around_holes(plain.data, of.data, of.valid, node.kernel)
    return replace(plain, data=data, valid=centre & (support >= least), support=support)


def _weighted(value: Value, data: Tensor, kernel: Kernel, margin: Reach) -> Value:
    """The response `data` of a kernel; its sum is what a constant is multiplied by."""
    if value.base is None:
        return Value(data, margin)
    base = value.base * float(kernel.array.sum()) + 0.0  # no -0.0
    return Value(data, margin, None, None, base)


def _mix(node: Mix, step: Step, parts: Sequence[Value], batch: Batch) -> Value:
    """Add responses of one input up; all of them have a base, or none."""
    pairs = zip(parts, node.weights, strict=True)
    bases = [part.base * weight for part, weight in pairs if part.base is not None]
    base = torch.stack(bases).sum(0) + 0.0 if bases else None
    cuts = list(zip([part.data for part in parts], step.corners, strict=True))
    shape = _shape(batch.tiles[0].core, step.margin)
    data = add_up(cuts, node.weights, shape, passing=_passing(step))
    return Value(data, step.margin, None, None, base)


def _blocks(node: Blocks, value: Value, margin: Reach, tile: Tile) -> Value:
    """Transform without the mean of each plane: errors are relative to the largest coefficient.

    It is added back after the product: a base has to be that of all tiles of a scene.
    """
    grid = Grid.of(tile.core.grow(margin), tile.source.header.shape, node.reach)
    mean = torch.stack([plane.double().mean().to(plane.dtype) for plane in value.data])
    mean = torch.where(mean.isfinite(), mean, 0.0)
    level = mean.reshape(-1, *(1,) * (value.data.ndim - 1))
    centred = torch.sub(value.data, level, out=empty(value.data.shape, value.data.device))
    return replace(value, data=to_blocks(centred, grid), margin=margin, valid=None, centre=mean)


def _product(node: Product, value: Value, margin: Reach, tile: Tile) -> Value:
    assert value.centre is not None
    grid = Grid.of(tile.core.grow(value.margin), tile.source.header.shape, node.of.reach)
    data = from_blocks(value.data, grid, node.kernel, node.of.reach)
    back = value.centre * float(node.kernel.array.sum())
    data += back.reshape(-1, *(1,) * (data.ndim - 1))
    return trim(_weighted(value, data, node.kernel, value.margin), margin)


def _pool(node: Pool, value: Value, margin: Reach, least: float) -> Value:
    """The extreme of the valid pixels in a window; valid as a convolution's response is."""
    sign = 1.0 if node.fn == "max" else -1.0
    data = value.data * sign
    if value.valid is None:
        return replace(value, data=_running_max(data, node) * sign, margin=margin)
    seen = value.valid.to(data.dtype)
    window = np.zeros([(n - 1) * node.step + 1 for n in node.shape])
    window[(slice(None, None, node.step),) * window.ndim] = 1.0
    support = convolve(seen, Kernel.of(window)) / prod(node.shape)  # 1 where none is missed
    data = _running_max(torch.where(value.valid, data, -torch.inf), node) * sign
    valid = trim(replace(value, data=seen, support=None), margin).valid
    assert valid is not None
    valid = valid & (support >= least)
    return Value(torch.where(valid, data, 0.0), margin, valid, support, None)


def _running_max(x: Tensor, node: Pool) -> Tensor:
    """The largest of each window, in log2(n) steps per axis: windows twice as wide each time."""
    for axis, size in enumerate(node.shape, start=1):
        width = 1
        while width < size:
            more = min(width, size - width)
            shift = more * node.step
            n = x.shape[axis] - shift
            x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, shift, n))
            width += more
    return x


def _join(node: Join, parts: Sequence[Value]) -> Value:
    """Combine pixel by pixel: valid where all parts are, with the least support of them."""
    linear = node.fn in ("sum", "mean")
    data = join_pixels(node, [(p.data, None if linear else p.base) for p in parts])
    bases = [p.base for p in parts if linear and p.base is not None]
    base = reduce(torch.add, bases) if bases else None
    if base is not None and node.fn == "mean":
        base = base / node.count
    valids = [p.valid for p in parts if p.valid is not None]
    supports = [p.support for p in parts if p.support is not None]
    return Value(
        data,
        parts[0].margin,
        torch.stack(valids).all(0) if valids else None,
        torch.stack(supports).amin(0) if supports else None,
        base,
    )

"""Run a bank on a batch: convolution is always `valid`, padding happens in `extend` alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, prod

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.blocks import Grid
from pipeline.bank.blocks import forward as to_blocks
from pipeline.bank.blocks import inverse as from_blocks
from pipeline.bank.compile import BankPlan, Output, Step
from pipeline.bank.engine import add_up, convolve, correlate, run_sums
from pipeline.bank.expr import (
    Blocks,
    Box,
    Conv,
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
    Spectral,
    Spectrum,
    add_reach,
)
from pipeline.bank.holes import MIN_SUPPORT, around_holes
from pipeline.bank.pointwise import join_pixels, look_up, map_pixels
from pipeline.bank.spectral import forward, gain, inverse
from pipeline.bank.value import Value, extend, settle, trim
from pipeline.boundary import Boundary
from pipeline.types import Batch, Ints, Reach, Region, Response, Tile


@torch.inference_mode()
def apply_bank(plan: BankPlan, batch: Batch) -> Iterator[Response]:
    """Yield the responses of a batch in order, one at a time; they never exist all together.

    Batch values are (N, C, *box) float32 with `batch.offset` removed; it is added back through
    each kernel's sum, so that data with a large mean keep their digits.
    """
    masked = batch.valid is not None or any(o.boundary.mode == "nodata" for o in plan.outputs)
    schedule = plan.masked if masked else plan.fast
    due = deque(zip(schedule.answers, plan.outputs, strict=True))
    done: dict[int, Value] = {}
    for step in schedule.steps:
        below = [done[part] for part in step.parts]
        done.update(zip(step.at, _evaluate(step, below, batch, planned=not masked), strict=True))
        while due and due[0][0] in done:
            answer, output = due.popleft()
            yield _response(output, done[answer], batch)
        for old in step.ends:
            del done[old]


def _evaluate(
    step: Step, parts: Sequence[Value], batch: Batch, *, planned: bool
) -> Sequence[Value]:
    """The results of a step; planned: the compiler has chosen the engines."""
    if planned and isinstance(step.nodes[0], Conv):
        return _correlate(parts[0], step.kernels, step.margin)
    (node,) = step.nodes
    return (_evaluate_one(node, step.margin, parts, batch),)


def _evaluate_one(node: Node, margin: Reach, parts: Sequence[Value], batch: Batch) -> Value:
    if isinstance(node, Input):
        return _input(node, margin, batch)
    if isinstance(node, Join):
        return _join(node, [trim(part, margin) for part in parts])
    if isinstance(node, Mix):
        return _mix(node, parts, margin)
    (below,) = parts
    if isinstance(node, Conv):
        return _conv(trim(below, add_reach(margin, node.kernel.reach)), node.kernel, margin)
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
        return _pool(node, settle(trim(below, add_reach(margin, node.reach))), margin)
    if isinstance(node, Edge):
        return _edge(node, below, margin, batch)
    if isinstance(node, Spectrum):
        return _spectrum(node, trim(below, margin), batch.tiles[0])
    return _spectral(node, below, margin, batch.tiles[0])


def _response(output: Output, value: Value, batch: Batch) -> Response:
    """Cut the margin off; with the boundary `valid`, also what depends on pixels outside."""
    tile = batch.tiles[0]
    region = tile.core
    if output.boundary.mode == "valid":
        shrink = tuple((-before, -after) for before, after in output.reach)
        region = region.overlap(Region.whole(tile.source.header.shape).grow(shrink))
    whole = tile.core.grow(value.margin)
    cut = (slice(None), *region.slices(whole.start)) if region != whole else ...
    bands = ("all",) if output.joint else batch.bands

    def view(x: Tensor) -> Tensor:
        part = x[cut]
        return part.reshape(len(batch.tiles), len(bands), *part.shape[1:])

    valid = None if value.valid is None else view(value.valid)
    support = None if value.support is None else view(value.support)
    base = None if value.base is None else value.base.reshape(len(batch.tiles), len(bands))
    return Response(output.name, bands, region, view(value.data), valid, support, base)


# ---------------------------------------------------------------- what lies beyond the image
def _input(node: Input, margin: Reach, batch: Batch) -> Value:
    """The prepared pixels over core + margin: P is N * C, or N where the node names a band."""
    band = slice(None) if node.band is None else slice(node.band, node.band + 1)
    data = batch.values[:, band].flatten(0, 1)
    valid = None if batch.valid is None else batch.valid[:, band].flatten(0, 1)
    base = None if batch.offset is None else batch.offset[:, band].flatten()
    value = Value(data, margin, valid, None, base)
    return extend(value, batch.box, batch.tiles[0], node.boundary or Boundary())


def _edge(node: Edge, value: Value, margin: Reach, batch: Batch) -> Value:
    """Extend a response again at the image border, as scipy and the IBSI do between two filters."""
    boundary = node.boundary or Boundary()
    if boundary.mode in ("wrap", "valid"):  # periodic as it stands; cut away at the end
        return trim(value, margin)
    tile = batch.tiles[0]
    return extend(replace(value, margin=margin), tile.core.grow(value.margin), tile, boundary)


# ---------------------------------------------------------------- the frequency domain
def _spectrum(node: Spectrum, value: Value, tile: Tile) -> Value:
    """Extend whole planes, fill invalid pixels with the mean of the valid ones, transform.

    The validity that is handed on is that of the planes as they were.
    """
    shape = tile.source.header.shape
    assert tile.core == Region.whole(shape), "filters in the frequency domain take whole images"
    margin = tuple((n, n) for n in _padding(node, shape))
    mean = _valid_mean(value)
    inner = replace(value, data=_fill(value.data, value.valid, mean), margin=margin, valid=None)
    wide = extend(inner, tile.core, tile, node.boundary or Boundary())
    data = forward(_fill(wide.data, wide.valid, mean), node.rank)
    return replace(value, data=data, support=None)


def _padding(node: Spectrum, shape: Ints) -> Ints:
    """Pixels by which each axis is extended on either side before the transform."""
    share = 0.0 if node.boundary is not None and node.boundary.mode == "wrap" else node.pad
    lead = len(shape) - node.rank
    return tuple(0 if i < lead else ceil(share * n) for i, n in enumerate(shape))


def _valid_mean(value: Value) -> Tensor:
    """The mean of each plane's valid pixels, (P,); 0 where it has none."""
    means = []
    for i, plane in enumerate(value.data):
        seen = plane if value.valid is None else plane[value.valid[i]]
        means.append(seen.double().mean() if seen.numel() else plane.new_zeros(()))
    return torch.stack([mean.to(value.data.dtype) for mean in means])


def _fill(data: Tensor, valid: Tensor | None, mean: Tensor) -> Tensor:
    if valid is None:
        return data
    return torch.where(valid, data, mean.reshape(-1, *(1,) * (data.ndim - 1)))


def _spectral(node: Spectral, value: Value, margin: Reach, tile: Tile) -> Value:
    """A response over the image, extended again by the boundary rule as far as it is needed."""
    shape = tile.source.header.shape
    pad = _padding(node.of, shape)
    sizes = tuple(n + 2 * p for n, p in zip(shape, pad, strict=True))[-node.of.rank :]
    data = inverse(value.data, node, sizes)
    data = data[(slice(None), *(slice(p, p + n) for n, p in zip(shape, pad, strict=True)))]
    base = None if value.base is None else value.base * gain(node, sizes)
    support = None
    if value.valid is not None:
        share = value.valid.flatten(1).float().mean(1)  # the reach is the image
        support = share.reshape(-1, *(1,) * len(shape)).expand(data.shape)
    found = Value(data, margin, value.valid, support, base)
    return extend(found, tile.core, tile, node.of.boundary or Boundary())


# ---------------------------------------------------------------- arithmetic
def _correlate(value: Value, kernels: tuple[Kernel, ...], margin: Reach) -> list[Value]:
    """Take all taps of some kernels at once: every pixel is valid."""
    wide = add_reach(margin, kernels[0].reach)
    found = correlate(_cut(value, wide), kernels, _shape(value, margin))
    pairs = zip(found, kernels, strict=True)
    return [_weighted(value, data, kernel, margin) for data, kernel in pairs]


def _cut(value: Value, margin: Reach) -> tuple[Tensor, Ints]:
    """The planes of a value, and where in them a smaller margin begins."""
    pairs = zip(value.margin, margin, strict=True)
    return value.data, tuple(have[0] - want[0] for have, want in pairs)


def _shape(value: Value, margin: Reach) -> Ints:
    """The shape that a value has with another margin."""
    sizes = zip(value.data.shape[1:], value.margin, margin, strict=True)
    return tuple(n - sum(have) + sum(want) for n, have, want in sizes)


def _conv(value: Value, kernel: Kernel, margin: Reach) -> Value:
    """Convolve by the kernel alone; where pixels are invalid, by the rule of `around_holes`."""
    if value.valid is None:
        return _weighted(value, convolve(value.data, kernel), kernel, margin)
    data, valid, support = around_holes(value.data, value.valid, kernel)
    return replace(_weighted(value, data, kernel, margin), valid=valid, support=support)


def _weighted(value: Value, data: Tensor, kernel: Kernel, margin: Reach) -> Value:
    """The response `data` of a kernel; its sum is what a constant is multiplied by."""
    base = value.base
    if base is not None:
        base = base * float(kernel.array.sum()) + 0.0  # no -0.0
    return Value(data, margin, None, None, base)


def _mix(node: Mix, parts: Sequence[Value], margin: Reach) -> Value:
    """Add responses of one input up; all of them have a base, or none."""
    pairs = zip(parts, node.weights, strict=True)
    bases = [part.base * weight for part, weight in pairs if part.base is not None]
    base = torch.stack(bases).sum(0) + 0.0 if bases else None
    cuts = [_cut(part, margin) for part in parts]
    data = add_up(cuts, node.weights, _shape(parts[0], margin))
    return Value(data, margin, None, None, base)


def _blocks(node: Blocks, value: Value, margin: Reach, tile: Tile) -> Value:
    """Transform without the mean of each plane, which becomes part of its base.

    Rounding errors of a transform are relative to the largest coefficient.
    """
    grid = Grid.of(tile.core.grow(margin), tile.source.header.shape, node.reach)
    mean = torch.stack([plane.double().mean().to(plane.dtype) for plane in value.data])
    mean = torch.where(mean.isfinite(), mean, 0.0)
    centred = value.data - mean.reshape(-1, *(1,) * (value.data.ndim - 1))
    base = mean.double() if value.base is None else value.base + mean
    return Value(to_blocks(centred, grid), margin, None, None, base)


def _product(node: Product, value: Value, margin: Reach, tile: Tile) -> Value:
    grid = Grid.of(tile.core.grow(value.margin), tile.source.header.shape, node.of.reach)
    data = from_blocks(value.data, grid, node.kernel, node.of.reach)
    return trim(_weighted(value, data, node.kernel, value.margin), margin)


def _pool(node: Pool, value: Value, margin: Reach) -> Value:
    """The extreme of the valid pixels in a window; valid as a convolution's response is."""
    sign = 1.0 if node.fn == "max" else -1.0
    data = value.data * sign
    if value.valid is None:
        return replace(value, data=_running_max(data, node) * sign, margin=margin)
    seen = value.valid.to(data.dtype)
    window = np.zeros([(n - 1) * node.step + 1 for n in node.shape])
    window[(slice(None, None, node.step),) * window.ndim] = 1.0 / prod(node.shape)
    support = convolve(seen, Kernel.of(window))
    data = _running_max(torch.where(value.valid, data, -torch.inf), node) * sign
    valid = trim(replace(value, data=seen, support=None), margin).valid
    assert valid is not None
    valid = valid & (support >= MIN_SUPPORT)
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
    if node.fn not in ("sum", "mean"):
        parts = [settle(part) for part in parts]
    data = join_pixels(node, [p.data for p in parts])
    bases = [p.base for p in parts if p.base is not None]
    base = torch.stack(bases).sum(0) if bases else None
    if base is not None and node.fn == "mean":
        base = base / len(parts)
    valids = [p.valid for p in parts if p.valid is not None]
    supports = [p.support for p in parts if p.support is not None]
    return Value(
        data,
        parts[0].margin,
        torch.stack(valids).all(0) if valids else None,
        torch.stack(supports).amin(0) if supports else None,
        base,
    )

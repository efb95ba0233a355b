"""Run a bank on a batch: convolution is always `valid`, padding happens in `_extend` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.compile import BankPlan, Output
from pipeline.bank.engine import convolve
from pipeline.bank.expr import (
    Conv,
    Edge,
    Input,
    Join,
    Kernel,
    Lookup,
    Map,
    Node,
    Pool,
    Spectral,
    Spectrum,
    add_reach,
)
from pipeline.bank.pointwise import join_pixels, look_up, map_pixels
from pipeline.bank.spectral import forward, gain, inverse
from pipeline.boundary import OUTSIDE, Boundary, fold
from pipeline.types import Batch, Ints, Reach, Region, Response, Tile

MIN_SUPPORT = 0.75
"""Share of a kernel's absolute weight that must lie on valid pixels for a valid response."""

BLOCK = 64
"""Side, in pixels, of the blocks in which holes are looked for."""

Strips: TypeAlias = list[tuple[int, slice]]
Cut: TypeAlias = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A node's result on P planes over core + margin; `base` (P,) is still to be added to data."""

    data: Tensor
    margin: Reach
    valid: Tensor | None = None
    support: Tensor | None = None
    base: Tensor | None = None


@torch.inference_mode()
def apply_bank(plan: BankPlan, batch: Batch) -> Iterator[Response]:
    """Yield the responses of a batch one at a time; the stack of all of them never exists.

    Batch values are (N, C, *box) float32 with `batch.offset` removed; it is added back through
    each kernel's sum, so that data with a large mean keep their digits.
    """
    masked = batch.valid is not None or any(o.boundary.mode == "nodata" for o in plan.outputs)
    schedule = plan.masked if masked else plan.fast
    due: dict[Node, list[Output]] = {}
    for node, output in zip(schedule.outputs, plan.outputs, strict=True):
        due.setdefault(node, []).append(output)
    done: dict[Node, Value] = {}
    for position, node in enumerate(schedule.order):
        done[node] = _evaluate(node, schedule.margin, done, batch)
        for output in due.get(node, ()):
            yield _response(output, done[node], batch)
        for old in [k for k in done if schedule.last_use.get(k, -1) <= position]:
            del done[old]


def _evaluate(
    node: Node, margins: Mapping[Node, Reach], done: Mapping[Node, Value], batch: Batch
) -> Value:
    margin = margins[node]
    if isinstance(node, Input):
        return _input(node, margin, batch)
    if isinstance(node, Conv):
        wide = _trim(done[node.of], add_reach(margin, node.kernel.reach))
        return _conv(wide, node.kernel, margin)
    if isinstance(node, Join):
        return _join(node, [_trim(done[child], margin) for child in node.of])
    below = done[node.of]
    if isinstance(node, Map):
        value = _settle(_trim(below, margin))
        return replace(value, data=map_pixels(node, value.data))
    if isinstance(node, Lookup):
        value = _settle(_trim(below, margin))
        return replace(value, data=look_up(node.table, value.data))
    if isinstance(node, Pool):
        return _pool(node, _settle(_trim(below, add_reach(margin, node.reach))), margin)
    if isinstance(node, Edge):
        return _edge(node, _settle(below), margin, batch)
    if isinstance(node, Spectrum):
        return _spectrum(node, _trim(below, margin), batch.tiles[0])
    return _spectral(node, below, margin, batch.tiles[0])


def _response(output: Output, value: Value, batch: Batch) -> Response:
    """Cut the margin off; with the boundary `valid`, also what depends on pixels outside."""
    tile = batch.tiles[0]
    region = tile.core
    if output.boundary.mode == "valid":
        shrink = tuple((-before, -after) for before, after in output.reach)
        region = region.overlap(Region.whole(tile.source.header.shape).grow(shrink))
    cut = (slice(None), *region.slices(tile.core.grow(value.margin).start))
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
    return _extend(value, batch.box, batch.tiles[0], node.boundary or Boundary())


def _edge(node: Edge, value: Value, margin: Reach, batch: Batch) -> Value:
    """Extend a response again at the image border, as scipy and the IBSI do between two filters."""
    boundary = node.boundary or Boundary()
    if boundary.mode in ("wrap", "valid"):  # periodic as it stands; cut away at the end
        return _trim(value, margin)
    tile = batch.tiles[0]
    return _extend(replace(value, margin=margin), tile.core.grow(value.margin), tile, boundary)


def _extend(value: Value, have: Region, tile: Tile, boundary: Boundary) -> Value:
    """Gather core + margin out of the pixels of `have`, folding indices beyond the image."""
    want, shape = tile.core.grow(value.margin), tile.source.header.shape
    data, valid, support = value.data, value.valid, value.support
    outside: Strips = []
    for axis, size in enumerate(shape, start=1):
        index = fold(np.arange(want.start[axis - 1], want.stop[axis - 1]), size, boundary.mode)
        inside = np.flatnonzero(index != OUTSIDE)
        outside += [(axis, slice(0, int(inside[0]))), (axis, slice(int(inside[-1]) + 1, None))]
        local = np.where(index == OUTSIDE, have.start[axis - 1], index) - have.start[axis - 1]
        data = _take(data, axis, local)
        valid = None if valid is None else _take(valid, axis, local)
        support = None if support is None else _take(support, axis, local)
    if boundary.mode == "constant":
        fill = boundary.value if value.base is None else boundary.value - value.base
        _paint(data, outside, fill)
        for certainty in (valid, support):  # the constant is known, whatever pixel stood in for it
            if certainty is not None:
                _paint(certainty, outside, 1.0)
    if boundary.mode == "nodata" and want.clip(shape) != want:
        valid = torch.ones_like(data, dtype=torch.bool) if valid is None else valid
        _paint(valid, outside, False)
    return Value(data, value.margin, valid, support, value.base)


def _take(x: Tensor, axis: int, index: npt.NDArray[np.intp]) -> Tensor:
    """Select along an axis; a view where the index is a plain range."""
    if np.array_equal(index, np.arange(index[0], index[0] + len(index))):
        return x.narrow(axis, int(index[0]), len(index))
    return x.index_select(axis, torch.as_tensor(index, device=x.device))


def _paint(x: Tensor, strips: Strips, fill: Tensor | float) -> None:
    """Overwrite strips (axis, where) in place; a fill (P,) gives each plane its own value."""
    if isinstance(fill, Tensor):
        fill = fill.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    for axis, where in strips:
        x[(slice(None),) * axis + (where,)] = fill


def _trim(value: Value, margin: Reach) -> Value:
    """Give up margin that the next node does not need."""
    if margin == value.margin:
        return value
    box = tuple(
        slice(have[0] - want[0], n - (have[1] - want[1]))
        for have, want, n in zip(value.margin, margin, value.data.shape[1:], strict=True)
    )
    cut = (slice(None), *box)
    valid = None if value.valid is None else value.valid[cut]
    support = None if value.support is None else value.support[cut]
    return Value(value.data[cut], margin, valid, support, value.base)


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
    wide = _extend(inner, tile.core, tile, node.boundary or Boundary())
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
    return _extend(found, tile.core, tile, node.of.boundary or Boundary())


# ---------------------------------------------------------------- arithmetic
def _conv(value: Value, kernel: Kernel, margin: Reach) -> Value:
    """Convolve; where pixels are invalid, by the rule of `_around_holes`."""
    total = float(kernel.array.sum())
    base = None if value.base is None else value.base * total + 0.0  # no -0.0
    if value.valid is None:
        return Value(convolve(value.data, kernel), margin, None, None, base)
    data, valid, support = _around_holes(value.data, value.valid, kernel)
    return Value(data, margin, valid, support, base)


def _around_holes(x: Tensor, valid: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor, Tensor]:
    """Correlate as if each missed tap saw the local mean of the valid pixels.

    With M the validity, w the taps and S their sum: out = w*(Mx) + mu (S - w*M), with
    mu = (|w|*Mx) / (|w|*M), and support = (|w|*M) / sum|w|. For w >= 0 this is normalised
    convolution; for a zero-sum kernel a constant scene with holes gives no edge. Written through
    the missing weight, w*(1 - M), it is exactly w*x where no tap is missed.
    """
    weight = float(np.abs(kernel.array).sum()) or 1.0
    seen, hole = torch.where(valid, x, 0.0), (~valid).to(x.dtype)
    data = convolve(seen, kernel)
    support = torch.ones_like(data)
    for box, wide in _blocks_with_holes(hole, kernel):
        missed, around, lost = _near_holes(seen[wide], hole[wide], data[box], kernel)
        mean = around / (weight - lost).clamp_min(weight * 1e-6)
        data[box] += mean * missed
        support[box] = (1.0 - lost / weight).clamp(0.0, 1.0)
    centre = tuple(
        slice(o, n - (k - 1 - o))
        for o, k, n in zip(kernel.origin, kernel.shape, valid.shape[1:], strict=True)
    )
    return data, valid[(slice(None), *centre)] & (support >= MIN_SUPPORT), support


def _near_holes(
    seen: Tensor, hole: Tensor, plain: Tensor, kernel: Kernel
) -> tuple[Tensor, Tensor, Tensor]:
    """w*(1 - M), |w|*(Mx) and |w|*(1 - M); `plain` is w*(Mx)."""
    size = Kernel.of(np.abs(kernel.array), kernel.origin)
    missed = convolve(hole, kernel)
    if size == kernel:
        return missed, plain.clone(), missed
    return missed, convolve(seen, size), convolve(hole, size)


def _blocks_with_holes(hole: Tensor, kernel: Kernel) -> Iterator[tuple[Cut, Cut]]:
    """Where a response misses a tap: blocks of the output, and the input under them.

    Neighbours along the last axis come as one block.
    """
    shape = [n - k + 1 for n, k in zip(hole.shape[1:], kernel.shape, strict=True)]
    rows = product(*(range(0, n, BLOCK) for n in shape[:-1]))
    for corner in rows:
        lead = [slice(a, min(a + BLOCK, n)) for a, n in zip(corner, shape, strict=False)]
        run: slice | None = None
        for a in range(0, shape[-1] + BLOCK, BLOCK):
            part = slice(a, min(a + BLOCK, shape[-1]))
            if a < shape[-1] and bool(hole[_under((*lead, part), kernel)].any()):
                run = slice(run.start if run else a, part.stop)
            elif run is not None:
                yield (slice(None), *lead, run), _under((*lead, run), kernel)
                run = None


def _under(block: Cut, kernel: Kernel) -> Cut:
    """The input that a block of the output is computed from."""
    taps = zip(block, kernel.shape, strict=True)
    return (slice(None), *(slice(part.start, part.stop + k - 1) for part, k in taps))


def _pool(node: Pool, value: Value, margin: Reach) -> Value:
    """The extreme of the valid pixels in a window; valid as a convolution's response is."""
    sign = 1.0 if node.fn == "max" else -1.0
    data = value.data * sign
    if value.valid is None:
        return replace(value, data=_running_max(data, node.shape) * sign, margin=margin)
    seen = value.valid.to(data.dtype)
    window = Kernel.of(np.full(node.shape, 1.0 / prod(node.shape)))
    support = convolve(seen, window)
    data = _running_max(torch.where(value.valid, data, -torch.inf), node.shape) * sign
    valid = _trim(replace(value, data=seen, support=None), margin).valid
    assert valid is not None
    valid = valid & (support >= MIN_SUPPORT)
    return Value(torch.where(valid, data, 0.0), margin, valid, support, None)


def _running_max(x: Tensor, shape: Ints) -> Tensor:
    """The largest of each window, in log2(n) steps per axis: windows twice as wide each time."""
    for axis, size in enumerate(shape, start=1):
        width = 1
        while width < size:
            step = min(width, size - width)
            n = x.shape[axis] - step
            x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, step, n))
            width += step
    return x


def _settle(value: Value) -> Value:
    """Add the base back: from here on the data are what they say."""
    if value.base is None:
        return value
    base = value.base.to(value.data.dtype).reshape(-1, *(1,) * (value.data.ndim - 1))
    return replace(value, data=value.data + base, base=None)


def _join(node: Join, parts: Sequence[Value]) -> Value:
    """Combine pixel by pixel: valid where all parts are, with the least support of them."""
    if node.fn not in ("sum", "mean"):
        parts = [_settle(part) for part in parts]
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

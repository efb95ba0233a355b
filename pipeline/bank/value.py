"""What stands between two nodes: planes with a margin, how certain they are, how to extend them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline.bank.gather import Places, gather
from pipeline.bank.memory import empty
from pipeline.boundary import OUTSIDE, Boundary, Mode, fold
from pipeline.types import Reach, Region, Tile

Strips: TypeAlias = list[tuple[int, slice]]


@dataclass(frozen=True, slots=True)
class Value:
    """A node's result on P planes over core + margin; `base` (P,) is still to be added to data.

    centre, of transforms: what was taken away from each plane before, (P,).
    """

    data: Tensor
    margin: Reach
    valid: Tensor | None = None
    support: Tensor | None = None
    base: Tensor | None = None
    centre: Tensor | None = None


def trim(value: Value, margin: Reach) -> Value:
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


def settle(value: Value) -> Value:
    """Add the base back: from here on the data are what they say."""
    if value.base is None:
        return value
    base = value.base.to(value.data.dtype).reshape(-1, *(1,) * (value.data.ndim - 1))
    data = torch.add(value.data, base, out=empty(value.data.shape, value.data.device))
    return replace(value, data=data, base=None)


def extend(
    value: Value, have: Region, tile: Tile, boundary: Boundary, room: Tensor | None = None
) -> Value:
    """Gather core + margin out of the pixels of `have`, folding indices beyond the image.

    room: memory for them in which the data stand already, where they will be.
    """
    want, shape = tile.core.grow(value.margin), tile.source.header.shape
    outside: Strips = []
    places = []
    for axis, size in enumerate(shape):
        span, start = (want.start[axis], want.stop[axis]), have.start[axis]
        index, *beyond = _places(span, start, size, boundary.mode)
        outside += [(axis + 1, strip) for strip in beyond]
        places.append(index)
    data = gather(value.data, places, room)
    valid = None if value.valid is None else gather(value.valid, places)
    support = None if value.support is None else gather(value.support, places)
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


@lru_cache(maxsize=64)
def _places(
    span: tuple[int, int], start: int, size: int, mode: Mode
) -> tuple[Places, slice, slice]:
    """Where along an axis the pixels of a span lie, from `start` on; and the strips without any."""
    index = fold(np.arange(*span), size, mode)
    inside = np.flatnonzero(index != OUTSIDE)
    places = Places.of(np.where(index == OUTSIDE, start, index) - start)
    return places, slice(0, int(inside[0])), slice(int(inside[-1]) + 1, None)


def _paint(x: Tensor, strips: Strips, fill: Tensor | float) -> None:
    """Overwrite strips (axis, where) in place; a fill (P,) gives each plane its own value."""
    if isinstance(fill, Tensor):
        fill = fill.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    for axis, where in strips:
        x[(slice(None),) * axis + (where,)] = fill

"""Pixels by their places along each axis: how a plane is extended beyond its ends."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.memory import spaced

Places: TypeAlias = npt.NDArray[np.intp]


def gather(x: Tensor, places: Sequence[Places], room: Tensor | None = None) -> Tensor:
    """Of planes (P, *shape), those at `places` of each axis; a view where they lie as they are.

    room: memory for them on a CPU, in which x may stand already, where it will be.
    """
    spans = [_span(place) for place in places]
    if all(stop - start == len(p) for p, (start, stop) in zip(places, spans, strict=True)):
        return x[(slice(None), *(slice(int(p[0]), int(p[0]) + len(p)) for p in places))]
    if x.device.type == "cpu":
        return _copied(x, places, spans[-1], room)
    for axis, place in enumerate(places, start=1):
        x = x.index_select(axis, torch.as_tensor(place, device=x.device))
    return x


def _copied(
    x: Tensor, places: Sequence[Places], run: tuple[int, int], room: Tensor | None
) -> Tensor:
    """Line by line: the longest plain range at once, what is beside it by itself."""
    from pipeline.bank.native import gather as copy

    shape = (x.shape[0], *map(len, places))
    if room is not None:
        out = room
    else:
        out = spaced(shape) if x.dtype == torch.float32 else x.new_empty(shape)
    if x.stride(-1) != 1:
        x = x.contiguous()
    lead = [np.zeros(1, np.intp)] * (3 - len(places))
    every = [np.arange(x.shape[0]), *lead, *places]
    item = x.element_size()
    steps = np.array([x.stride(0), *[0] * len(lead), *x.stride()[1:]]) * item
    offsets = np.concatenate([step * place for step, place in zip(steps, every, strict=True)])
    counts = np.array([len(place) for place in every])
    to_steps = np.array([out.stride(0), *[0] * len(lead), *out.stride()[1:]]) * item
    copy(x.data_ptr(), out.data_ptr(), offsets, counts, to_steps, np.array(run), item)
    return out


def _span(place: Places) -> tuple[int, int]:
    """The longest range of places that follow one another."""
    ends = [0, *(np.flatnonzero(np.diff(place) != 1) + 1).tolist(), len(place)]
    return max(pairwise(ends), key=lambda span: span[1] - span[0])

"""Pixels by their places along each axis: how a plane is extended beyond its ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.memory import spaced
from pipeline.types import Ints

Words = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where along an axis pixels are taken from; run: the longest range that follow one another."""

    index: Words
    run: tuple[int, int]

    @classmethod
    def of(cls, index: npt.ArrayLike) -> Places:
        """Find the run."""
        index = np.asarray(index, np.int64)
        ends = [0, *(np.flatnonzero(np.diff(index) != 1) + 1).tolist(), len(index)]
        return cls(index, max(pairwise(ends), key=lambda span: span[1] - span[0]))

    @property
    def plain(self) -> bool:
        """Whether all follow one another."""
        return self.run == (0, len(self.index))


def gather(x: Tensor, places: Sequence[Places], room: Tensor | None = None) -> Tensor:
    """Of planes (P, *shape), those at `places` of each axis; a view where they lie as they are.

    room: memory for them on a CPU, in which x may stand already, where it will be.
    """
    if all(place.plain for place in places):
        starts = [(int(place.index[0]), len(place.index)) for place in places]
        return x[(slice(None), *(slice(a, a + n) for a, n in starts))]
    if x.device.type == "cpu":
        return _copied(x, tuple(places), room)
    for axis, place in enumerate(places, start=1):
        x = x.index_select(axis, torch.as_tensor(place.index, device=x.device))
    return x


def _copied(x: Tensor, places: tuple[Places, ...], room: Tensor | None) -> Tensor:
    """Line by line: the longest plain range at once, what is beside it by itself."""
    from pipeline.bank.moving import gather as copy

    shape = (x.shape[0], *(len(place.index) for place in places))
    if room is not None:
        out = room
    else:
        out = spaced(shape) if x.dtype == torch.float32 else x.new_empty(shape)
    if x.stride(-1) != 1:
        x = x.contiguous()
    item = x.element_size()
    walk = _walk(len(x), places, x.stride(), out.stride(), item)
    copy(x.data_ptr(), out.data_ptr(), *walk, item)
    return out


@lru_cache(maxsize=64)
def _walk(
    count: int, places: tuple[Places, ...], strides: Ints, to_strides: Ints, item: int
) -> tuple[Words, Words, Words, Words]:
    """What `native.gather` is told of planes with these strides, apart from the memory."""
    lead = [np.zeros(1, np.int64)] * (3 - len(places))
    every = [np.arange(count), *lead, *(place.index for place in places)]
    steps, to_steps = (
        item * np.array([all_of[0], *[0] * len(lead), *all_of[1:]])
        for all_of in (strides, to_strides)
    )
    offsets = np.concatenate([step * place for step, place in zip(steps, every, strict=True)])
    return offsets, np.array([len(place) for place in every]), to_steps, np.array(places[-1].run)

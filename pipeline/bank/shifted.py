"""The engine's sums on a GPU: taps of all kernels in one launch where Triton runs, else one by one.

A pixel's bits depend on the kernel and the pixels under it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank import taptext
from pipeline.bank.costs import STACKED, way
from pipeline.bank.expr import Kernel
from pipeline.gpu import build, launching, possible
from pipeline.types import Ints

TILES: Mapping[Callable[[int], str], Ints] = {
    taptext.sparse: (8, 128),
    taptext.dense: (8, 128),
    taptext.column: (taptext.STACK, 256),
}
"""Lines and pixels side by side of what one program computes, by its text."""


def correlate(x: Tensor, corner: Ints, kernels: Sequence[Kernel], shape: Ints) -> list[Tensor]:
    """Valid correlation of planes (P, *any), from `corner` on, with each kernel: (P, *shape).

    float32. Raises torch.OutOfMemoryError; DeviceError where the kernel cannot be launched.
    """
    if not possible(x.device.type):
        return [_one_by_one(x, corner, kernel, shape) for kernel in kernels]
    if x.stride(-1) != 1:
        x = x.contiguous()
    out = [torch.empty((len(x), *shape), device=x.device) for _ in kernels]
    if not out[0].numel():
        return out
    taps = _on_device(tuple(kernels), corner, x.stride()[1:], torch.cuda.current_stream())
    sizes, steps, to_steps = map(_three, (shape, x.stride()[1:], out[0].stride()[1:]), (1, 0, 0))
    rows, block = TILES[taps.text]
    (depth, height), width = (sizes[axis] for axis in taps.loops), shape[-1]
    down, across = -(-height // rows), -(-width // block)
    with launching():
        _program(taps.text, len(kernels))[(len(x) * depth * down * across,)](
            *(x, taps.first, taps.places, taps.weights, len(taps.weights)),
            *(x.stride(0), *(steps[axis] for axis in taps.loops)),
            *(depth, height, width, *(to_steps[axis] for axis in taps.loops)),
            *(down, across, *out),
            ROWS=rows,
            BLOCK=block,
        )
    return out


def add_up(parts: Sequence[tuple[Tensor, Ints]], weights: Sequence[float], shape: Ints) -> Tensor:
    """The weighted sum of planes (P, *any), each from its corner on: (P, *shape)."""
    total = _window(*parts[0], shape) * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total.add_(_window(*part, shape), alpha=weight)
    return total


def run_sums(x: Tensor, axis: int, size: int, weight: float) -> Tensor:
    """Sums of so many neighbours along an axis, in float64, times a weight."""
    total = torch.nn.functional.pad(x.double().movedim(axis, -1).cumsum(-1), (1, 0))
    return ((total[..., size:] - total[..., :-size]) * weight).movedim(-1, axis).to(x.dtype)


def _one_by_one(x: Tensor, corner: Ints, kernel: Kernel, shape: Ints) -> Tensor:
    """One multiply-add of the whole plane per tap."""
    places, weights = _taps((kernel,))
    out = torch.zeros((len(x), *shape), dtype=x.dtype, device=x.device)
    for place, weight in zip((places + corner).tolist(), weights[:, 0].tolist(), strict=True):
        out.add_(_window(x, place, shape), alpha=weight)
    return out


def _window(x: Tensor, corner: Sequence[int], shape: Ints) -> Tensor:
    return x[(slice(None), *(slice(a, a + n) for a, n in zip(corner, shape, strict=True)))]


def _three(numbers: Sequence[int], filled: int) -> Ints:
    return (*(filled,) * (3 - len(numbers)), *numbers)


@cache
def _program(text: Callable[[int], str], count: int) -> Any:
    """The kernel for so many results."""
    return build(text(count))


@dataclass(frozen=True, slots=True, eq=False)
class _Taps:
    """Where taps are: the first, and (taps,) on the device; weights (taps, kernels) there.

    text: what sums them; loops: which of three axes lines lie beside one another and follow on.
    """

    first: int
    places: Tensor
    weights: Tensor
    text: Callable[[int], str]
    loops: Ints


@lru_cache(maxsize=4096)
def _on_device(
    kernels: tuple[Kernel, ...], corner: Ints, strides: Ints, stream: torch.cuda.Stream
) -> _Taps:
    """Each stream has its own: what one frees another must not get while it is in use."""
    places, weights = _taps(kernels)
    far = (places + corner) @ np.array(strides, np.int64)
    text, loops = taptext.sparse, (0, 1)
    if len(kernels) == 1 and way(kernels[0]) == STACKED and len(weights) >= taptext.STACK:
        along = 3 - len(corner) + int(np.argmax(kernels[0].shape))
        text, loops = taptext.column, (1 - along, along)
    elif (np.diff(far) == 1).all():
        text = taptext.dense
    there = torch.from_numpy(far - far[0]), torch.from_numpy(weights)
    near, factors = (numbers.to(stream.device) for numbers in there)
    return _Taps(int(far[0]), near, factors, text, loops)


def _taps(kernels: tuple[Kernel, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Where any of some kernels of one window is not zero, (taps, axes), and all their weights.

    A column has all of its taps, as on a CPU.
    """
    arrays = np.stack([kernel.array.astype(np.float32) for kernel in kernels], -1)
    used = arrays.any(-1) | (way(kernels[0]) == STACKED)
    if not used.any():
        used.flat[0] = True
    return np.argwhere(used), arrays[used]

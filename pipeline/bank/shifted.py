"""The engine's sums on a GPU: of shifted planes, in one kernel where Triton runs, else one by one.

A pixel is one chain of fused multiply-adds in the order of the taps, so its bits depend on the
kernel and the pixels under it alone. The taps are numbers in the GPU's memory, not in the text:
a bank has dozens of passes, and each text would take Triton a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.gpu import build, launching, possible
from pipeline.types import Ints

ROWS, BLOCK = 8, 128
"""Lines and pixels side by side of what one program computes; taps of lines share what they load
through the cache."""

_TEXT = '''\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["taps", "stride", "stride_z", "stride_y", "planes", "depth", \
"height", "width", "down", "across"])
def kernel(
    x_ptr, places_ptr, weights_ptr, taps, stride, stride_z, stride_y, depth, height, width,
    down, across, {pointers},
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """ROWS x BLOCK pixels of the results of one plane, from lines that lie anyhow."""
    tile = tl.program_id(0)
    slab = (tile // (down * across)).to(tl.int64)
    y = tile // across % down * ROWS + tl.arange(0, ROWS)[:, None]
    x = tile % across * BLOCK + tl.arange(0, BLOCK)[None, :]
    ok = (y < height) & (x < width)
    begin = x_ptr + slab // depth * stride + slab % depth * stride_z
    begin += y.to(tl.int64) * stride_y + x
{zeros}
    for t in tl.range(0, taps, loop_unroll_factor=4):
        v = tl.load(begin + tl.load(places_ptr + t), mask=ok, other=0.0)
{sums}
    into = (slab * height + y) * width + x
{stores}
'''


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
    depth, height, width = (1, *shape)[-3:]
    strides = (0, *x.stride()[1:])[-3:-1]
    places, weights = _moved(tuple(kernels), corner, x.stride()[1:], torch.cuda.current_stream())
    down, across = -(-height // ROWS), -(-width // BLOCK)
    with launching():
        _program(len(kernels))[(len(x) * depth * down * across,)](
            x,
            places,
            weights,
            len(places),
            x.stride(0),
            *strides,
            *(depth, height, width, down, across),
            *out,
            ROWS=ROWS,
            BLOCK=BLOCK,
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


@cache
def _program(count: int) -> Any:
    """The kernel for so many results."""

    def lines(text: str, deep: int) -> str:
        return "\n".join(" " * deep + text.replace("@", str(i)) for i in range(count))

    weight = f"tl.broadcast_to(tl.load(weights_ptr + t * {count} + @), v.shape)"
    return build(
        _TEXT.format(
            pointers=", ".join(f"to{i}_ptr" for i in range(count)),
            zeros=lines("a@ = tl.zeros([ROWS, BLOCK], tl.float32)", 4),
            sums=lines(f"a@ = tl.fma({weight}, v, a@)", 8),
            stores=lines("tl.store(to@_ptr + into, a@, mask=ok)", 4),
        )
    )


@lru_cache(maxsize=4096)
def _moved(
    kernels: tuple[Kernel, ...], corner: Ints, strides: Ints, stream: torch.cuda.Stream
) -> tuple[Tensor, Tensor]:
    """How far taps are from a line's first pixel, (taps,), and weights (taps, kernels).

    Each stream has its own: what one stream frees another must not get while it is in use.
    """
    places, weights = _taps(kernels)
    far = (places + corner) @ np.array(strides, np.int64)
    return torch.from_numpy(far).to(stream.device), torch.from_numpy(weights).to(stream.device)


def _taps(kernels: tuple[Kernel, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Where any of some kernels of one window is not zero, (taps, axes), and all their weights."""
    arrays = np.stack([kernel.array.astype(np.float32) for kernel in kernels], -1)
    used = arrays.any(-1)
    if not used.any():
        used.flat[0] = True
    return np.argwhere(used), arrays[used]

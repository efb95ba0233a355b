"""Some convolutions of one input, and what is found out about them, as one Triton kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from typing import Any

import numpy as np

from pipeline.bank.expr import Kernel
from pipeline.types import Ints, Reach

_HEAD = '''\
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["stride", "stride_z", "stride_y", "z0", "y0", "x0", "y1", \
"x1", "cells_y", "cells_x", "down", "across", "tiles"])
def kernel(
    x_ptr, stride, stride_z, stride_y, z0, y0, x0, y1, x1, cells_y, cells_x, down, across,
    tiles, {pointers},
    CELL: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):
    """Reduce a tile of one plane: ROWS x BLOCK pixels, or what of them is in the cell and box."""
    plane = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    cell = tile // (down * across)
    cy = y0 // CELL + cell // cells_x % cells_y
    cx = x0 // CELL + cell % cells_x
    top = tl.maximum(cy * CELL, y0) + tile // across % down * ROWS
    left = tl.maximum(cx * CELL, x0) + tile % across * BLOCK
    right = tl.minimum((cx + 1) * CELL, x1)
    bottom = tl.minimum(tl.minimum(top + ROWS, (cy + 1) * CELL), y1)
    bottom = tl.where(left < right, tl.maximum(top, bottom), top)
    lane = tl.arange(0, BLOCK)
    ok = left + lane < right
    z = z0 + cell // (cells_x * cells_y)
    line = x_ptr + plane * stride + z.to(tl.int64) * stride_z + tl.minimum(left + lane, right - 1)
'''


@dataclass(frozen=True, slots=True)
class Template:
    """How a reduction is written; `@` stands for the number of the filter.

    pointers: to what it is given and where it leaves results; begin: before the first row; each:
    of each row, whose responses are `a@`, float32; end: after the last one. Lanes that are not `ok`
    repeat a pixel of another lane, or of another tile, and do not count. Planes of responses are
    those of the filters of the first image, from `q` on, then those of the second one.
    """

    pointers: tuple[str, ...]
    begin: str = ""
    each: str = ""
    end: str = ""


@dataclass(frozen=True)
class Stencil:
    """Convolutions of one input that are computed together.

    margin: what the widest of them needs of the input around the image.
    """

    kernels: tuple[Kernel, ...]
    margin: Reach

    @cached_property
    def programs(self) -> dict[tuple[Template, ...], Any]:
        """What Triton made of them, by what each walk finds out: as lasting as the plan's bank."""
        return {}


def write(kernels: Sequence[Kernel], margin: Reach, templates: Sequence[Template]) -> str:
    """The text of a Triton kernel; taps are literals, and those that are 0 are left out.

    margin: of the input around the pixels that are measured, no less than any kernel's reach. The
    taps of each kernel are multiplied and added in C order.
    """
    pointers = ", ".join(chain.from_iterable(template.pointers for template in templates))
    many = range(len(kernels))
    lines = [f"q = plane * {len(kernels)}"]
    lines += _for_each(many, [template.begin for template in templates])
    lines += ["for y in range(top, bottom):", "    row = line + y * stride_y"]
    lines += _indented(_taps(kernels, margin))
    lines += _indented(_for_each(many, [template.each for template in templates]))
    lines += _for_each(many, [template.end for template in templates])
    return _HEAD.format(pointers=pointers) + "\n".join(_indented(lines)) + "\n"


def _taps(kernels: Sequence[Kernel], margin: Reach) -> list[str]:
    """Load each pixel once, multiply and add it to every response that it has a share in."""
    weights = [_placed(kernel, margin) for kernel in kernels]
    begun: set[int] = set()
    lines = []
    for place in sorted(set().union(*weights)):
        dz, dy, dx = (0,) * (3 - len(place)) + place
        lines.append(
            f"v = tl.load(row + ({dz} * stride_z + {dy} * stride_y + {dx})).to(tl.float32)"
        )
        for f, taps in enumerate(weights):
            if place in taps:
                weight = f"tl.full([BLOCK], {taps[place]!r}, tl.float32)"
                fused = f"tl.fma({weight}, v, a{f})"  # else each text contracts in its own way
                lines.append(f"a{f} = {fused if f in begun else f'{taps[place]!r} * v'}")
                begun.add(f)
    empty = set(range(len(kernels))) - begun
    return lines + [f"a{f} = tl.zeros([BLOCK], tl.float32)" for f in sorted(empty)]


def _placed(kernel: Kernel, margin: Reach) -> dict[Ints, float]:
    """The taps that are not 0, rounded to float32, by their places in the input with its margin."""
    single = kernel.array.astype(np.float32)
    corner = [wide - own for (wide, _), (own, _) in zip(margin, kernel.reach, strict=True)]
    return {
        tuple(a + k for a, k in zip(corner, at, strict=True)): float(single[at])
        for at in product(*map(range, kernel.shape))
        if single[at]
    }


def _for_each(many: Sequence[int], texts: Sequence[str]) -> list[str]:
    return [line for text in texts for f in many for line in text.replace("@", str(f)).splitlines()]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]

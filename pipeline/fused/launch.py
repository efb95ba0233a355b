"""Kernels from text, and their launch over the tiles of all planes."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.fused.reductions import Frame, Reduction
from pipeline.fused.source import Template, write
from pipeline.statistics.cells import CELL, sides_of
from pipeline.types import Ints, Reach, Region


@dataclass(frozen=True, slots=True)
class Tiles:
    """What one program of a kernel reduces, in pixels: rows, and lanes side by side."""

    rows: int = 32
    block: int = 128


@lru_cache(maxsize=256)
def _kernel(kernels: tuple[Kernel, ...], margin: Reach, templates: tuple[Template, ...]) -> Any:
    return build(write(kernels, margin, templates))


def build(text: str) -> Any:
    """The function that Triton makes of the text of a module; it is compiled when it is launched.

    Raises
    ------
    ImportError
        Where Triton is not installed.
    """
    name = f"<fused {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), module)  # our own text, from kernels that are numbers
    return module["kernel"]


def reduce(
    planes: Tensor,
    box: Region,
    kernels: Sequence[Kernel],
    margin: Reach,
    reductions: Sequence[Reduction],
    tiles: Tiles,
) -> list[tuple[Any, ...]]:
    """Walk over a box of the responses once, and answer what each reduction asks.

    planes: (P, *shape) with a margin around the image; uint8, uint16 or float32. Planes of the
    answers are those of all kernels for the first plane, then those for the second, and so on.
    """
    if planes.stride(-1) != 1:
        planes = planes.contiguous()
    cells = cells_of(box)
    z0, y0, x0 = (0, *box.start)[-3:]
    down, across = (
        -(-max(1, min(CELL, extent)) // size)
        for extent, size in zip(box.shape[-2:], (tiles.rows, tiles.block), strict=True)
    )
    frame = Frame(planes.device, len(kernels) * len(planes), cells, down * across)
    buffers = [reduction.buffers(frame) for reduction in reductions]
    templates = tuple(reduction.template for reduction in reductions)
    kernel = _kernel(tuple(kernels), margin, templates)
    every = prod(cells) * frame.tiles
    kernel[(len(planes) * every,)](
        planes,
        *(planes.stride(0), *(0, *planes.stride()[1:])[-3:-1]),
        *(z0, y0, x0, *box.stop[-2:], *cells[-2:], down, across, every),
        *(pointer for pointers in buffers for pointer in pointers),
        CELL=CELL,
        ROWS=tiles.rows,
        BLOCK=tiles.block,
    )
    return [reduction.answer(b) for reduction, b in zip(reductions, buffers, strict=True)]


def cells_of(box: Region) -> Ints:
    """Count the cells along each axis that a box touches; one for an empty box."""
    ends = zip(box.start, box.stop, sides_of(box.start), strict=True)
    return tuple(-(-max(b, a + 1) // side) - a // side for a, b, side in ends)

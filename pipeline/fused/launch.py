"""Kernels from text, and their launch over the tiles of all planes."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import DeviceError
from pipeline.fused.reductions import Reduction
from pipeline.fused.source import Stencil, write
from pipeline.statistics.cells import CELL, sides_of
from pipeline.types import Ints, Region

ROWS, BLOCK = 32, 128
"""Pixels of a tile, which is what one program of a kernel reduces: rows, and lanes side by side."""

_ONE_BY_ONE = Lock()
"""Triton does not promise that threads may compile side by side; a launch takes no time."""


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
    planes: Tensor, box: Region, stencil: Stencil, reductions: Sequence[Reduction]
) -> list[Any]:
    """Walk over a box of the responses once, and answer what each reduction asks.

    planes: (P, *shape) with the margin around the image; uint8, uint16 or float32. Planes of the
    answers are those of all kernels for the first plane, then those for the second, and so on.

    Raises
    ------
    torch.OutOfMemoryError
        Where the device's memory does not hold the results, or the kernel.
    DeviceError
        Where the kernel cannot be compiled or launched.
    """
    if planes.stride(-1) != 1:
        planes = planes.contiguous()
    cells = cells_of(box)
    z0, y0, x0 = (0, *box.start)[-3:]
    down, across = (
        -(-max(1, min(CELL, extent)) // size)
        for extent, size in zip(box.shape[-2:], (ROWS, BLOCK), strict=True)
    )
    many, tiles = len(stencil.kernels) * len(planes), down * across
    results = [one.room(many, (*cells, tiles), planes.device) for one in reductions]
    templates = tuple(one.template for one in reductions)
    every = prod(cells) * tiles
    pointers = (
        x for one, result in zip(reductions, results, strict=True) for x in (*one.given, result)
    )
    with _ONE_BY_ONE, _launching():
        if templates not in stencil.programs:
            stencil.programs[templates] = build(write(stencil.kernels, stencil.margin, templates))
        stencil.programs[templates][(len(planes) * every,)](
            planes,
            *(planes.stride(0), *(0, *planes.stride()[1:])[-3:-1]),
            *(z0, y0, x0, *box.stop[-2:], *cells[-2:], down, across, every),
            *pointers,
            CELL=CELL,
            ROWS=ROWS,
            BLOCK=BLOCK,
        )
    return [one.answer(result) for one, result in zip(reductions, results, strict=True)]


@contextmanager
def _launching() -> Iterator[None]:
    """Say in our words what Triton, its compilers and the driver say: in errors of every kind."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        said = str(getattr(error, "error_message", None) or error).strip() or type(error).__name__
        if said.startswith("Triton Error") and "out of memory" in said:
            raise torch.OutOfMemoryError(said) from error
        message = (
            f"Triton cannot compile or launch a kernel: {said.splitlines()[0]}; "
            "use --device cpu with another output folder"
        )
        raise DeviceError(message) from error


def cells_of(box: Region) -> Ints:
    """Count the cells along each axis that a box touches; one for an empty box."""
    ends = zip(box.start, box.stop, sides_of(box.start), strict=True)
    return tuple(-(-max(b, a + 1) // side) - a // side for a, b, side in ends)

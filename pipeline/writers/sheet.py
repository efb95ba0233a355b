"""Sheets to look at: all responses to one image side by side, and all kernels of a bank.

A sheet is for eyes, not for measuring: every tile has a contrast of its own, which its caption and
the footer say. Values are in the previews (`png`) and the maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.writers.layout import Head, Key, Tile, page
from pipeline.writers.pngfile import encode
from pipeline.writers.thumbnail import (
    SIDE,
    TINT,
    VOLUME,
    Pixels,
    captioned,
    diverging,
    enlarge,
    photograph,
    shrink,
)

__all__ = ["captioned", "kernel_sheet", "photograph", "sheet"]

Kernel: TypeAlias = npt.NDArray[np.float32 | np.float64]

COLUMNS = 7  # of 192 pixels: just under 1600 with gaps and margins
FEWEST = 4  # so that the title has room
SPAN = 2  # columns that the picture of a volume takes
KERNEL_SIDE = 160
OWN_SCALE = (
    "Each tile has its own scale, given below it (percentiles 1 to 99 of the pixels drawn): "
    "not comparable."
)
BAR = np.broadcast_to(np.linspace(-1, 1, 96), (12, 96))
DIVERGING = Key(diverging(BAR, 1.0), "both signs: negative, 0, positive")
GRAY = Key(np.rint((BAR + 1) * 127.5).astype(np.uint8), "one sign: low to high")
NO_DATA = Key(np.full((12, 96, 3), TINT, dtype=np.uint8), "no valid pixel")


def sheet(
    title: str,
    input_thumb: Pixels,
    tiles: Sequence[tuple[str, str, Pixels, str]],
    *,
    about: Sequence[str] = (),
    text: Mapping[str, str] | None = None,
) -> bytes:
    """Lay out one image's contact sheet: the input, then every response with its caption.

    Parameters
    ----------
    title : str
        The image's key.
    input_thumb : (h, w) or (h, w, 3) uint8
        See `photograph`.
    tiles : sequence of (response name, band, thumbnail, its caption)
        Picture and caption as `captioned` gives them. Drawn in the order of the names, the bands
        of one name next to each other.
    about : sequence of str
        Lines below the title: size, bands, what was computed.
    text : mapping, optional
        Chunks `filterbank:<key>`, as in `png.render`.

    Returns
    -------
    bytes
        A PNG at most 1600 pixels wide, the same bytes for the same arguments.
    """
    names = list(dict.fromkeys(name for name, *_ in tiles))
    bands = len({band for _, band, *_ in tiles}) or 1
    ordered = sorted(tiles, key=lambda tile: names.index(tile[0]))
    cells = [
        Tile(pixels, name, (f"{band}: {note}" if bands > 1 else note,))
        for name, band, pixels, note in ordered
    ]
    head = Head(title, tuple(about), (DIVERGING, GRAY, NO_DATA), input_thumb)
    wide = any(tile.pixels.shape[1] > SIDE for tile in cells)
    columns = fitting_columns(len(cells), bands, SPAN if wide else 1)
    drawn = page(head, cells, OWN_SCALE, columns=columns, side=VOLUME if wide else SIDE)
    return encode(drawn, text or {})


def fitting_columns(tiles: int, bands: int, span: int = 1) -> int:
    """Columns such that the bands of one response do not straddle a row end where they can.

    >>> fitting_columns(60, 1), fitting_columns(60, 3), fitting_columns(60, 12)
    (7, 6, 6)
    """
    most, fewest = COLUMNS // span, FEWEST // span
    even = (c for c in range(most, fewest - 1, -1) if c % bands == 0 or bands % c == 0)
    return max(fewest, min(next(even, most), tiles))


def kernel_sheet(title: str, kernels: Sequence[tuple[str, Kernel, str]]) -> bytes:
    """Draw the kernels of a bank, enlarged, each with its size and sum, as one PNG.

    Parameters
    ----------
    title : str
        What the bank is called.
    kernels : sequence of (name, taps (kh, kw) or (kd, kh, kw), note)
        Taps as applied. Of a 3-D kernel the middle slice is drawn, and its caption says so.
    """
    cells = [_kernel_tile(*kernel) for kernel in kernels]
    count = f"{len(cells)} kernel{'s' if len(cells) != 1 else ''}, taps as applied (correlation)"
    legend = Key(DIVERGING.pixels, "negative, 0, positive weights")
    columns = max(FEWEST, min(COLUMNS + 1, len(cells)))
    footer = "Each kernel has its own scale, symmetric around 0."
    head = Head(title, (count,), (legend,))
    drawn = page(head, cells, footer, columns=columns, side=KERNEL_SIDE)
    return encode(drawn, {})


def _kernel_tile(name: str, taps: Kernel, note: str) -> Tile:
    middle = taps if taps.ndim == 2 else taps[len(taps) // 2]
    plane, _ = shrink(middle, np.isfinite(middle), KERNEL_SIDE)
    colours = diverging(plane, float(np.abs(plane).max()))
    size, total = " x ".join(map(str, taps.shape)), f"sum {_total(taps):.3g}"
    notes = (
        (f"{size}, {total}",) if taps.ndim == 2 else (f"{size}, slice z={len(taps) // 2}", total)
    )
    return Tile(enlarge(colours, KERNEL_SIDE), name, (*notes, note) if note else notes)


def _total(taps: Kernel) -> float:
    """Sum of the taps; 0 where only the rounding of cancelling taps is left."""
    total = float(np.sum(taps, dtype=np.float64))
    return total if abs(total) > 1e-6 * float(np.abs(taps).sum()) else 0.0

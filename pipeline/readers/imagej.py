"""Stacks as ImageJ writes them: its description of the first page says what each plane is."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.planes import Stack, grid_of
from pipeline.readers.segments import is_mapped

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

X_RESOLUTION, Y_RESOLUTION = 282, 283
AXES = "tzc"
KEYS = {"t": "frames", "z": "slices", "c": "channels"}


def imagej_stack(tiff: TiffFile, directories: int) -> Stack | None:
    """The stack of a file, or None where its metadata say less than its directories.

    Images beyond those of its axes are frames. Raises ReadError where planes are missing,
    `corrupt`, or stand behind one directory and are compressed, `unsupported`; ValueError where
    what should be a number is none.
    """
    said, page = tiff.imagej_metadata or {}, tiff.pages.first
    counts = {axis: max(1, int(said.get(key, 1))) for axis, key in KEYS.items()}
    images = int(said.get("images", 1))
    if page.samplesperpixel == counts["c"] > 1:  # as Bio-Formats counts, who calls samples channels
        counts["c"], images = 1, 1
    planes = prod(counts.values())
    if planes != directories and images > planes and images % planes == 0:
        counts["t"] *= images // planes
        planes = images
    if planes < directories:
        return None
    one = directories == 1 < planes
    if one:
        _check_space(tiff, page, planes)
    elif planes > directories:
        message = f"{planes} planes in {directories} directories; copy it again from its source"
        raise ReadError("corrupt", message)
    order = str(said.get("order", "czt")).lower()
    slowest_first = (order if sorted(order) == sorted(AXES) else "czt")[::-1]
    found = np.arange(planes).reshape([counts[axis] for axis in slowest_first])
    pages = found.transpose([slowest_first.index(axis) for axis in AXES])
    unit = str(said.get("unit", "")).replace("\\u00B5", "µ")
    depth = abs(float(said.get("spacing", 0)))
    steps = (depth, _step(page, Y_RESOLUTION), _step(page, X_RESOLUTION))
    return Stack(pages, ("",) * counts["c"], grid_of(steps, [unit] * 3, counts["z"]), one)


def _check_space(tiff: TiffFile, page: TiffPage, planes: int) -> None:
    """Refuse a file that cannot hold as many planes, one after the other, as it says."""
    if not is_mapped(page):
        message = f"{planes} compressed pictures behind one TIFF directory; save them as pages"
        raise ReadError("unsupported", message)
    if page.dataoffsets[0] + planes * page.nbytes > tiff.filehandle.size:
        message = f"truncated ImageJ stack ({planes} planes do not fit); copy it again"
        raise ReadError("corrupt", message)


def _step(page: TiffPage, code: int) -> float:
    """Length of a pixel, from the tag that says how many there are in a unit; 0: not said."""
    value = page.tags.valueof(code)
    count, units = value if isinstance(value, tuple) and len(value) == 2 else (0, 0)
    return units / count if count else 0.0

"""PNG previews: one response as gray codes, with what turns them back into values beside them.

value = offset + scale * code, and code 0 is invalid. A span with min < 0 < max is centred: 0 lies
at code 128 (32768 at 16 bit) and reaches equally far on both sides. Any other span [lo, hi] fills
1..255 (1..65535). The codes are stored as plain gray: no palette, gamma, alpha or time chunk, so a
reader that knows nothing of filterbank shows the response, and equal responses are equal files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.writers.boxes import Floats as Floats
from pipeline.writers.boxes import Mask as Mask
from pipeline.writers.pngfile import encode
from pipeline.writers.slices import assembled, parts_of, text_of

Depth: TypeAlias = Literal[8, 16]
Limits: TypeAlias = tuple[float, float]
Whole: TypeAlias = npt.NDArray[np.uint8 | np.uint16]

_NOWHERE = np.empty(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Codes:
    """The straight line between codes 1..top and values; scale 0 says that every value is offset.

    >>> Codes.spanning(-4.0, 2.0, 8).encode(np.array([-4.0, 0.0, 4.0]), np.full(3, True)).tolist()
    [1, 128, 255]
    >>> Codes.spanning(0.0, 254.0, 8)
    Codes(offset=-1.0, scale=1.0, top=255)
    """

    offset: float
    scale: float
    top: int

    @classmethod
    def spanning(cls, lo: float, hi: float, depth: Depth) -> Codes:
        """Spread [lo, hi] over all codes, symmetrically around 0 where it holds both signs."""
        top = 2**depth - 1
        if lo < 0.0 < hi:
            scale = max(-lo, hi) / (top // 2)
            return cls(-scale * (top // 2 + 1), scale, top)
        scale = (hi - lo) / (top - 1)
        return cls(lo - scale + 0.0, scale, top)  # no -0.0, which equals 0

    def encode(self, values: Floats, valid: Mask | None) -> Whole:
        """Nearest code of each value, clipped to 1..top; 0 where invalid. Shapes are kept."""
        from pipeline.writers import native

        codes: Whole = np.empty(values.shape, np.uint8 if self.top < 256 else np.uint16)
        known = _NOWHERE if valid is None else np.ascontiguousarray(valid).reshape(-1)
        flat = np.ascontiguousarray(values).reshape(-1)
        native.codes(flat, known, self.offset, self.scale, self.top, codes.reshape(-1))
        return codes


def render(
    values: Floats,
    valid: Mask | None = None,
    *,
    depth: Depth = 8,
    limits: Limits | None = None,
    text: Mapping[str, str] | None = None,
    size: int = 2048,
    spacing: Sequence[float] | None = None,
) -> bytes:
    """Draw one response as a gray PNG whose codes can be turned back into values.

    Parameters
    ----------
    values, valid : (H, W) or (D, H, W) float and bool
        Of a volume the three middle slices are drawn side by side, with code 0 between them
        (chunk `parts`). Values that are not finite are invalid whatever `valid` says.
    limits : (lo, hi), optional
        Values beyond are clipped and the span goes to the chunk `limits`; with lo < 0 < hi the span
        is the larger side on both. Default: the valid minimum and maximum of this response
        (of the whole volume), so that two previews are not comparable.
    text : mapping, optional
        Chunks to add, each as `filterbank:<key>`: unit, image, band, filter, digest.
    size : int
        A longer side is reduced: each pixel is then the mean of the valid ones among n x n. The
        chunks `size` (H x W before) and `reduced` (n) say so. Pixels of a volume are means over
        boxes of any size; its chunk `size` is D x H x W.
    spacing : three numbers, optional
        How far apart the voxels of a volume are along each axis; default: equally far.

    Returns
    -------
    bytes
        The file. Chunks `offset` and `scale` hold the shortest decimals that give the same float64.

    Raises
    ------
    ValueError
        Where there is no pixel to draw, or the limits are no span.
    """
    usable, ends = seen(values, valid)
    codes = Codes.spanning(*(ends if limits is None else checked(limits)), depth)
    chunks = {**(text or {}), **_said(codes, limits)}
    if values.ndim == 3:
        parts = parts_of(values.shape, spacing, size)
        chunks |= {"size": "{}x{}x{}".format(*values.shape), "parts": text_of(parts)}
        values, usable = assembled(values, finite(values, usable), parts)
    elif (step := -(-max(values.shape) // size)) > 1:
        chunks |= {"size": "{}x{}".format(*values.shape), "reduced": str(step)}
        values, usable = reduce(values, finite(values, usable), step)
    return encode(codes.encode(values, usable), chunks)


def coded(
    pixels: Whole, codes: Codes, *, limits: Limits | None = None, text: Mapping[str, str]
) -> bytes:
    """Draw a response whose pixels are codes already; as `render` does with what they stand for."""
    return encode(pixels, {**text, **_said(codes, limits)})


def _said(codes: Codes, limits: Limits | None) -> dict[str, str]:
    """Chunks that say what codes stand for."""
    said = {"offset": repr(codes.offset), "scale": repr(codes.scale)}
    if limits is not None:
        lowest, highest = (codes.offset + codes.scale * code for code in (1, codes.top))
        said["limits"] = f"{lowest!r} {highest!r}"
    return said


def finite(values: Floats, valid: Mask | None) -> Mask:
    """Where a response holds a number, as bool of its shape; refuse one without pixels."""
    _require_picture(values)
    numbers = np.isfinite(values)
    return numbers if valid is None else numbers & valid


def _require_picture(values: Floats) -> None:
    if values.ndim not in (2, 3) or values.size == 0:
        message = f"a picture needs (H, W) or (D, H, W) pixels, got shape {values.shape}"
        raise ValueError(message)


def seen(values: Floats, valid: Mask | None) -> tuple[Mask | None, Limits]:
    """Where a response holds a number, None for everywhere; the least and the greatest of them.

    (0, 0) where there is none. Raises ValueError as `finite` does.
    """
    from pipeline.writers import native

    _require_picture(values)
    if valid is None:
        ends = np.empty(2, values.dtype)
        lanes = np.empty((3, native.LANES), values.dtype)
        native.ends(np.ascontiguousarray(values).reshape(-1), lanes, ends)
        if not np.isnan(ends[0]):
            return None, (float(ends[0]), float(ends[1]))
    usable = finite(values, valid)
    if not usable.any():
        return usable, (0.0, 0.0)
    lo = np.min(values, where=usable, initial=np.inf)
    hi = np.max(values, where=usable, initial=-np.inf)
    return usable, (float(lo), float(hi))


def checked(limits: Limits) -> Limits:
    """The limits as floats, or what is wrong with them."""
    lo, hi = (float(limit) for limit in limits)
    if not (isfinite(lo) and isfinite(hi) and lo < hi):
        message = f"limits: got [{lo:g}, {hi:g}]; give two finite numbers, the smaller one first"
        raise ValueError(message)
    return lo, hi


def reduce(values: Floats, usable: Mask, step: int) -> tuple[npt.NDArray[np.float64], Mask]:
    """Mean of the usable pixels of each step x step block; blocks at the far edges may be smaller.

    >>> reduce(np.array([[1.0, 3.0, 5.0]]), np.array([[True, True, False]]), 2)
    (array([[2., 0.]]), array([[ True, False]]))
    """

    height, width = (-(-length // step) for length in values.shape)

    def total(pixels: Floats | Mask) -> npt.NDArray[np.float64]:
        # step strided additions per axis: 5 times as fast as reduceat over short blocks
        rows = np.zeros((height, pixels.shape[1]))
        sums = np.zeros((height, width))
        for k in range(step):
            rows[: len(pixels[k::step])] += pixels[k::step]
        for k in range(step):
            sums[:, : len(rows[0, k::step])] += rows[:, k::step]
        return sums

    count = total(usable)
    return total(np.where(usable, values, 0)) / np.maximum(count, 1), count > 0

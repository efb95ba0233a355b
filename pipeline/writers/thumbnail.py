"""Small pictures for people: a robust contrast, gray or diverging colours, a tint for no data.

Unlike a preview a thumbnail does not keep values: its contrast leaves out the last percent, so that
a few extreme pixels do not hide all others, and one thumbnail cannot be compared with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.writers.boxes import Floats, Mask, resized
from pipeline.writers.png import Limits, finite
from pipeline.writers.slices import assembled, outside, parts_of

Pixels: TypeAlias = npt.NDArray[np.uint8]
S = TypeVar("S", bound=np.generic)

SIDE = 192
VOLUME = 404
"""The longer edge of the pictures of volumes: two thumbnails and the gap between them."""
TINT = (252, 224, 146)  # invalid pixels: neither gray nor on the diverging scale
# Blue, white, red at -1, -1/2, 0, 1/2, 1: ColorBrewer's RdBu without its ends, which are so dark
# that thin lines of both signs look black.
STOPS = np.array([(33, 102, 172), (146, 197, 222), (255, 255, 255), (244, 165, 130), (178, 24, 43)])
AT = np.linspace(-1, 1, len(STOPS))
RGB = ("red", "green", "blue")


def captioned(
    values: Floats,
    valid: Mask | None = None,
    limits: Limits | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[Pixels, str]:
    """Draw (H, W) as (h, w) or (h, w, 3) with h, w <= 192, or three slices of (D, H, W) <= 404.

    Also says what the colours span from end to end: `-1.25 .. 1.25`. Where `limits` (default:
    `contrast`) hold both signs, negative is blue, 0 white, positive red; otherwise lo is black, hi
    white. Invalid pixels get a tint. Small images are enlarged by whole factors; each pixel of a
    large one is the mean of the valid pixels it covers. spacing: of a volume's voxels.
    """
    small, usable, blank = _small(values, valid, spacing)
    lo, hi = limits or contrast(small, usable)
    if lo < 0 < hi:
        lo, hi = -max(-lo, hi), max(-lo, hi)
    pixels = diverging(small, hi) if lo < 0 < hi else _gray(small, lo, hi)
    caption = f"{lo:.4g} .. {hi:.4g}" if usable.any() else "no valid pixel"
    return _finished(pixels, usable, blank), caption


def photograph(
    bands: Mapping[str, Floats],
    valid: Mapping[str, Mask] | None = None,
    limits: Limits | None = None,
    spacing: Sequence[float] | None = None,
) -> Pixels:
    """Draw an input image: in colour (h, w, 3) if it has red, green and blue, else its first band.

    `limits` is what black and white mean in every band, e.g. (0, 255) for 8-bit photographs;
    default: percentiles 1 and 99 of what is drawn, of the three bands together for colour.
    spacing: of a volume's voxels.
    """
    names = pictured(bands)
    small = [_small(bands[name], valid[name] if valid else None, spacing) for name in names]
    values = np.stack([plane for plane, *_ in small], axis=-1)
    usable = np.logical_and.reduce([seen for _, seen, _ in small])
    lo, hi = limits or _percentiles(values[usable])
    pixels = _gray(values, lo, hi)
    return _finished(pixels if len(names) == 3 else pixels[..., 0], usable, small[0][2])


def contrast(values: Floats, usable: Mask) -> Limits:
    """What a thumbnail spans: percentiles 1 and 99; for both signs -m and m, m that of |v|.

    A response counts as one of both signs where the smaller side reaches 1 % of the larger, so that
    rounding below 0 does not turn a smoothed image red.
    """
    seen = values[usable]
    lo, hi = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 0.0)
    if min(-lo, hi) > 0.01 * max(-lo, hi):
        reach = float(np.percentile(np.abs(seen), 99)) or max(-lo, hi)
        return -reach, reach
    low, high = _percentiles(seen)
    # a percentile may still lie beyond 0 by a rounding: then the sign that counts begins at 0
    return (max(low, 0.0), high) if hi > -lo else (low, min(high, 0.0))


def pictured(bands: Iterable[str]) -> tuple[str, ...]:
    """Names of the bands that a photograph shows."""
    labels = tuple(bands)
    return RGB if set(RGB) <= set(labels) else labels[:1]


def _percentiles(seen: Floats) -> Limits:
    """Percentiles 1 and 99; the extremes where those are one value; (0, 0) of nothing."""
    if not seen.size:
        return 0.0, 0.0
    lo, low, high, hi = (float(v) for v in np.percentile(seen, (0, 1, 99, 100)))
    return (low, high) if low < high else (lo, hi)


def diverging(values: Floats, reach: float) -> Pixels:
    """Colours (h, w, 3) of values: blue at -reach and below, white at 0, red at reach and above."""
    at = values / reach if reach > 0 else np.zeros_like(values)
    colours: Pixels = np.empty((*values.shape, 3), dtype=np.uint8)
    for channel in range(3):
        colours[..., channel] = np.rint(np.interp(at, AT, STOPS[:, channel]))
    return colours


def enlarge(values: npt.NDArray[S], side: int) -> npt.NDArray[S]:
    """Repeat every pixel as often as fits into side x side."""
    times = max(1, side // max(values.shape[:2]))
    return values.repeat(times, axis=0).repeat(times, axis=1)


def shrink(values: Floats, usable: Mask, side: int) -> tuple[npt.NDArray[np.float64], Mask]:
    """Means over usable pixels, so that the longer side is `side`; smaller images stay."""
    ratio = min(1, side / max(values.shape))
    height, width = (max(1, round(length * ratio)) for length in values.shape)
    small, seen = resized(values, usable, (height, width))
    return small.astype(np.float64, copy=False), seen


def _small(
    values: Floats, valid: Mask | None, spacing: Sequence[float] | None
) -> tuple[npt.NDArray[np.float64], Mask, Mask | None]:
    """What is drawn of an image, where it is usable, and where a volume's picture is blank."""
    usable = finite(values, valid)
    if values.ndim == 2:
        return *shrink(values, usable, SIDE), None
    parts = parts_of(values.shape, spacing, VOLUME)
    picture, seen = assembled(values, usable, parts)
    return picture.astype(np.float64, copy=False), seen, outside(parts)


def _finished(pixels: Pixels, usable: Mask, blank: Mask | None) -> Pixels:
    """The picture at its size, with invalid pixels marked and the blank ones white."""
    if blank is None:
        return enlarge(_tinted(pixels, usable), SIDE)
    drawn = _tinted(pixels, usable | blank).copy()
    drawn[blank] = 255
    return enlarge(drawn, VOLUME)


def _gray(values: Floats, lo: float, hi: float) -> Pixels:
    if not hi > lo:
        return np.full(values.shape, 128, dtype=np.uint8)
    shades = np.subtract(values, lo, dtype=np.float64)
    shades /= hi - lo
    np.clip(shades, 0, 1, out=shades)
    shades *= 255
    rounded: Pixels = np.rint(shades, out=shades).astype(np.uint8)
    return rounded


def _tinted(pixels: Pixels, usable: Mask) -> Pixels:
    """Pixels with the invalid ones marked, in colour (h, w, 3) where there are any."""
    if usable.all():
        return pixels
    coloured = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, axis=-1)
    return np.where(usable[..., None], coloured, np.array(TINT, dtype=np.uint8))

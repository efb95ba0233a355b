"""Small pictures for people: a robust contrast, gray or diverging colours, a tint for no data.

Unlike a preview a thumbnail does not keep values: its contrast leaves out the last percent, so that
a few extreme pixels do not hide all others, and one thumbnail cannot be compared with another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.writers.png import Floats, Limits, Mask, finite, middle

Pixels: TypeAlias = npt.NDArray[np.uint8]
S = TypeVar("S", bound=np.generic)

SIDE = 192
LEAST = 1e-6  # the share of valid pixels below which a thumbnail's pixel is invalid
TINT = (252, 224, 146)  # invalid pixels: neither gray nor on the diverging scale
# Blue, white, red at -1, -1/2, 0, 1/2, 1: ColorBrewer's RdBu without its ends, which are so dark
# that thin lines of both signs look black.
STOPS = np.array([(33, 102, 172), (146, 197, 222), (255, 255, 255), (244, 165, 130), (178, 24, 43)])
AT = np.linspace(-1, 1, len(STOPS))
RGB = ("red", "green", "blue")


def captioned(
    values: Floats, valid: Mask | None = None, limits: Limits | None = None
) -> tuple[Pixels, str]:
    """Draw (H, W), or the middle slice of (D, H, W), as (h, w) or (h, w, 3) with h, w <= 192.

    Also says what the colours span from end to end: `-1.25 .. 1.25`. Where `limits` (default:
    `contrast`) hold both signs, negative is blue, 0 white, positive red; otherwise lo is black, hi
    white. Invalid pixels get a tint. Small images are enlarged by whole factors; each pixel of a
    large one is the mean of the valid pixels it covers.
    """
    small, usable = _small(values, valid)
    lo, hi = limits or contrast(small, usable)
    if lo < 0 < hi:
        lo, hi = -max(-lo, hi), max(-lo, hi)
    pixels = diverging(small, hi) if lo < 0 < hi else _gray(small, lo, hi)
    caption = f"{lo:.4g} .. {hi:.4g}" if usable.any() else "no valid pixel"
    return enlarge(_tinted(pixels, usable), SIDE), caption


def photograph(
    bands: Mapping[str, Floats],
    valid: Mapping[str, Mask] | None = None,
    limits: Limits | None = None,
) -> Pixels:
    """Draw an input image: in colour (h, w, 3) if it has red, green and blue, else its first band.

    `limits` is what black and white mean in every band, e.g. (0, 255) for 8-bit photographs;
    default: percentiles 1 and 99 of what is drawn, of the three bands together for colour.
    """
    names = pictured(bands)
    small = [_small(bands[name], valid[name] if valid else None) for name in names]
    values = np.stack([plane for plane, _ in small], axis=-1)
    usable = np.logical_and.reduce([seen for _, seen in small])
    lo, hi = limits or _percentiles(values[usable])
    pixels = _gray(values, lo, hi)
    return enlarge(_tinted(pixels if len(names) == 3 else pixels[..., 0], usable), SIDE)


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
    from PIL import Image

    whole = bool(usable.all())
    filled = values if whole else np.where(usable, values, 0)
    if max(values.shape) <= side:
        return filled.astype(np.float64), usable
    ratio = side / max(values.shape)
    height, width = (max(1, round(length * ratio)) for length in values.shape)

    def mean(pixels: Floats | Mask) -> npt.NDArray[np.float64]:
        image = Image.fromarray(pixels.astype(np.float32, copy=False))
        return np.asarray(image.resize((width, height), Image.Resampling.BOX), dtype=np.float64)

    if whole:
        return mean(filled), np.ones((height, width), dtype=bool)
    weight = mean(usable)
    return mean(filled) / np.maximum(weight, LEAST), weight > LEAST


def _small(values: Floats, valid: Mask | None) -> tuple[npt.NDArray[np.float64], Mask]:
    usable = finite(values, valid)
    return shrink(middle(values), middle(usable), SIDE)


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

"""Pixels of a picture as means over the boxes of an image that they cover."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32 | np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

LEAST = 1e-6  # the share of usable pixels below which a picture's pixel is invalid


def resized(values: Floats, usable: Mask, shape: tuple[int, int]) -> tuple[Floats, Mask]:
    """Draw an (H, W) image as (h, w) pixels: means of the usable ones that each covers.

    Along an axis that grows, each is the one below its middle: floor((i + 1/2) * H / h).
    """
    from PIL import Image

    whole = bool(usable.all())
    filled = values if whole else np.where(usable, values, 0)
    if values.shape == shape:
        return filled, usable

    def mean(pixels: Floats | Mask) -> npt.NDArray[np.float64]:
        image = Image.fromarray(pixels.astype(np.float32, copy=False))
        return np.asarray(image.resize(shape[::-1], Image.Resampling.BOX), dtype=np.float64)

    if whole:
        return mean(filled), np.ones(shape, dtype=bool)
    weight = mean(usable)
    return mean(filled) / np.maximum(weight, LEAST), weight > LEAST

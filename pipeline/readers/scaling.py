"""Stored samples -> values, where a table says how."""

from __future__ import annotations

import numpy as np

from pipeline.readers.base import Mask, Pixels
from pipeline.types import Scaling


def scaled(pixels: Pixels, valid: Mask | None, scaling: Scaling) -> tuple[Pixels, Mask | None]:
    """stored * scale + offset in float64; nodata is compared with what is stored.

    Examples
    --------
    >>> values, valid = scaled(np.array([0, 7], np.uint16), None, Scaling(0.5, -1, nodata=0))
    >>> values.tolist(), valid.tolist()
    ([-1.0, 2.5], [False, True])
    """
    if scaling.nodata is not None and (hit := pixels == scaling.nodata).any():
        valid = ~hit if valid is None else valid & ~hit
    values = pixels.astype(np.float64) * scaling.scale + scaling.offset
    return values, valid

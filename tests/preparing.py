"""Apply a prepare step to pixels that no file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline.steps import Prepared, Step
from pipeline.types import Grid, ImageInfo, Region, Roi


def images(
    values: torch.Tensor,
    valid: torch.Tensor | None = None,
    info: ImageInfo | None = None,
    regions: Sequence[Sequence[Roi]] | None = None,
) -> Prepared:
    """Whole images: (N, C, *spatial), all of one header, of 1 mm where none is given."""
    count, bands, *extents = values.shape
    shape = tuple(extents)
    if info is None:
        labels = tuple(str(band + 1) for band in range(bands))
        info = ImageInfo(shape, labels, "float64", Grid((1.0,) * len(shape), "mm"))
    rois = [()] * count if regions is None else regions
    infos = (replace(info, shape=shape),) * count
    return Prepared(values, valid, Region.whole(shape), infos, tuple(map(tuple, rois)))


def apply(
    step: Step,
    values: torch.Tensor,
    valid: torch.Tensor | None = None,
    info: ImageInfo | None = None,
) -> torch.Tensor:
    """What a step makes of pixels."""
    return step.apply(images(values, valid, info)).values

"""Zscore: mean 0 and standard deviation 1, of an image or of what is measured in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.steps.base import STEPS, Prepared
from pipeline.types import ImageInfo, Region, Roi

if TYPE_CHECKING:
    from torch import Tensor


@STEPS.register("zscore")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Zscore:
    """Normalise each band of each image: x -> (x - mean) / std, std the population's.

    - `within: image` takes mean and std of all valid pixels.
    - `within: mask` takes them of the valid pixels in the image's regions of interest, all of them
      together, as the steps before have left them; `regions` must have `mask`. An image without any
      (`missing: image`) is taken as a whole.

    All pixels are mapped, also those outside. Where there is nothing to take mean and std of, or
    all of it has one value, there is no z-score: the band is missing.

    Examples
    --------
    >>> Zscore(within="mask")
    Zscore(within='mask')
    """

    within: Annotated[
        Literal["mask", "image"], Field(description="the pixels whose mean and std count")
    ]

    @property
    def whole_image(self) -> bool:
        """True: mean and std depend on every pixel."""
        return True

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image, in no unit of the file."""
        return replace(info, value_unit=None)

    def apply(self, images: Prepared) -> Prepared:
        """Map all pixels of each band."""
        import torch

        planes = tuple(images.values.shape[:2])
        scales = np.ones((2, *planes))
        for n, rois in enumerate(images.regions):
            among = self._among(rois, images.box)
            for c in range(planes[1]):
                valid = None if images.valid is None else images.valid[n, c]
                scales[:, n, c] = _scale(images.values[n, c], valid, among)
        flat = (*planes, *(1,) * (images.values.ndim - 2))
        mean, std = (torch.from_numpy(x).to(images.values).reshape(flat) for x in scales)
        known = std > 0.0
        values = (images.values - mean) / torch.where(known, std, 1.0)
        valid = images.valid
        if not known.all():
            valid = known.expand_as(values) if valid is None else valid & known
        infos = tuple(map(self.info, images.infos))
        return replace(images, values=values, valid=valid, infos=infos)

    def _among(self, rois: tuple[Roi, ...], box: Region) -> npt.NDArray[np.bool_] | None:
        """The pixels that count, of box.shape; None for all."""
        masks = [roi for roi in rois if roi.kind == "roi"]
        if self.within == "image" or not masks:
            return None
        among = np.zeros(box.shape, np.bool_)
        for roi in masks:
            among[roi.box.slices(box.start)] |= True if roi.mask is None else roi.mask
        return among


def _scale(
    values: Tensor, valid: Tensor | None, among: npt.NDArray[np.bool_] | None
) -> tuple[float, float]:
    """Mean and standard deviation of a plane; 0 and 0 of nothing, or of one value."""
    x = values.cpu().numpy()
    counted = [among, None if valid is None else valid.cpu().numpy()]
    masks = [mask for mask in counted if mask is not None]
    # numpy adds up a copy in one dimension the same way wherever the plane lay
    chosen = x[np.logical_and.reduce(masks)] if masks else x.flatten()
    if not chosen.size or chosen.min() == chosen.max():
        return 0.0, 0.0
    return float(chosen.mean()), float(chosen.std())

"""Resegment: leave pixels out of the regions of interest by their value."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.steps.base import STEPS, Prepared
from pipeline.types import ImageInfo, Region, Roi

if TYPE_CHECKING:
    from torch import Tensor

Bounds: TypeAlias = tuple[float | None, float | None]


def _rising(bounds: Bounds) -> Bounds:
    low, high = bounds
    if low is not None and high is not None and low > high:
        message = f"the first number must not exceed the second (got {list(bounds)}); swap them"
        raise ValueError(message)
    return bounds


@STEPS.register("resegment")
@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Resegment:
    """Measure only what lies in an interval of values; the filters still see every pixel.

    It takes pixels out of every region, also out of `image` where the whole image is measured, by
    the values as they are at this step: stand it before a step that changes them. A pixel of
    several bands stays where it stays in all of them. Missing pixels remain what they are.

    - `range: [-1000, 400]` keeps both ends; null leaves an end open: `[-500, null]`.
    - `sigma: 3` keeps mean - 3 std .. mean + 3 std of each region and band, std the population's.
      Needs the whole image.
    - Of both, the intersection is kept; mean and std are those before either.

    References
    ----------
    IBSI reference manual, section 2.5 (re-segmentation: range USB3, outliers 7ACA).

    Examples
    --------
    >>> Resegment(range=(-1000, 400))
    Resegment(range=(-1000.0, 400.0), sigma=None)
    """

    range: Annotated[
        Annotated[Bounds, AfterValidator(_rising)] | None,
        Field(description="least and greatest value that is measured; null: any"),
    ] = None
    sigma: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Field(description="standard deviations about a region's mean that are measured"),
    ] = None

    @model_validator(mode="after")
    def _restricting(self) -> Resegment:
        if self.range in (None, (None, None)) and self.sigma is None:
            message = "restricts nothing; write range: [-1000, 400], or sigma: 3"
            raise ValueError(message)
        return self

    @property
    def whole_image(self) -> bool:
        """True with `sigma`: the mean of a region depends on all of it."""
        return self.sigma is not None

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image."""
        return info

    def apply(self, images: Prepared) -> Prepared:
        """Restrict the regions of each image."""
        regions = []
        for n, rois in enumerate(images.regions):
            valid = None if images.valid is None else images.valid[n]
            parts = (self._restricted(roi, images.values[n], valid, images.box) for roi in rois)
            regions.append(tuple(parts))
        return replace(images, regions=tuple(regions))

    def _restricted(self, roi: Roi, values: Tensor, valid: Tensor | None, box: Region) -> Roi:
        """A region of an image (C, *box.shape) without the pixels outside the interval."""
        cut = (slice(None), *roi.box.slices(box.start))
        x = values[cut].cpu().numpy()
        seen = np.ones(x.shape, np.bool_) if valid is None else valid[cut].cpu().numpy()
        mask = np.ones(roi.box.shape, np.bool_) if roi.mask is None else roi.mask
        kept = mask.copy()
        for band, known in zip(x, seen, strict=True):
            low, high = self._interval(band[mask & known])
            kept &= ~known | ((band >= low) & (band <= high))
        return replace(roi, mask=None if kept.all() else kept)

    def _interval(self, values: npt.NDArray[np.float64]) -> tuple[float, float]:
        """What is kept of a region's valid values."""
        low, high = self.range or (None, None)
        ends = [-inf if low is None else low, inf if high is None else high]
        if self.sigma is not None and values.size:
            mean, reach = float(values.mean()), self.sigma * float(values.std())
            ends = [max(ends[0], mean - reach), min(ends[1], mean + reach)]
        return ends[0], ends[1]

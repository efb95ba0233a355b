"""Rescale: one linear map of the stored values, the same for every pixel of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.steps.base import STEPS, Prepared
from pipeline.types import ImageInfo

if TYPE_CHECKING:
    from torch import Tensor

Pair: TypeAlias = tuple[float, float]


def _rising(pair: Pair) -> Pair:
    if not pair[0] < pair[1]:
        message = f"the first number must be below the second (got {list(pair)}); swap them"
        raise ValueError(message)
    return pair


def _distinct(pair: Pair) -> Pair:
    if pair[0] == pair[1]:
        message = f"the two numbers must differ (got {list(pair)}); write [0, 1]"
        raise ValueError(message)
    return pair


@STEPS.register("rescale")
@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Rescale:
    """Map a range of values linearly onto another: x -> (x - low) / (high - low) * (b - a) + a.

    Nothing is clipped: what lies outside `from` comes out beyond `to`.

    - `from: dtype` is the whole range of the stored integers: 0 .. 255 of uint8, -32768 .. 32767
      of int16, 0 .. 1 of one bit. Images of floating-point numbers fail: they have no such range.
    - `from: image` is the least and the greatest valid value of the image, all its bands
      together. An image of one value becomes the first number of `to`. Needs the whole image.
    - `from: [low, high]` is the same for every image, so that images stay comparable.

    Examples
    --------
    >>> Rescale(**{"from": [0, 1000]})
    Rescale(from_=(0.0, 1000.0), to=(0.0, 1.0))
    """

    from_: Annotated[
        Literal["dtype", "image"] | Annotated[Pair, AfterValidator(_rising)],
        Field(alias="from", description="dtype, image, or [low, high]: what is mapped onto `to`"),
    ]
    to: Annotated[
        Pair,
        AfterValidator(_distinct),
        Field(description="where the two ends of `from` go; [1, 0] inverts"),
    ] = (0.0, 1.0)

    @property
    def whole_image(self) -> bool:
        """True for `from: image`: its range depends on every pixel."""
        return self.from_ == "image"

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image, in no unit of the file.

        Raises
        ------
        PlanError
            For `from: dtype` and an image that does not hold integers.
        """
        if self.from_ == "dtype":
            _limits(info.dtype)
        return replace(info, value_unit=None)

    def apply(self, images: Prepared) -> Prepared:
        """Map all pixels; the invalid ones too, which are never measured."""
        low, span = self._range(images)
        first, last = self.to
        # one exactly rounded operation at a time: alone or in a batch, the bits are the same
        values = (images.values - low) / span * (last - first) + first
        return replace(images, values=values, infos=tuple(map(self.info, images.infos)))

    def _range(self, images: Prepared) -> tuple[Tensor | float, Tensor]:
        """Where the range starts, and how wide it is."""
        if self.from_ == "image":
            return _range_of_images(images.values, images.valid)
        low, high = _limits(images.infos[0].dtype) if self.from_ == "dtype" else self.from_
        # a tensor: CUDA multiplies by the reciprocal of a plain number, which rounds twice
        return low, images.values.new_tensor(high - low)


def _limits(name: str) -> tuple[float, float]:
    """Least and greatest number an integer type holds."""
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return 0.0, 1.0
    if dtype.kind not in "iu":
        message = (
            f"rescale from: dtype needs integer pixels (got {name}); "
            "write from: image, or from: [low, high]"
        )
        raise PlanError(message)
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _range_of_images(values: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Least valid value and width of the range, (N, 1, ...); width 1 for an image of one value."""
    import torch

    low, high = values, values
    if valid is not None:
        low, high = (torch.where(valid, values, end) for end in (float("inf"), -float("inf")))
    axes = tuple(range(1, values.ndim))
    low, high = low.amin(axes, keepdim=True), high.amax(axes, keepdim=True)
    # without a valid pixel any finite range will do
    return torch.where(low <= high, low, 0.0), torch.where(low < high, high - low, 1.0)

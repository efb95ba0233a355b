"""What a prepare step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.registry import Registry
from pipeline.types import ImageInfo, Region, Roi

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Prepared:
    """Images on their way to the bank. Is replaced, never mutated.

    values: (N, C, *box.shape) float64, the pixels of `box`; valid: bool of the same shape, or None
    where every pixel is valid. infos: what is known of each image after the steps so far; their
    shapes and grids are equal, bands and dtype are those of the file. regions: of each image, where
    its responses will be measured.
    """

    values: Tensor
    valid: Tensor | None
    box: Region
    infos: tuple[ImageInfo, ...]
    regions: tuple[tuple[Roi, ...], ...]


class Step(Protocol):
    """A frozen pydantic dataclass that changes images before filtering.

    It keeps the number of images and bands. An image's bits do not depend on the others.
    """

    @property
    def whole_image(self) -> bool:
        """Whether it must see all of an image at once; such steps are refused on tiles."""
        ...

    def info(self, info: ImageInfo) -> ImageInfo:
        """What is known of an image after the step.

        Raises PlanError, which is a failed row, where the image cannot take the step.
        """
        ...

    def apply(self, images: Prepared) -> Prepared:
        """Do it. Invalid pixels have no say in what becomes of the valid ones."""
        ...


STEPS: Registry[Step] = Registry("step")

"""Round: whole numbers, as a scanner stores them."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from pipeline.steps.base import STEPS, Prepared
from pipeline.types import ImageInfo


@STEPS.register("round")
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Round:
    """Round every value to the nearest integer; a half goes to the even one of its two.

    What follows `resample` where the stored values are whole numbers, as those of CT are.

    References
    ----------
    IBSI reference manual, section 2.4 (rounding after interpolation, 68QD).

    Examples
    --------
    >>> Round()
    Round()
    """

    @property
    def whole_image(self) -> bool:
        """False: each pixel is rounded by itself."""
        return False

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image."""
        return info

    def apply(self, images: Prepared) -> Prepared:
        """Round all pixels."""
        return replace(images, values=images.values.round())

"""What a prepare step is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipeline.registry import Registry
from pipeline.types import ImageInfo

if TYPE_CHECKING:
    from torch import Tensor


class Step(Protocol):
    """A frozen pydantic dataclass that changes pixel values before filtering."""

    @property
    def whole_image(self) -> bool:
        """Whether it must see all of an image at once; such steps are refused on tiles."""
        ...

    def apply(self, values: Tensor, valid: Tensor | None, info: ImageInfo) -> Tensor:
        """(N, C, *spatial) float64 in, the same shape out. info.dtype is the stored type."""
        ...


STEPS: Registry[Step] = Registry("step")

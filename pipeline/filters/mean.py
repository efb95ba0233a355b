"""The mean over a box."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses, separable
from pipeline.bank.kernels import bounded
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid


@FILTERS.register("mean")
@dataclass(frozen=True, config=PARAMETERS)
class Mean:
    """The mean over a square or cubic box, 1 / size^d on each of its size^d pixels.

    IBSI 2 section 3.1 (S60F), where the size is odd; equal to scipy.ndimage.uniform_filter and
    OpenCV's blur, also for even sizes, whose box reaches one pixel further before its pixel than
    after it. In physical units each axis takes the whole number of pixels nearest to
    size / spacing (halves up), at least 1.

    References
    ----------
    A. Depeursinge et al., "Standardised convolutional filtering for radiomics",
    arXiv:2006.05470, section 3.1.

    Examples
    --------
    >>> Mean(size=2).responses(Grid((1.0,)))[""].kernel.array
    array([0.5, 0.5])
    """

    topic: ClassVar[Topic] = "smoothing"
    examples: ClassVar[Examples] = ({"size": 5},)

    size: Annotated[int, Field(ge=1, description="edge of the box; a length")]

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank, with the image's unit."""
        sizes = bounded(tuple(max(1, int(self.size / step + 0.5)) for step in grid.spacing))
        return {"": separable([np.full(n, 1 / n) for n in sizes])}

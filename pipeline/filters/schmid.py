"""Schmid's rotation-invariant filter bank."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.vgg import normalised, offsets, pixels
from pipeline.types import Grid

PAIRS = (
    *((2, 1), (4, 1), (4, 2), (6, 1), (6, 2), (6, 3), (8, 1), (8, 2), (8, 3)),
    *((10, 1), (10, 2), (10, 3), (10, 4)),
)
"""Sigma in pixels, and tau: half periods of the wave within sigma."""


@FILTERS.register("schmid")
@dataclass(frozen=True, config=PARAMETERS)
class Schmid:
    """13 kernels of rings: a cosine of the distance to the centre under a Gaussian, any rank.

    F(r) = cos(pi tau r / sigma) exp(-r^2 / 2 sigma^2)

    for (sigma, tau) = (2,1), (4,1), (4,2), (6,1), (6,2), (6,3), (8,1), (8,2), (8,3), (10,1),
    (10,2), (10,3), (10,4), on 49 taps per axis, less its mean and divided by the sum of its
    absolute values. They are Schmid's as the Visual Geometry Group's makeSfilters has them; the
    extension to volumes is ours. Responses are named [sigma,tau].

    References
    ----------
    C. Schmid, "Constructing models for content-based image retrieval", CVPR 2001.

    Examples
    --------
    >>> list(Schmid().responses(Grid((1.0, 1.0))))[:3]
    ['[2,1]', '[4,1]', '[4,2]']
    """

    topic: ClassVar[Topic] = "whole banks for texture"
    examples: ClassVar[Examples] = ({"scale": 0.4},)

    scale: Annotated[
        float, Field(gt=0, description="what one pixel of the 49 x 49 kernels is; a length")
    ] = 1.0

    def responses(self, grid: Grid) -> Responses:
        """13 responses; PlanError where the scale is below 0.1 pixel."""
        r = np.sqrt(sum(t**2 for t in offsets(*pixels("schmid", self.scale, grid))))
        return {
            f"[{sigma},{tau}]": normalised(
                np.cos(np.pi * tau / sigma * r) * np.exp(-((r / sigma) ** 2) / 2)
            )
            for sigma, tau in PAIRS
        }

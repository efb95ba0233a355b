"""The Leung-Malik filter bank."""

from __future__ import annotations

from math import sqrt
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.turned import turned
from pipeline.filters.vgg import ORIENTATIONS, spot, square_pixel, stripe
from pipeline.types import Grid


@FILTERS.register("leung_malik")
@dataclass(frozen=True, config=PARAMETERS)
class LeungMalik:
    """48 kernels of texture analysis: edges, bars, Gaussians and their Laplacians, 2-D.

    Edges and bars are the first and the second derivative across a Gaussian of sigma across and
    3 sigma along the stripe, at three sigmas and six angles (18 each); Gaussians have one sigma
    more (4); Laplacians those and three times those (8). The sigmas are sqrt(2), 2, 2 sqrt(2), 4
    (large, LML) or 1, sqrt(2), 2, 2 sqrt(2) (small, LMS). Each kernel has 49 x 49 taps, loses its
    mean, the Gaussians' too, and is divided by the sum of its absolute values; margins that hold
    less than 1e-9 of that sum are cut off. Convolves.

    They are Leung and Malik's as the Visual Geometry Group's makeLMfilters has them (their web page
    describes LMS). At 0 degrees a stripe runs along +x and an edge is positive where the image
    grows upwards; it turns clockwise on the screen. Responses are named [edge,sigma,degrees],
    [bar,sigma,degrees], [gaussian,sigma] and [log,sigma].

    References
    ----------
    T. Leung, J. Malik, "Representing and recognizing the visual appearance of materials using
    three-dimensional textons", International Journal of Computer Vision 43, 2001.

    Examples
    --------
    >>> list(LeungMalik().responses(Grid((1.0, 1.0))))[::15]
    ['[edge,1.41,0]', '[edge,2.83,90]', '[bar,2.83,0]', '[gaussian,4]']
    """

    topic: ClassVar[Topic] = "whole banks for texture"
    examples: ClassVar[Examples] = ({"scale": 0.4},)

    variant: Annotated[Literal["large", "small"], Field(description="sigmas: LML's or LMS's")] = (
        "large"
    )
    scale: Annotated[
        float, Field(gt=0, description="what one pixel of the 49 x 49 kernels is; a length")
    ] = 1.0
    rotation_invariant: RotationInvariant = "none"

    def responses(self, grid: Grid) -> Responses:
        """48 responses; PlanError where the images are not 2-D with square pixels."""
        one = square_pixel("leung_malik", self.scale, grid)
        first = 1 if self.variant == "large" else 0
        sigmas = [sqrt(2) ** (first + k) for k in range(4)]
        found: dict[str, Node] = {}
        for order, name in enumerate(("edge", "bar"), start=1):
            for sigma in sigmas[:3]:
                for degrees in ORIENTATIONS:
                    key = f"[{name},{sigma:.3g},{degrees}]"
                    found[key] = stripe(sigma, degrees, order, one)
        for sigma in sigmas:
            found[f"[gaussian,{sigma:.3g}]"] = spot(sigma, one, laplacian=False)
            for wide in (sigma, 3 * sigma):
                found[f"[log,{wide:.3g}]"] = spot(wide, one, laplacian=True)
        return turned("leung_malik", found, self.rotation_invariant, grid)

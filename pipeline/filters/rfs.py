"""The Root Filter Set, and the maximum-response bank MR8 made of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Map, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, RotationInvariant, Topic
from pipeline.filters.turned import turned
from pipeline.filters.vgg import ORIENTATIONS, spot, square_pixel, stripe
from pipeline.types import Grid

SIGMAS = (1, 2, 4)
ROUND = 10
"""Pixels: across the stripes, and of the Gaussian and its Laplacian."""

Scale: TypeAlias = Annotated[
    float, Field(gt=0, description="what one pixel of the 49 x 49 kernels is; a length")
]


@FILTERS.register("rfs")
@dataclass(frozen=True, config=PARAMETERS)
class RootFilterSet:
    """38 kernels of texture analysis: edges, bars, a Gaussian and its Laplacian, 2-D.

    Edges and bars are the first and the second derivative across a Gaussian of sigma across and
    3 sigma along the stripe, for sigma = 1, 2 and 4 at six angles; the other two have sigma 10.
    Each kernel has 49 x 49 taps, loses its mean and is divided by the sum of its absolute values;
    margins that hold less than 1e-9 of that sum are cut off. Convolves.

    They are Varma and Zisserman's as the Visual Geometry Group's makeRFSfilters has them. At 0
    degrees a stripe runs along +x and an edge is positive where the image grows upwards; it turns
    clockwise on the screen. Responses are named [edge,sigma,degrees], [bar,sigma,degrees],
    [gaussian] and [log].

    References
    ----------
    M. Varma, A. Zisserman, "A statistical approach to texture classification from single
    images", International Journal of Computer Vision 62, 2005.

    Examples
    --------
    >>> list(RootFilterSet().responses(Grid((1.0, 1.0))))[::9]
    ['[edge,1,0]', '[edge,2,90]', '[bar,1,0]', '[bar,2,90]', '[gaussian]']
    """

    topic: ClassVar[Topic] = "whole banks for texture"
    examples: ClassVar[Examples] = ({"scale": 0.4},)

    scale: Scale = 1.0
    rotation_invariant: RotationInvariant = "none"

    def responses(self, grid: Grid) -> Responses:
        """38 responses; PlanError where the images are not 2-D with square pixels."""
        one = square_pixel("rfs", self.scale, grid)
        stripes: dict[str, Node] = {
            f"[{name},{sigma},{degrees}]": stripe(sigma, degrees, order, one)
            for order, name in enumerate(("edge", "bar"), start=1)
            for sigma in SIGMAS
            for degrees in ORIENTATIONS
        }
        return turned("rfs", stripes | _spots(one), self.rotation_invariant, grid)


@FILTERS.register("mr8")
@dataclass(frozen=True, config=PARAMETERS)
class MaximumResponse8:
    """The 8 responses of `rfs` that do not turn with the image: maxima over six angles, 2-D.

    Edges and bars at three sigmas, the Gaussian and its Laplacian. Varma and Zisserman take the
    largest absolute response; `signed` takes the largest response, which for an edge depends on
    which of its sides is bright. They first shift and scale each image to mean 0 and standard
    deviation 1 and last rescale the 8 responses of each pixel together (Weber's law); neither is
    done here. Responses are named [edge,sigma], [bar,sigma], [gaussian] and [log].

    References
    ----------
    M. Varma, A. Zisserman, "A statistical approach to texture classification from single
    images", International Journal of Computer Vision 62, 2005.

    Examples
    --------
    >>> list(MaximumResponse8().responses(Grid((1.0, 1.0))))[1:7:2]
    ['[edge,2]', '[bar,1]', '[bar,4]']
    """

    topic: ClassVar[Topic] = "whole banks for texture"
    examples: ClassVar[Examples] = ({"scale": 0.4},)

    sign: Annotated[
        Literal["abs", "signed"], Field(description="maximum of absolute or of signed responses")
    ] = "abs"
    scale: Scale = 1.0

    def responses(self, grid: Grid) -> Responses:
        """8 responses; PlanError where the images are not 2-D with square pixels."""
        one = square_pixel("mr8", self.scale, grid)
        found: dict[str, Node] = {}
        for order, name in enumerate(("edge", "bar"), start=1):
            for sigma in SIGMAS:
                turned = [stripe(sigma, degrees, order, one) for degrees in ORIENTATIONS]
                parts = [Map(part, "abs") if self.sign == "abs" else part for part in turned]
                found[f"[{name},{sigma}]"] = Join(tuple(parts), "max")
        return found | _spots(one)


def _spots(one: float) -> dict[str, Node]:
    return {
        "[gaussian]": spot(ROUND, one, laplacian=False),
        "[log]": spot(ROUND, one, laplacian=True),
    }

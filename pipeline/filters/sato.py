"""Sato's tubeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Map, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.second_order import Ridges, Sigmas, Truncate, vesselness
from pipeline.types import Grid


@FILTERS.register("sato")
@dataclass(frozen=True, config=PARAMETERS)
class Sato:
    """Tubeness of black or white ridges, the largest over all sigmas, 2-D and 3-D.

    sigma^2 max(l2, 0) in 2-D, sigma^2 sqrt(max(l2, 0) max(l3, 0)) in 3-D, with l1 <= l2 (<= l3) the
    eigenvalues of the Hessian (see `hessian`) for black ridges, of the negated one for white
    ridges; sigma in pixels. As in skimage.filters.sato the factor for l1 is left out. Equal to it,
    of floats, with truncate: 8 and sigmas > 1, away from the border (see `hessian`).

    References
    ----------
    Y. Sato et al., "Three-dimensional multi-scale line filter for segmentation and
    visualization of curvilinear structures in medical images", Medical Image Analysis 2, 1998,
    equations 9 and 22.

    Examples
    --------
    >>> node = Sato(sigmas=(2,), ridges="white").responses(Grid((1.0, 1.0)))[""]
    >>> node.fn, node.of.fn, node.of.of.fn
    ('rectify', 'negate', 'eigenvalue')
    """

    topic: ClassVar[Topic] = "vessels, ridges, shape"
    examples: ClassVar[Examples] = ({"sigmas": [1, 2, 3]},)
    not_swept: ClassVar[frozenset[str]] = frozenset({"sigmas"})

    sigmas: Sigmas = (1.0, 3.0, 5.0, 7.0, 9.0)
    ridges: Ridges = "black"
    truncate: Truncate = 4.0

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError unless the grid has two or three axes."""
        response = vesselness(
            _measure, self.sigmas, self.ridges, self.truncate, grid, scale_normalized=True
        )
        return {"": response}


def _measure(values: Sequence[Node]) -> Node:
    rising = tuple(Map(value, "rectify") for value in values[1:])
    return rising[0] if len(rising) == 1 else Map(Join(rising, "product"), "sqrt")

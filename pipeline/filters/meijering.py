"""Meijering's neuriteness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Map, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.second_order import Ridges, Sigmas, Truncate, vesselness
from pipeline.types import Grid


@FILTERS.register("meijering")
@dataclass(frozen=True, config=PARAMETERS)
class Meijering:
    """Neuriteness of black or white ridges, the largest over all sigmas, 2-D and 3-D.

    m_i = l_i + alpha sum_(j != i) l_j, with l the eigenvalues of the Hessian (see `hessian`),
    scale-normalised, for black ridges, of the negated one for white ridges. The response is the m_i
    of the largest magnitude where it is positive, and 0 elsewhere. The alpha of the source,
    -1 / (d + 1) for d axes, makes the filter as flat as possible along the ridge.

    Neither the paper's division by the largest value in the whole image is done, which no tile
    can know, nor skimage.filters.meijering's, which divides each sigma by its own. But for this
    it is equal, of floats, at one sigma with alpha: 1 / (d + 1) - skimage documents the paper's
    alpha and computes with its opposite - and truncate: 8, away from the border (see `hessian`).

    References
    ----------
    E. Meijering et al., "Design and validation of a tool for neurite tracing and analysis in
    fluorescence microscopy images", Cytometry A 58, 2004.

    Examples
    --------
    >>> node = Meijering(sigmas=(2, 3)).responses(Grid((1.0, 1.0)))[""]
    >>> node.fn, len(node.of)
    ('max', 2)
    """

    topic: ClassVar[Topic] = "vessels, ridges, shape"
    examples: ClassVar[Examples] = ({"sigmas": [1, 2, 3]},)
    not_swept: ClassVar[frozenset[str]] = frozenset({"sigmas"})

    sigmas: Sigmas = (1.0, 3.0, 5.0, 7.0, 9.0)
    alpha: Annotated[
        float | None, Field(gt=-1, lt=1, description="share of the others; none: -1 / (d + 1)")
    ] = None
    ridges: Ridges = "black"
    truncate: Truncate = 4.0

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError unless the grid has two or three axes."""
        response = vesselness(
            self._measure, self.sigmas, self.ridges, self.truncate, grid, scale_normalized=True
        )
        return {"": response}

    def _measure(self, values: Sequence[Node]) -> Node:
        """Shares below 1 keep the order: of largest magnitude is the first or the last."""
        alpha = -1 / (len(values) + 1) if self.alpha is None else self.alpha
        shared = Map(Join(tuple(values), "sum"), "multiply", alpha)
        first, last = (
            Join((Map(value, "multiply", 1 - alpha), shared), "sum")
            for value in (values[0], values[-1])
        )
        largest = Map(Join((first, last), "sum"), "at_least")
        return Join((largest, Map(last, "rectify")), "product")

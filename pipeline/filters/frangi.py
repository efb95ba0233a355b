"""Frangi's vesselness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Join, Map, Node, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.filters.second_order import Ridges, Sigmas, Truncate, minus, vesselness
from pipeline.types import Grid


@FILTERS.register("frangi")
@dataclass(frozen=True, config=PARAMETERS)
class Frangi:
    """Vesselness of black or white ridges, the largest over all sigmas, 2-D and 3-D.

    With |l1| <= |l2| (<= |l3|) the eigenvalues of the Hessian (see `hessian`), scale-normalised, of
    black ridges, and negated ones for white ridges:

        V = (1 - exp(-R_A^2 / 2 alpha^2)) exp(-R_B^2 / 2 beta^2) (1 - exp(-S^2 / 2 gamma^2))

    S^2 = sum l_i^2; 3-D: R_A = l2 / l3, R_B = |l1| / sqrt(l2 l3); 2-D: no first factor,
    R_B = |l1| / l2. V is 0 unless l2 (and l3) are positive.

    `gamma` is in units of the prepared image and has no default: scikit-image's and Frangi's is
    half of the largest S in the whole image, which no tile can know. Read it from your images:
    half the maximum of `hessian: {sigma: ..., output: norm, scale_normalized: true}`.

    Equal to skimage.filters.frangi, of floats, at one sigma with gamma / sigma^2 for its gamma
    (it does not normalise scales: that favours the small ones; `scale_normalized: false` is the
    same at several) and truncate: 8, away from the border (see `hessian`). skimage finds the
    default of its gamma at the first sigma only, and clips l2 and l3 at 1e-10 instead of testing
    them, so that it may answer faintly where they are negative.

    References
    ----------
    A. Frangi, W. Niessen, K. Vincken, M. Viergever, "Multiscale vessel enhancement filtering",
    MICCAI 1998, equations 13 and 15.

    Examples
    --------
    >>> node = Frangi(sigmas=(1, 2), gamma=15).responses(Grid((1.0, 1.0)))[""]
    >>> node.fn, len(node.of)
    ('max', 2)
    """

    topic: ClassVar[Topic] = "vessels, ridges, shape"
    examples: ClassVar[Examples] = ({"gamma": 15, "sigmas": [1, 2, 3]},)
    not_swept: ClassVar[frozenset[str]] = frozenset({"sigmas"})

    gamma: Annotated[float, Field(gt=0, description="Hessian norm at which structure counts")]
    sigmas: Sigmas = (1.0, 3.0, 5.0, 7.0, 9.0)
    alpha: Annotated[float, Field(gt=0, description="tolerance of plates; 3-D")] = 0.5
    beta: Annotated[float, Field(gt=0, description="tolerance of blobs")] = 0.5
    ridges: Ridges = "black"
    scale_normalized: Annotated[
        bool, Field(description="multiply the Hessian by sigma^2 (pixels), to compare scales")
    ] = True
    truncate: Truncate = 4.0

    def responses(self, grid: Grid) -> Responses:
        """One response; PlanError unless the grid has two or three axes."""
        response = vesselness(
            self._measure,
            self.sigmas,
            self.ridges,
            self.truncate,
            grid,
            scale_normalized=self.scale_normalized,
        )
        return {"": response}

    def _measure(self, values: Sequence[Node]) -> Node:
        """Ascend by value: where this is not 0, that is by magnitude too."""
        first, second = values[:2]
        ridge = Map(minus(second, Map(first, "abs")), "at_least")
        rising = [Map(value, "rectify") for value in values[1:]]
        blobs = [Join((first, one), "ratio") for one in (rising[0], rising[-1])]
        factors = [
            ridge,
            Map(_falling(Join(tuple(blobs), "product"), self.beta), "exp"),
            _saturating(Map(Join(tuple(values), "norm"), "square"), self.gamma),
        ]
        if len(values) == 3:
            plates = Join((second, rising[-1]), "ratio")
            factors.append(_saturating(Map(plates, "square"), self.alpha))
        return Join(tuple(factors), "product")


def _falling(square: Node, width: float) -> Node:
    """-x^2 / 2 w^2."""
    return Map(square, "multiply", -0.5 / width**2)


def _saturating(square: Node, width: float) -> Node:
    """1 - exp(-x^2 / 2 w^2)."""
    return Map(Map(_falling(square, width), "expm1"), "negate")

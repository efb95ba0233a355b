"""The mean over a disk or a ball."""

from __future__ import annotations

from itertools import pairwise
from math import ceil, floor, sqrt
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Array, Conv, Input, Kernel, Responses
from pipeline.bank.kernels import HUGE, bounded
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid

NODES = 16
"""Planes per voxel (Gauss-Legendre) in which a ball's coverage is exact."""

TOUCH = 1e-9
"""How far beyond a pixel's centre or border the rim must be to count, against rounding."""


@FILTERS.register("disk")
@dataclass(frozen=True, config=PARAMETERS)
class Disk:
    """The mean over a disk (2-D) or a ball (3-D) around each pixel.

    `antialiased`: a pixel counts by the part of its area that the disk covers, exact in 2-D, to
    1e-3 of a voxel in 3-D; MATLAB's fspecial('disk'). `hard`: a pixel counts where its centre is
    within the radius, |k| <= radius; skimage.morphology's disk and ball. Either is divided by its
    sum. In physical units the disk is round in those, so an ellipse on pixels that are not square.

    References
    ----------
    MathWorks, "Image Processing Toolbox: fspecial"; S. van der Walt et al., "scikit-image:
    image processing in Python", PeerJ 2, 2014.

    Examples
    --------
    >>> Disk(radius=1, edge="hard").responses(Grid((1.0, 1.0)))[""].kernel.array
    array([[0. , 0.2, 0. ],
           [0.2, 0.2, 0.2],
           [0. , 0.2, 0. ]])
    """

    topic: ClassVar[Topic] = "smoothing"
    examples: ClassVar[Examples] = ({"radius": 3.5},)

    radius: Annotated[float, Field(gt=0, description="radius of the disk; a length")]
    edge: Annotated[
        Literal["antialiased", "hard"],
        Field(description="whether pixels on the rim count in part, or fully or not at all"),
    ] = "antialiased"

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank."""
        radii = [min(self.radius / step, HUGE) for step in grid.spacing]
        reaches = [self._reach(radius) for radius in radii]
        bounded(tuple(2 * reach + 1 for reach in reaches))
        fill = _centres_inside if self.edge == "hard" else _covered
        weights = fill(reaches, radii)
        return {"": Conv(Input(), Kernel.of(weights / weights.sum()))}

    def _reach(self, radius: float) -> int:
        """Pixels on each side of the centre; a rim that enters one by rounding only does not."""
        return floor(radius + TOUCH) if self.edge == "hard" else ceil(radius - 0.5 - TOUCH)


def _centres_inside(reaches: list[int], radii: list[float]) -> Array:
    axes = np.ix_(*(np.arange(-k, k + 1) / r for k, r in zip(reaches, radii, strict=True)))
    square = np.asarray(sum(a * a for a in axes))
    return np.asarray(square <= 1 + TOUCH, dtype=np.float64)


def _covered(reaches: list[int], radii: list[float]) -> Array:
    """The part of each pixel that lies inside, up to a factor; the radius is every axis' unit."""
    pairs = zip(reaches, radii, strict=True)
    edges = [np.asarray((np.arange(-k, k + 2) - 0.5) / r, dtype=np.float64) for k, r in pairs]
    if len(edges) == 1:
        return np.diff(np.clip(edges[0], -1, 1))
    *depth, rows, columns = edges
    if not depth:
        return _areas(rows, columns, 1.0)
    return np.stack([_slab(a, b, rows, columns) for a, b in pairwise(np.clip(depth[0], -1, 1))])


def _slab(start: float, stop: float, rows: Array, columns: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    heights = (start + stop + (stop - start) * nodes) / 2
    disks = (
        w * _areas(rows, columns, sqrt(1 - z * z)) for z, w in zip(heights, weights, strict=True)
    )
    return np.asarray(sum(disks) * (stop - start) / 2)


def _areas(rows: Array, columns: Array, radius: float) -> Array:
    """Areas that a disk shares with the cells between edges."""
    # From the centre to an edge, signed: differences of these are the cells.
    y, x = (np.clip(edges, -radius, radius) for edges in (rows[:, None], columns))
    flat_until = np.minimum(np.sqrt(radius * radius - y * y), np.abs(x))
    curved = _under_arc(np.abs(x), radius) - _under_arc(flat_until, radius)
    corner = np.sign(x) * np.sign(y) * (flat_until * np.abs(y) + curved)
    return np.diff(np.diff(corner, axis=0), axis=1)


def _under_arc(x: Array, radius: float) -> Array:
    """The integral of sqrt(radius^2 - t^2) from 0 to x."""
    height = np.sqrt(radius * radius - x * x)
    return np.asarray((x * height + radius * radius * np.arctan2(x, height)) / 2)

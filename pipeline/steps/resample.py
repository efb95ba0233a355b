"""Resample: another spacing, the same centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from pipeline.errors import PlanError
from pipeline.placement import placement_of
from pipeline.steps.base import STEPS, Prepared
from pipeline.steps.spline import Order, Positions, interpolate
from pipeline.types import Georeference, Grid, ImageInfo, Region, Roi

if TYPE_CHECKING:
    from torch import Tensor

Length: TypeAlias = Annotated[float, Field(gt=0)]
Places: TypeAlias = npt.NDArray[np.int64]

_ROUNDING = 1e-4
"""Of a pixel: a file's spacing is rounded, and what lies so near a whole number of pixels is it."""

_EPSILON = 1e-9
"""What rounding may make of a position, or of a share of a sample."""

_HALF = 0.5 - _EPSILON
"""Of a sample that must lie in a region for it to belong there; a half that is rounded counts."""


@STEPS.register("resample")
@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Resample:
    """Interpolate at another spacing, on a grid that has the same centre.

    Of n samples at spacing s, ceil(n s / t) at spacing t are left: the new grid covers the old one.
    The spacing is in the unit of each image's own (mm in DICOM and NIfTI), along z, y, x or y, x;
    null leaves an axis as it is: `[null, 1, 1]` resamples a volume slice by slice. An image without
    a spacing is a failed row. Nothing is smoothed: what is coarser than before may alias.

    - `order: 3` is the cubic B-spline through all samples, `order: 1` linear interpolation. Beyond
      the outermost samples' centres the values are those at the centres.
    - Regions of interest are interpolated linearly; what is at least 0.5 belongs to them.
    - A sample is valid where all samples that linear interpolation weighs are; the spline sees
      the nearest valid one along the axis in the place of an invalid one.

    References
    ----------
    IBSI reference manual, section 2.4 (VTM2): tricubic spline, grid aligned by its centre
    (UMPJ), partial volume fraction 0.5 (E8H9).

    Examples
    --------
    >>> Resample(spacing=(None, 1.0, 1.0)).info(
    ...     ImageInfo((60, 201, 204), ("1",), "int16", Grid((3.0, 0.977, 0.977), "mm"))
    ... ).shape
    (60, 197, 200)
    """

    spacing: Annotated[
        Length | Annotated[tuple[Length | None, ...], Field(min_length=1, max_length=3)],
        Field(description="of the new grid, in the image's unit; a number or (z, y, x)"),
    ]
    order: Annotated[Order, Field(description="1: linear, 3: cubic B-spline")] = 3

    @property
    def whole_image(self) -> bool:
        """True: a spline depends on every sample, and the grids share their centre."""
        return True

    def info(self, info: ImageInfo) -> ImageInfo:
        """The same image on the new grid.

        Raises
        ------
        PlanError
            Where the image has no spacing, or another number of axes.
        """
        axes = self._axes(info)
        grid = Grid(tuple(axis.spacing for axis in axes), info.grid.unit)
        return replace(info, shape=tuple(a.count for a in axes), grid=grid, geo=_geo(info, axes))

    def apply(self, images: Prepared) -> Prepared:
        """Interpolate along one axis after the other."""
        axes = self._axes(images.infos[0])
        values, valid = images.values, images.valid
        for dim, axis in enumerate(axes, 2):
            if axis.kept:
                continue
            if valid is not None:
                values, valid = _filled(values, valid, dim), _sampled(valid, dim, axis)
            values = interpolate(values, dim, axis.positions, self.order)
        infos = tuple(map(self.info, images.infos))
        regions = tuple(tuple(_region(roi, axes) for roi in rois) for rois in images.regions)
        return Prepared(values, valid, Region.whole(infos[0].shape), infos, regions)

    def _axes(self, info: ImageInfo) -> list[_Axis]:
        """How each axis changes. Raises PlanError."""
        grid = info.grid
        if grid.unit is None:
            message = "resample needs images with a spacing, this one has none; give input.spacing"
            raise PlanError(message)
        wanted = self.spacing if isinstance(self.spacing, tuple) else (self.spacing,) * grid.ndim
        if len(wanted) != grid.ndim:
            message = (
                f"resample.spacing has {len(wanted)} numbers, the image {grid.ndim} axes; "
                "give one for each axis, or one for all"
            )
            raise PlanError(message)
        return [_Axis.of(*axis) for axis in zip(info.shape, grid.spacing, wanted, strict=True)]


@plain_dataclass(frozen=True, slots=True)
class _Axis:
    """An axis of the new grid: on the old one it begins at `first` and goes on by `stride`."""

    size: int
    count: int
    spacing: float
    first: float = 0.0
    stride: float = 1.0

    @classmethod
    def of(cls, size: int, spacing: float, wanted: float | None) -> _Axis:
        if wanted is None or wanted == spacing:
            return cls(size, size, spacing)
        stride = wanted / spacing
        count = ceil(size / stride - _ROUNDING)
        return cls(size, count, wanted, (size - 1 - stride * (count - 1)) / 2.0, stride)

    @property
    def kept(self) -> bool:
        """Whether it is the old one."""
        return self.stride == 1.0

    @property
    def positions(self) -> Positions:
        """Where its samples lie on the old axis, which ends at the centres of its samples."""
        positions = self.first + self.stride * np.arange(self.count)
        samples = positions.round()
        positions = np.where(np.abs(positions - samples) < _EPSILON, samples, positions)
        return np.clip(positions, 0.0, self.size - 1.0)

    @property
    def neighbours(self) -> tuple[Places, Places]:
        """Samples of the old axis before and after each; one and the same where it lies on it."""
        return np.floor(self.positions).astype(int), np.ceil(self.positions).astype(int)


def _filled(values: Tensor, valid: Tensor, dim: int) -> Tensor:
    """Values with the nearest valid one along an axis in the place of each invalid one."""
    import torch

    size = values.shape[dim]
    index = torch.arange(size, device=values.device)
    index = index.reshape(-1, *(1,) * (values.ndim - 1 - dim))
    before = torch.where(valid, index, -size).cummax(dim).values
    after = torch.where(valid, index, 2 * size).flip(dim).cummin(dim).values.flip(dim)
    nearest = torch.where(index - before <= after - index, before, after)
    return values.gather(dim, nearest.clamp_(0, size - 1))


def _sampled(valid: Tensor, dim: int, axis: _Axis) -> Tensor:
    """Where both neighbours are valid."""
    import torch

    before, after = (torch.from_numpy(i).to(valid.device) for i in axis.neighbours)
    return valid.index_select(dim, before) & valid.index_select(dim, after)


def _region(roi: Roi, axes: Sequence[_Axis]) -> Roi:
    """A region on the new grid: its share of each sample, at least one half."""
    whole = np.ones(roi.box.shape, np.bool_) if roi.mask is None else roi.mask
    share = whole.astype(np.float64)
    start, stop = [], []
    for dim, axis in enumerate(axes):
        low, high = axis.neighbours
        inside = (high >= roi.box.start[dim]) & (low < roi.box.stop[dim])
        chosen = np.flatnonzero(inside)
        start.append(int(chosen[0]) if len(chosen) else 0)
        stop.append(int(chosen[-1]) + 1 if len(chosen) else 0)
        t = (axis.positions - low)[inside].reshape(-1, *(1,) * (len(axes) - 1 - dim))
        edge = [(1, 1) if other == dim else (0, 0) for other in range(len(axes))]
        padded = np.pad(share, edge)  # nothing beyond the box
        before, after = (
            padded.take(i[inside] - (roi.box.start[dim] - 1), dim) for i in (low, high)
        )
        share = before * (1.0 - t) + after * t
    mask = share >= _HALF
    return replace(roi, box=Region(tuple(start), tuple(stop)), mask=None if mask.all() else mask)


def _geo(info: ImageInfo, axes: Sequence[_Axis]) -> object:
    """Where the new grid lies: on the ground or in a patient."""
    if isinstance(info.geo, Georeference):
        return _ground(info.geo, axes)
    placement = placement_of(info)
    if placement is None:
        return None
    plane = 3 - len(axes)  # an image of two axes has a step off its plane
    first = (*(0.0,) * plane, *(axis.first for axis in axes))
    return placement.moved(first, (*(1.0,) * plane, *(axis.stride for axis in axes)))


def _ground(geo: Georeference, axes: Sequence[_Axis]) -> Georeference:
    """The transform counts corners of pixels, which begin half a pixel before the centres."""
    if geo.transform is None:
        return geo
    rows, columns = axes
    down, across = (axis.first + (1.0 - axis.stride) / 2.0 for axis in (rows, columns))
    a, b, c, d, e, f = geo.transform
    return replace(
        geo,
        transform=(
            a * columns.stride,
            b * rows.stride,
            a * across + b * down + c,
            d * columns.stride,
            e * rows.stride,
            d * across + e * down + f,
        ),
    )

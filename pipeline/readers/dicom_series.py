"""Where slices lie in space, which of them belong together, and whether they make a volume."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.placement import Placement
from pipeline.readers.dicom_pet import uptake_of_slices
from pipeline.types import Grid, ImageInfo, Ints

ALIKE = 1e-3  # direction cosines, and spacings relative to themselves, that count as equal
SAME_PLACE = 1e-3  # mm
UNEVEN = 0.1  # of a step: how far a slice may lie from where even steps put it
TO_RAS = np.array([-1.0, -1.0, 1.0])
SHEARED = 0.5  # of a pixel: how far sideways


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a slice lies, in the patient's (x, y, z) as DICOM has it, in mm.

    series: the SeriesInstanceUID; orientation: the directions along a row and along a column;
    position: the centre of the first pixel; frame: the UID of these coordinates.
    """

    series: str
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    frame: str = ""

    @property
    def directions(self) -> npt.NDArray[np.float64]:
        """Unit vectors along a row, along a column, and from slice to slice: (3, 3)."""
        row, column = np.reshape(self.orientation, (2, 3))
        return np.stack([row, column, np.cross(row, column)])

    @property
    def is_orthonormal(self) -> bool:
        """Whether the directions are what directions must be, to a few digits."""
        axes = self.directions
        return bool(np.abs(axes @ axes.T - np.eye(3)).max() < 0.01)

    def placement(self, grid: Grid) -> Placement | None:
        """Where the slice lies, if its pixels have a size; the step off it is 1 mm."""
        return _place(self, self.directions[2], grid)

    def moved(self, distance: float) -> Plane:
        """The plane so many mm further along the normal."""
        position = np.asarray(self.position) + distance * self.directions[2]
        return replace(self, position=tuple(position.tolist()))


def group(slices: Sequence[ImageInfo]) -> list[list[int]]:
    """Indices of the slices, each with a Plane, that are of one series, size and orientation.

    Slices that all lie at one place (copies, times) make no volume and stand alone.
    """
    kinds: dict[object, list[list[int]]] = {}
    for i, info in enumerate(slices):
        alike = kinds.setdefault((_plane(info).series, info.shape, info.bands), [])
        found = next((some for some in alike if _are_alike(slices[some[0]], info)), None)
        if found is None:
            alike.append([i])
        else:
            found.append(i)
    groups = [found for alike in kinds.values() for found in alike]
    return [part for found in groups for part in _parted(slices, found)]


def _parted(slices: Sequence[ImageInfo], found: list[int]) -> list[list[int]]:
    planes = [_plane(slices[i]) for i in found]
    heights = np.array([plane.position for plane in planes]) @ planes[0].directions[2]
    return [found] if np.ptp(heights) > SAME_PLACE else [[i] for i in found]


def _are_alike(a: ImageInfo, b: ImageInfo) -> bool:
    turn, other = _plane(a).orientation, _plane(b).orientation
    return (
        a.grid.unit == b.grid.unit
        and np.allclose(turn, other, rtol=0, atol=ALIKE)
        and np.allclose(a.grid.spacing, b.grid.spacing, rtol=ALIKE, atol=0)
    )


def name(info: ImageInfo) -> str:
    """What tells a group from the others of its folder: 8 hexadecimal digits."""
    plane = _plane(info)
    turn = [round(part, 3) + 0.0 for part in plane.orientation]  # as fine as ALIKE tells them apart
    steps = [f"{s:.4g}" for s in info.grid.spacing]
    what = (plane.series, info.shape, info.bands, turn, steps)
    unit = "" if info.grid.unit == "mm" else repr(info.grid.unit)  # 1 mm is not 1 of no unit
    return hashlib.sha256((repr(what) + unit).encode()).hexdigest()[:8]


def join(slices: Sequence[ImageInfo]) -> tuple[Ints, ImageInfo]:
    """The order of a group's slices along their normal, and the volume they make.

    Raises ReadError as `stack` does. The volume has the narrowest type that holds every slice's.
    """
    first = slices[0]
    planes = [_plane(info) for info in slices]
    order, step = stack(planes, first.grid)
    dtype = np.result_type(*{info.dtype for info in slices})
    units = {info.value_unit for info in slices}
    volume = replace(
        first,
        shape=(len(slices), *first.shape),
        dtype=dtype.name,
        grid=deepen(first.grid, step),
        geo=place([planes[i] for i in order], first.grid),
        value_unit=units.pop() if len(units) == 1 else None,
        uptake=uptake_of_slices([slices[i].uptake for i in order]),
    )
    return order, volume


def place(planes: Sequence[Plane], grid: Grid) -> Placement | None:
    """Where a volume of slices in their order lies, if their pixels have a size."""
    first, last = (np.asarray(planes[i].position) for i in (0, -1))
    return _place(planes[0], (last - first) / (len(planes) - 1), grid)


def _place(first: Plane, step: npt.NDArray[np.float64], grid: Grid) -> Placement | None:
    """Turn DICOM's coordinates, x to the left and y to the back, into those of a Placement."""
    if grid.unit != "mm":
        return None
    down, across = grid.spacing[-2:]
    row, column, _ = first.directions
    columns = (across * row, down * column, step, np.asarray(first.position))
    affine = np.eye(4)
    affine[:3] = np.transpose([TO_RAS * column for column in columns])
    found = Placement.of(affine)
    return found and replace(found, frame=first.frame)


def deepen(grid: Grid, step: float) -> Grid:
    """The grid of a volume whose slices lie `step` mm apart; without a unit where theirs has none.

    >>> deepen(Grid((0.5, 0.5), "mm"), 3.0)
    Grid(spacing=(3.0, 0.5, 0.5), unit='mm')
    """
    return Grid((step, *grid.spacing), "mm") if grid.unit == "mm" else Grid((1.0,) * 3)


def stack(planes: Sequence[Plane], grid: Grid) -> tuple[Ints, float]:
    """The order of two or more slices along their normal, and the step between them in mm.

    Raises
    ------
    ReadError
        `incomplete` where two slices lie at one place or the steps are uneven, as they are where a
        slice is missing; `unsupported` where slices are turned against each other or lie askew, so
        that no grid of right angles holds them.
    """
    axes = planes[0].directions
    turned = np.abs(np.array([p.orientation for p in planes]) - planes[0].orientation).max()
    if turned > ALIKE:
        message = "slices of several orientations; use pages: sources, or part them"
        raise ReadError("unsupported", message)
    places = (np.array([p.position for p in planes]) - planes[0].position) @ axes.T
    order = np.argsort(places[:, 2], kind="stable")
    places = places[order]
    steps = np.diff(places[:, 2])
    if steps.min() < SAME_PLACE:
        doubled = int((steps < SAME_PLACE).sum())
        message = (
            f"{len(planes)} slices at {len(planes) - doubled} places; part what lies at one place "
            "(copies, times, echoes) into folders, or use pages: sources"
        )
        raise ReadError("incomplete", message)
    step = places[-1, 2] / len(steps) - places[0, 2] / len(steps)
    even = places[0, 2] + step * np.arange(len(planes))
    if np.abs(places[:, 2] - even).max() > UNEVEN * step:
        message = (
            f"slices lie {steps.min():g} to {steps.max():g} mm apart; the widest step follows "
            f"slice {int(steps.argmax()) + 1} of {len(planes)}: is one missing?"
        )
        raise ReadError("incomplete", message)
    aside = np.abs(places[:, :2] - places[0, :2]).max(axis=0)
    if grid.unit == "mm" and (aside > SHEARED * np.array(grid.spacing[::-1])).any():
        message = "slices lie askew (a tilted gantry?); resample the series to right angles"
        raise ReadError("unsupported", message)
    return tuple(int(i) for i in order), round(float(step), 6)


def _plane(info: ImageInfo) -> Plane:
    assert isinstance(info.geo, Plane)
    return info.geo

"""Label images: whole numbers that say what each pixel of another image belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import prod

import numpy as np

from pipeline.errors import ReadError
from pipeline.placement import placement_of
from pipeline.readers.alignment import Turn, align, millimetres
from pipeline.readers.base import READERS, Mask, Pixels, Reader, Window
from pipeline.readers.recognise import identify
from pipeline.types import Georeference, ImageInfo, Ints, Region

ALIKE = 1e-3  # spacings relative to themselves that count as equal
OFF = 0.1  # of a pixel: how far the corners of two rasters may lie apart
LARGEST = 2**53  # floating-point numbers beyond are not whole by what they mean
OFTEN = 1 << 26  # pixels
MANY = 10_000  # labels in one region: more are no labels but measurements


def label_image(path: str, info: ImageInfo, region: Region) -> Mapping[str, Callable[[], Mask]]:
    """What draws the mask of each label that occurs in a region of the image `info`."""
    name = identify(path)
    if name is None:
        message = "is in no known image format; write a label image, a DICOM SEG or an RTSTRUCT"
        raise ReadError("unsupported", message)
    values = _values(READERS[name](), path, info, region)
    return {str(label): partial(np.equal, values, label) for label in sorted(_occurring(values))}


def _values(reader: Reader, path: str, info: ImageInfo, region: Region) -> Pixels:
    """The labels of a region, 0 where the file says that a pixel is not valid."""
    pages = reader.probe(path)
    if len(pages) == 1:
        turn = _turn(pages[0], info)
        if region != Region.whole(info.shape):
            _refuse_to_decode_often(pages[0])
        box = turn.box(_deep(info.shape), Region(_deep(region.start, 0), _deep(region.stop)))
        rank = len(pages[0].shape)
        with reader.open(path, 0) as window:
            found = _plane(window, Region(box.start[-rank:], box.stop[-rank:]))
        return turn.back(found.reshape(box.shape)).reshape(region.shape)
    if len(info.shape) != 3 or len(pages) != info.shape[0]:
        message = f"{len(pages)} pages or frames; a mask has one, or one for each slice"
        raise ReadError("unsupported", message)
    grid = replace(info.grid, spacing=info.grid.spacing[1:])
    plane = replace(info, shape=info.shape[1:], grid=grid, geo=None)
    slices = []
    for page in range(region.start[0], region.stop[0]):
        _turn(pages[page], plane)
        with reader.open(path, page) as window:
            slices.append(_plane(window, Region(region.start[1:], region.stop[1:])))
    return np.stack(slices)


def _refuse_to_decode_often(mask: ImageInfo) -> None:
    """Refuse a large mask of which each tile of a scene would decode everything."""
    if prod(mask.shape) > OFTEN and not mask.windowed:
        message = f"{_grid_text(mask)} in one piece; write the mask of a scene as a tiled GeoTIFF"
        raise ReadError("limit", message)


def _plane(window: Window, region: Region) -> Pixels:
    """Whole numbers of one band; of several only where all are equal, as in a gray JPEG."""
    bands, valid = window.read(region), window.valid(region)
    values: Pixels = bands[0]
    if (bands[1:] != values).any():
        message = f"{len(bands)} bands that differ; a mask has one band of whole numbers"
        raise ReadError("unsupported", message)
    if valid is not None:
        values = np.where(valid.all(axis=0), values, 0)
    if window.info.nodata is not None:
        values = np.where(values == window.info.nodata, 0, values)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0, values)
        values = values.astype(np.float64)
        if (np.abs(values) > LARGEST).any() or (values != np.rint(values)).any():
            message = "holds fractions; a mask has whole numbers, one for each label"
            raise ReadError("unsupported", message)
    return values


def _occurring(values: Pixels) -> set[int]:
    found: set[int] = set()
    for part in values:
        found.update(map(int, np.unique(part[part != 0])))
        if len(found) > MANY:
            message = f"more than {MANY} labels; is it a mask?"
            raise ReadError("limit", message)
    return found


# ---------------------------------------------------------------- the grid
def _turn(mask: ImageInfo, image: ImageInfo) -> Turn:
    """How the image's pixels fall on the mask's. Raises ReadError where they do not.

    Where both say where they lie, an image of one slice may be one of the mask's. A unit that the
    mask's file leaves open is the image's, which the config or a table may have said.
    """
    if mask.grid.unit == "unknown":
        mask = replace(mask, grid=replace(mask.grid, unit=image.grid.unit or "unknown"))
    shape, there = _deep(image.shape), _deep(mask.shape)
    here, other = millimetres(image), millimetres(mask)
    flat = len(image.shape) < len(mask.shape)
    if here is not None and other is not None:
        turn = align(here, shape, other)
    else:
        alike = len(mask.shape) == len(image.shape) and not _spacings_differ(mask, image)
        turn = Turn() if alike and not _places_differ(mask, image) else None
    if turn is None:
        raise _misfit(mask, image)
    box = turn.box(shape)
    if box != (box.clip(there) if flat else Region.whole(there)):
        raise _misfit(mask, image)
    return turn


def _deep(shape: Ints, more: int = 1) -> Ints:
    """As of a volume: one slice where there are no others."""
    return (more, *shape)[-3:]


def _spacings_differ(mask: ImageInfo, image: ImageInfo) -> bool:
    told = mask.grid.unit is not None and mask.grid.unit == image.grid.unit
    return told and not np.allclose(mask.grid.spacing, image.grid.spacing, rtol=ALIKE, atol=0)


def _places_differ(mask: ImageInfo, image: ImageInfo) -> bool:
    """Whether two rasters that say where they lie on the ground lie at different places."""
    one, other = mask.geo, image.geo
    if not (isinstance(one, Georeference) and isinstance(other, Georeference)):
        return False
    if one.crs and other.crs and one.crs != other.crs:
        return True
    if one.transform is None or other.transform is None:
        return False
    rows, columns = image.shape
    corners = np.array([(x, y, 1.0) for x in (0, columns) for y in (0, rows)]).T
    mine, theirs = (np.reshape(g, (2, 3)) for g in (one.transform, other.transform))
    step = np.hypot(*theirs[:, :2]).min()
    return bool(np.hypot(*(mine - theirs) @ corners).max() > OFF * step)


def _misfit(mask: ImageInfo, image: ImageInfo) -> ReadError:
    message = (
        f"is on another grid ({_grid_text(mask)}) than the image ({_grid_text(image)}); "
        "resample it to the image's grid, nearest neighbour"
    )
    return ReadError("unsupported", message)


def _grid_text(info: ImageInfo) -> str:
    """`48x143x161 of 3.27x0.977x0.977 mm from (-629, ...)`, as far as the header says it."""
    text = "x".join(map(str, info.shape))
    if info.grid.unit is not None:
        text += f" of {'x'.join(f'{step:.6g}' for step in info.grid.spacing)} {info.grid.unit}"
    if isinstance(info.geo, Georeference):
        crs, transform = info.geo.crs, info.geo.transform
        if transform is not None:
            text += f" at {transform[2]:.10g}, {transform[5]:.10g}"
        return f"{text} in {crs}" if crs and len(crs) < 20 else text
    place = placement_of(info)
    return text if place is None else f"{text} at {', '.join(f'{at:.6g}' for at in place.origin)}"

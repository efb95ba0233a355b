"""Georeferenced rasters through rasterio, read by windows: GeoTIFF, JPEG 2000 and VRT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

import numpy as np

from pipeline.errors import ReadError
from pipeline.gdal import CACHE, LARGEST_CACHE
from pipeline.ranges import stamp
from pipeline.readers.bands import Bands, bands_of
from pipeline.readers.base import READERS, Mask, Pixels
from pipeline.readers.datasets import Part, gdal, parts_of
from pipeline.readers.georeference import georeference_of, grid_of
from pipeline.readers.picture import describe
from pipeline.readers.segments import LARGEST_BLOCK
from pipeline.readers.strips import Absent
from pipeline.readers.tiff import pick
from pipeline.readers.vrt import MASK_SUFFIX
from pipeline.types import ImageInfo, Region

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window
    from tifffile import TiffPage

# Pixel scale, tie points, transformation, keys (GeoTIFF 1.1): any of them says where a TIFF lies.
GEOTIFF_TAGS = (33550, 33922, 34264, 34735)
GDAL_METADATA = 42112
SCALED = re.compile(r'role="(?:scale|offset)"')
MOST_OPEN = 32
"""Scenes that a process keeps open: the bands of one may be as many files."""
Key: TypeAlias = tuple[int, ...]
"""A page of a file as it is now."""


@READERS.register("raster")
class Raster:
    """GeoTIFF (COG, BigTIFF), JPEG 2000 and VRT, by windows through rasterio, at full resolution.

    A TIFF is read here, and not as `tiff`, where its first page is georeferenced (pixel scale, tie
    points, transformation or GeoKeys), scaled in GDAL's metadata, or has a `.msk` beside it. Files
    called `.jp2`, `.j2k` or `.vrt` are read where `input.path` or `input.include` names them, alone
    or as `*.jp2`. Samples are as GDAL gives them: palettes are indices. Where a band has a scale or
    an offset, all are stored * scale + offset in float64. A band is called by its description, else
    by the common name of its colour (red, nir ..), else by its number. A pixel is valid where the
    band's stored sample is not nodata, alpha is not 0 (a band of that colour with another
    description is no alpha), the mask in the file or beside it is not 0, and a sparse file holds
    its block. Spacing is that of the transform: metres where the coordinates are lengths, `degree`
    where they are angles. A VRT may be a mosaic of TIFF and JPEG 2000 files, pixel to pixel, with a
    mask; whatever else is in it is `unsupported`. Nothing else beside a file is read (`.aux.xml`,
    world files, `.ovr`), nothing by other drivers of GDAL than these three, and by none over a
    network: GDAL gets the bytes of an object from here. Complex numbers are `unsupported`. Needs
    rasterio: the extra `geo`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".geotiff", ".gtiff", ".gtif", ".jp2", ".j2k", ".vrt")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"\0\0\0\x0cjP {2}\r\n\x87\n|\xff\x4f\xff\x51\0"
    )

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One raster per page, (H, W); overviews and masks are no pages."""
        with parts_of(path) as found:
            parts = tuple(found)
        with gdal(path):
            return tuple(_probed(part) for part in parts)

    def open(self, path: str, page: int) -> Scene:
        """Open one page; blocks are decoded when a window asks for them."""
        key = (page, *stamp(path), *stamp(path + MASK_SUFFIX))
        if (kept := _KEPT.take(key)) is not None:
            return kept
        with parts_of(path) as found:
            part = pick(found, page)
        with gdal(path):
            return _scene(path, part, key)


def is_georeferenced(page: TiffPage) -> bool:
    """Whether a TIFF with this first page is to be read as a raster: by its tags."""
    metadata = page.tags.valueof(GDAL_METADATA)
    scaled = isinstance(metadata, str) and SCALED.search(metadata)
    return bool(scaled) or any(code in page.tags for code in GEOTIFF_TAGS)


@dataclass(frozen=True, slots=True)
class Scene:
    """An open raster, and its mask where that is a dataset of its own."""

    info: ImageInfo
    path: str
    bands: Bands
    dataset: DatasetReader
    mask: DatasetReader | None
    absent: Absent | None
    masked: bool  # by a band of the dataset itself, as in a VRT
    key: Key

    def read(self, region: Region) -> Pixels:
        """Pixels of a region inside the raster, (C, *region.shape); decodes no other blocks."""
        return self.bands.scale(self._stored(region))

    def valid(self, region: Region) -> Mask | None:
        """Where no nodata value, alpha, mask or missing block says otherwise; None: everywhere."""
        masks: list[Mask] = []
        if any(value is not None for value in self.bands.nodata):
            masks.append(self.bands.differs(self._stored(region)))
        with gdal(self.path):
            if self.bands.alpha is not None:
                masks.append(_window(self.dataset, (self.bands.alpha,), region) != 0)
            if self.mask is not None:
                planes = self.bands.indexes if self.mask.count > 1 else (1,)
                masks.append(_window(self.mask, planes, region) != 0)
            if self.masked:
                masks.append(self.dataset.read_masks([1], window=_of(region)) != 0)
        if self.absent is not None:
            missing = self.absent.within(region)
            one = len(missing) == 1
            masks.append(~(missing if one else missing[[i - 1 for i in self.bands.indexes]]))
        if not masks:
            return None
        shape = (len(self.info.bands), *region.shape)
        return np.array(np.broadcast_to(np.logical_and.reduce(np.broadcast_arrays(*masks)), shape))

    def _stored(self, region: Region) -> Pixels:
        with gdal(self.path, self._cache(region)):
            return _window(self.dataset, self.bands.indexes, region)

    def _cache(self, region: Region) -> int:
        """Bytes of blocks to keep for what is read beside a region: of strips, all it touches."""
        rows = region.shape[0] + 2 * self.dataset.block_shapes[0][0]
        strips = rows * self.dataset.width * self.dataset.count * self.bands.stored.itemsize
        return min(max(CACHE, strips), LARGEST_CACHE) if self.info.strips else CACHE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if prod(self.info.shape) > LARGEST_BLOCK:
            _KEPT.give(self)
        else:
            self.close()

    def close(self) -> None:
        """Forget the file, and its blocks."""
        self.dataset.close()
        if self.mask is not None:
            self.mask.close()


class _Kept:
    """Large scenes that were read last, open with their blocks, for windows that lie side by side.

    A file that has changed is another one.
    """

    def __init__(self) -> None:
        self._scenes: dict[Key, Scene] = {}

    def take(self, key: Key) -> Scene | None:
        """Take a scene out, for nobody else to read it meanwhile."""
        return self._scenes.pop(key, None)

    def give(self, scene: Scene) -> None:
        """Keep a scene, and forget the oldest one of many."""
        self._scenes[scene.key] = scene
        if len(self._scenes) > MOST_OPEN:
            self._scenes.pop(next(iter(self._scenes))).close()


_KEPT = _Kept()


def _probed(part: Part) -> ImageInfo:
    with ExitStack() as stack:
        dataset = part.dataset.open(stack)
        return _info(dataset, bands_of(dataset))


def _scene(path: str, part: Part, key: Key) -> Scene:
    with ExitStack() as stack:
        dataset = part.dataset.open(stack)
        mask = None if part.mask is None else part.mask.open(stack)
        bands = bands_of(dataset)
        if mask is not None and (mask.shape, mask.count) not in (
            (dataset.shape, 1),
            (dataset.shape, dataset.count),
        ):
            message = f"a mask of {mask.count} x {mask.height} x {mask.width}; make it again"
            raise ReadError("unsupported", message)
        masked = part.dataset.driver == "VRT" and _has_mask(dataset)
        scene = Scene(_info(dataset, bands), path, bands, dataset, mask, part.absent, masked, key)
        stack.pop_all()
        return scene


def _info(dataset: DatasetReader, bands: Bands) -> ImageInfo:
    plain = describe(dataset.shape, bands.labels, bands.dtype, bands.common_nodata)
    block = max(height * width for height, width in dataset.block_shapes)
    return replace(
        plain,
        grid=grid_of(dataset),
        geo=georeference_of(dataset),
        windowed=block <= LARGEST_BLOCK,
        strips=dataset.block_shapes[0][1] >= dataset.width,
    )


def _window(dataset: DatasetReader, indexes: Sequence[int], region: Region) -> Pixels:
    """Stored samples of a region, at full resolution."""
    return np.asarray(dataset.read(list(indexes), window=_of(region)))


def _of(region: Region) -> Window:
    from rasterio.windows import Window

    return Window.from_slices(*region.slices())


def _has_mask(dataset: DatasetReader) -> bool:
    """Whether a band of its own, that is not alpha, says which pixels are valid."""
    from rasterio.enums import MaskFlags

    return list(dataset.mask_flag_enums[0]) == [MaskFlags.per_dataset]

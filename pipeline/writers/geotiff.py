"""GeoTIFF: a scene's response to one filter as a cloud optimized file, made of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from warnings import catch_warnings

import numpy as np
import numpy.typing as npt

from pipeline.gdal import GdalError, require, writing
from pipeline.keys import picture_folder
from pipeline.types import Georeference, Ints, Region

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

__all__ = ["GeoTiff", "bytes_kept", "bytes_needed", "name_of", "require"]

Depth: TypeAlias = Literal["float32", "float16"]

BLOCK = 512
SLACK = 0.01  # what deflate adds to bytes it cannot compress, with each block's place in the file
HEADER = 1 << 16  # bytes

# Deflate: whoever reads TIFF reads it. Its fastest level is within 2 % of the best one here.
OPTIONS: dict[str, str | int] = {
    "compress": "deflate",
    "level": 1,
    "predictor": "floating_point",
    "blocksize": BLOCK,
    "overview_resampling": "average",
    "bigtiff": "if_safer",
}


class GeoTiff:
    """A file in the making: (len(labels), *shape), NaN where nothing was put.

    Tiles lie beside it, uncompressed, until `close` makes the file of them, so the order of the
    tiles does not show in it, and memory does not grow with the scene.

    Parameters
    ----------
    path : Path
        Where the file will be, in a folder that exists.
    shape : (height, width)
        In pixels.
    labels : sequence of str
        The bands' descriptions.
    place : Georeference, optional
        Coordinate system and transform; a file without them is a TIFF like any other.
    tags : mapping
        Said in GDAL's metadata, as `FILTERBANK_<KEY>`.
    dtype : {"float32", "float16"}
        How values are stored. Those that float16 cannot hold become infinite.

    Raises
    ------
    MissingDependency
        Without rasterio.
    OSError
        Here and in every method, where the disk is full or may not be written to, or its path is
        not UTF-8.
    """

    def __init__(
        self,
        path: Path,
        shape: Ints,
        labels: Sequence[str],
        place: Georeference | None,
        tags: Mapping[str, str],
        dtype: Depth = "float32",
    ) -> None:
        self.path, self.dtype = path, dtype
        self._tiles = path.with_name(f"{path.name}.tiles")
        with self._writing():
            self._dataset = _create(self._tiles, shape, len(labels), place)
            self._dataset.descriptions = tuple(labels)
            self._dataset.update_tags(**{f"FILTERBANK_{k.upper()}": tags[k] for k in sorted(tags)})

    def put(self, region: Region, band: int, values: npt.NDArray[np.floating[Any]]) -> None:
        """Keep values, of the region's shape, NaN where invalid, of a band counted from 0."""
        if values.shape != region.shape:  # GDAL would stretch them
            message = f"values {values.shape} for a region {region.shape}"
            raise ValueError(message)
        from rasterio.windows import Window

        with np.errstate(over="ignore"):
            rounded = values.astype(self.dtype).astype(np.float32)  # GDAL would cut digits off
        with self._writing():
            window = Window.from_slices(*region.slices())
            self._dataset.write(rounded, band + 1, window=window)

    def close(self) -> None:
        """Write the file, with overviews, and remove the tiles.

        A pixel of an overview is the mean of the valid ones among the four below it.
        """
        import rasterio.shutil

        bits = {"nbits": 16} if self.dtype == "float16" else {}
        with self._writing():
            self._dataset.close()
        with self._writing():
            rasterio.shutil.copy(self._tiles, self.path, driver="COG", **OPTIONS, **bits)
        self._tiles.unlink()

    def discard(self) -> None:
        """Leave nothing behind."""
        with suppress(GdalError), writing():
            self._dataset.close()
        self._sweep()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with writing():
                yield
        except (GdalError, UnicodeEncodeError) as error:
            self._sweep()
            reason = str(error).replace(f"{self.path.parent}/", "")
            message = f"{self.path.name}: {reason}"
            raise OSError(message) from error

    def _sweep(self) -> None:
        for name in (self.path.name, self._tiles.name, f"{self.path.name}.ovr.tmp"):
            self.path.with_name(name).unlink(missing_ok=True)


def _create(path: Path, shape: Ints, count: int, place: Georeference | None) -> DatasetWriter:
    """Tiles band by band, so that one is written without the others; what nobody wrote is NaN."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    height, width = shape
    crs, transform = (place.crs, place.transform) if place else (None, None)
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"}
    with catch_warnings(action="ignore", category=NotGeoreferencedWarning):
        return rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype="float32",
            nodata=np.nan,
            crs=crs,
            transform=rasterio.Affine(*transform) if transform else None,
            sparse_ok=True,
            bigtiff="yes",
            **layout,
        )


def name_of(image: str, response: str) -> str:
    """The path below the output folder for an image's key and a response's id."""
    return f"{picture_folder(image, 'geotiff')}/{response}.tif"


def bytes_kept(shape: Ints, bands: int, dtype: Depth = "float32") -> int:
    """The most bytes that a finished file takes."""
    blocks = sum(map(_blocks, _levels(shape))) * bands
    return int(blocks * BLOCK**2 * np.dtype(dtype).itemsize * (1 + SLACK)) + HEADER


def bytes_needed(shape: Ints, bands: Sequence[int], dtype: Depth = "float32") -> int:
    """The most bytes that files of so many bands of one scene take while they are made.

    The tiles of all are there when the first is closed. Closing writes the overviews twice.
    """
    tiles = [4 * n * _blocks(shape) * BLOCK**2 for n in bands]
    kept = [bytes_kept(shape, n, dtype) for n in bands]
    closing = [2 * bytes_kept(shape, n) - t for n, t in zip(bands, tiles, strict=True)]
    return sum(map(max, tiles, kept)) + max(closing, default=0)


def _levels(shape: Ints) -> Iterator[Ints]:
    """The sizes of an image and its overviews, down to one that fits in a block."""
    yield shape
    while max(shape) > BLOCK:
        shape = tuple(-(-n // 2) for n in shape)
        yield shape


def _blocks(shape: Ints) -> int:
    return prod(-(-n // BLOCK) for n in shape)

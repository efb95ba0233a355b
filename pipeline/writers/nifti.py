"""NIfTI: one response to one band as a volume that lies where its image does."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingDependency
from pipeline.keys import picture_folder, picture_part
from pipeline.placement import Placement
from pipeline.types import Grid, Ints, Region

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

UNITS = {"m": "meter", "mm": "mm", "um": "micron"}
LONGEST_1 = 2**15 - 1
"""Pixels along an axis that NIfTI-1 counts; longer images are NIfTI-2."""

VALUE = np.dtype("<f4")
LEVEL = 1  # of gzip: the others take longer and hardly gain, for the digits of responses are noise
CHUNK = 1 << 20  # bytes
HEADER = 1 << 16  # bytes
LONGEST_TEXT = 79  # bytes of a description


class Nifti:
    """A gzipped file in the making: float32, NaN where nothing was put.

    Voxels lie beside it until `close` packs them, so regions may come in any order, and memory
    does not grow with the image. The same voxels give the same bytes.

    Parameters
    ----------
    path : Path
        Where the file will be, in a folder that exists.
    shape : (z, y, x) or (y, x)
        In pixels.
    grid : Grid
        The spacing; a unit that NIfTI does not know is left out.
    place : Placement, optional
        Where it lies: the sform and the qform. A file without one has a spacing and no place.
    tags : mapping
        Said in the header as a comment, in JSON; `filter` is the description too.

    Raises
    ------
    MissingDependency
        Without nibabel.
    OSError
        Here and in every method, where the disk is full or may not be written to.
    """

    def __init__(
        self,
        path: Path,
        shape: Ints,
        grid: Grid,
        place: Placement | None,
        tags: Mapping[str, str],
    ) -> None:
        self.path, self.shape = path, shape
        self._header = _header(shape, grid, place, tags)
        self._voxels = path.with_name(f"{path.name}.voxels")
        empty = np.full(CHUNK // VALUE.itemsize, np.nan, VALUE)
        with self._voxels.open("wb") as file:
            for left in range(prod(shape), 0, -empty.size):
                file.write(empty[:left].data)

    def put(self, region: Region, values: npt.NDArray[np.floating[Any]]) -> None:
        """Keep values, of the region's shape, NaN where invalid."""
        if values.shape != region.shape:
            message = f"values {values.shape} for a region {region.shape}"
            raise ValueError(message)
        axis = len(self.shape) - 1  # from here on the region is one run of the file
        while axis and region.shape[axis] == self.shape[axis]:
            axis -= 1
        runs = values.astype(VALUE, order="C").reshape(-1, prod(region.shape[axis:]))
        with self._voxels.open("r+b") as file:
            for index, run in zip(np.ndindex(region.shape[:axis]), runs, strict=True):
                first = (*map(sum, zip(region.start, index, strict=False)), *region.start[axis:])
                file.seek(VALUE.itemsize * int(np.ravel_multi_index(first, self.shape)))
                file.write(run.data)

    def close(self) -> None:
        """Write the file and remove the voxels."""
        with (
            self._voxels.open("rb") as voxels,
            self.path.open("wb") as file,
            gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed,
        ):
            self._header.write_to(packed)
            shutil.copyfileobj(voxels, packed, CHUNK)
        self._voxels.unlink()

    def discard(self) -> None:
        """Leave nothing behind."""
        for path in (self.path, self._voxels):
            path.unlink(missing_ok=True)


def require() -> None:
    """Raise MissingDependency without nibabel."""
    try:
        import nibabel  # noqa: F401
    except ImportError as error:
        message = "NIfTI needs nibabel; pip install 'filterbank[medical]' and run again"
        raise MissingDependency(message) from error


def name_of(image: str, band: str, response: str) -> str:
    """The path below the output folder for an image's key, a band and a response's id."""
    return f"{picture_folder(image, 'nifti')}/{picture_part(band)}/{response}.nii.gz"


def bytes_kept(shape: Ints) -> int:
    """The most bytes that a finished file takes: what cannot be packed grows by 1/1000."""
    return prod(shape) * VALUE.itemsize * 1001 // 1000 + HEADER


def bytes_needed(shape: Ints, files: int) -> int:
    """The most bytes that so many files of one image take while they are made."""
    return (files + 1) * bytes_kept(shape)


def _header(
    shape: Ints, grid: Grid, place: Placement | None, tags: Mapping[str, str]
) -> Nifti1Header:
    require()
    from nibabel.nifti1 import Nifti1Extension, Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    header = (Nifti1Header if max(shape) <= LONGEST_1 else Nifti2Header)(endianness="<")
    header.set_data_dtype(VALUE)
    header.set_data_shape(shape[::-1])
    header.set_zooms(grid.spacing[::-1])
    header.set_xyzt_units(UNITS.get(grid.unit or ""))
    header.set_slope_inter(1, 0)
    if place is not None:
        header.set_qform(place.affine, place.space)
        header.set_sform(place.affine, place.space)
    header["descrip"] = tags.get("filter", "").encode("ascii", "replace")[:LONGEST_TEXT]
    comment = json.dumps(dict(tags), sort_keys=True).encode()
    header.extensions.append(Nifti1Extension("comment", comment))
    return header

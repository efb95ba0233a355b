"""NIfTI-1 and NIfTI-2 in one file, header by nibabel, voxels in the order they are stored."""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Self, cast

import numpy as np

from pipeline.errors import ReadError
from pipeline.placement import Placement
from pipeline.readers.base import READERS, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.picture import BAND_LIMIT, GRAY, describe, refuse_page
from pipeline.types import Grid, ImageInfo, Ints, Region

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

GZIP = b"\x1f\x8b"
MOST_DEFLATED = 1032  # deflate makes at most so many bytes of one
AFTER = 1 << 24  # bytes that may follow the last voxel
UNITS = {1: "m", 2: "mm", 3: "um"}  # the three lowest bits of xyzt_units
CHUNK = 1 << 20
KEPT = 1 << 28  # bytes, inflated, of the last file


@READERS.register("nifti")
class Nifti:
    """NIfTI, plain or gzipped: (z, y, x) volumes of one band, or (y, x) where there are two axes.

    The first stored axis is x. Voxels stay in stored order: neither qform nor sform turns or
    flips the volume, as IBSI and ITK filter it; the sform, else the qform, says where it lies.
    Where the header scales (scl_slope, scl_inter), values are stored * slope + intercept in
    float64; otherwise they keep their type. Spacing is pixdim, its unit that of xyzt_units,
    `unknown` where the header names none. What lies beyond the third axis (time, vectors) is one
    frame per volume, the fourth axis running fastest. Of a gzipped file length and CRC are checked,
    also behind the voxels that were asked for. Pairs of .hdr and .img, colours and complex numbers
    are `unsupported`. Needs nibabel: the extra `medical`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"(?:\x1f\x8b)?(?:(?:\x5c\x01\0\0|\0\0\x01\x5c).{340}n[+i]1\0"
        rb"|(?:\x1c\x02\0\0|\0\0\x02\x1c)n[+i]2\0)",
        re.DOTALL,
    )

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One volume per frame, as float64 where the header scales."""
        with decoding(path, "NIfTI") as file:
            header = _header(_plain(file))
            _refuse_short(header, path, file)
            return (header.info,) * header.frames

    def open(self, path: str, page: int) -> Volume:
        """Map a plain file into memory; inflate a gzipped one, to its end."""
        with decoding(path, "NIfTI") as file:
            header = _header(_plain(file))
            refuse_page(page, header.frames)
            _refuse_short(header, path, file)
            start = header.offset + page * header.bytes
            if _is_gzipped(file):
                stored = _gzipped(header, path, file, page)
            else:
                stored = np.memmap(path, header.stored, "r", start, header.info.shape)
            return Volume(header.info, stored, header.scaling)


@dataclass(frozen=True, slots=True)
class Volume:
    """One frame: voxels as stored, (z, y, x) in any byte order, and what scales them."""

    info: ImageInfo
    stored: Pixels
    scaling: tuple[float, float] | None

    def read(self, region: Region) -> Pixels:
        """Voxels of a region inside the volume: (1, *region.shape), contiguous and writeable."""
        part = self.stored[region.slices()][None]
        if self.scaling is not None:
            slope, intercept = self.scaling
            return np.ascontiguousarray(part.astype(np.float64) * slope + intercept)
        return part.astype(self.info.dtype, order="C")

    def valid(self, region: Region) -> None:  # noqa: ARG002
        """Everywhere: the format has no mask."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Header:
    info: ImageInfo
    frames: int
    stored: np.dtype[np.generic]
    scaling: tuple[float, float] | None
    offset: int

    @property
    def bytes(self) -> int:
        """Of one frame, as stored."""
        return prod(self.info.shape) * self.stored.itemsize


def _is_gzipped(file: BinaryIO) -> bool:
    file.seek(0)
    found = file.read(len(GZIP)) == GZIP
    file.seek(0)
    return found


def _plain(file: BinaryIO) -> BinaryIO:
    """The file from its first byte, inflated where it is gzipped."""
    return cast("BinaryIO", gzip.GzipFile(fileobj=file)) if _is_gzipped(file) else file


def _header(file: BinaryIO) -> _Header:
    """Read a header, without the repairs that nibabel would make to it."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        message = "NIfTI needs nibabel; pip install 'filterbank[medical]' and run again"
        raise ReadError("dependency", message) from error
    head = file.read(4)
    kind = Nifti2Header if 540 in (int.from_bytes(head, o) for o in ("little", "big")) else None
    size = (kind or Nifti1Header).sizeof_hdr
    head += file.read(size - len(head))
    if len(head) < size:
        message = f"truncated NIfTI file ({len(head)} bytes); copy it again from its source"
        raise ReadError("corrupt", message)
    header = (kind or Nifti1Header)(head, check=False)
    magic = header["magic"].item()
    if magic[:2] == b"ni":
        message = "a NIfTI header without its voxels (.hdr and .img); convert the pair to one .nii"
        raise ReadError("unsupported", message)
    if magic[:2] != b"n+":
        message = f"has no NIfTI header (magic {magic!r}); copy it again, or exclude it"
        raise ReadError("corrupt", message)
    return _understood(header)


def _understood(header: Nifti1Header) -> _Header:
    axes = tuple(int(size) for size in header.get_data_shape())
    if len(axes) < 2:
        message = f"{len(axes)} axes; images have 2 (x, y) or more"
        raise ReadError("unsupported", message)
    frames = prod(axes[3:])
    if not 1 <= frames <= BAND_LIMIT:
        message = f"{frames} volumes in one file (at most {BAND_LIMIT}); split it"
        raise ReadError("limit", message)
    stored = header.get_data_dtype()
    slope, intercept = header.get_slope_inter()
    scaling = None if slope is None or (slope, intercept) == (1, 0) else (slope, intercept)
    described = describe(axes[2::-1], GRAY, np.dtype(stored))
    grid = _grid(header, described.shape)
    dtype = np.dtype(np.float64) if scaling else np.dtype(stored)
    info = ImageInfo(described.shape, GRAY, dtype.name, grid, geo=_placement(header))
    offset = int(header["vox_offset"])
    if offset < header.sizeof_hdr:
        message = f"the header says that voxels begin at byte {offset}, within itself"
        raise ReadError("corrupt", message)
    return _Header(info, frames, stored, scaling, offset)


def _grid(header: Nifti1Header, shape: Ints) -> Grid:
    """Spacing as the decimals that were meant (pixdim is float32); 1 and no unit where it is 0."""
    pixdim = header["pixdim"][len(shape) : 0 : -1]
    spacing = tuple(abs(float(str(length))) for length in pixdim)
    if not all(isfinite(length) and length > 0 for length in spacing):
        return Grid((1.0,) * len(shape))
    return Grid(spacing, UNITS.get(int(header["xyzt_units"]) & 7, "unknown"))


def _placement(header: Nifti1Header) -> Placement | None:
    """Where the voxels lie, by sform, else qform; None where neither says so."""
    from nibabel.spatialimages import HeaderDataError

    try:
        affine, space = header.get_sform(coded=True)
        if affine is None:
            affine, space = header.get_qform(coded=True)
    except HeaderDataError:  # no quaternion: the place is unknown, the voxels are intact
        return None
    return None if affine is None else Placement.of(affine, int(space))


def _refuse_short(header: _Header, path: str, file: BinaryIO) -> None:
    """Refuse a file that cannot hold what its header says, before any memory is asked for."""
    size = Path(path).stat().st_size
    most = size * MOST_DEFLATED if _is_gzipped(file) else size
    need = header.offset + header.frames * header.bytes
    if need > most:
        message = f"truncated NIfTI file ({size} bytes hold no {need}); copy it again"
        raise ReadError("corrupt", message)


def _gzipped(header: _Header, path: str, file: BinaryIO, page: int) -> Pixels:
    """One frame; where all frames are not large, they are kept for the next one."""
    size, everything = header.bytes, header.frames * header.bytes
    if everything <= KEPT:
        status = Path(path).stat()
        data = _remembered(path, status.st_size, status.st_mtime_ns, header.offset, everything)
        first = page * size
    else:
        rest = everything - (page + 1) * size + AFTER
        data = _inflate(_plain(file), header.offset + page * size, size, rest)
        first = 0
    pixels = np.frombuffer(data, header.stored, prod(header.info.shape), first)
    return pixels.reshape(header.info.shape)


@lru_cache(maxsize=1)  # frames and slices of one file follow each other
def _remembered(path: str, _size: int, _mtime: int, start: int, count: int) -> bytearray:
    with Path(path).open("rb") as file:
        return _inflate(_plain(file), start, count, AFTER)


def _inflate(file: BinaryIO, start: int, count: int, rest: int) -> bytearray:
    """`count` bytes from `start`, reading on to the end: the checksum stands there.

    Raises EOFError or gzip's errors where the file is damaged; ReadError, kind `corrupt`, where
    more than `rest` bytes follow.
    """
    _skip(file, start)
    data = bytearray()
    while len(data) < count:
        chunk = file.read(min(CHUNK, count - len(data)))
        if not chunk:
            message = f"ends after {start + len(data)} of {start + count} bytes"
            raise EOFError(message)
        data += chunk
    if _skip(file, rest) == rest and file.read(1):
        message = "goes on long after its last voxel; is the header damaged? Copy it again"
        raise ReadError("corrupt", message)
    return data


def _skip(file: BinaryIO, count: int) -> int:
    """Read over at most `count` bytes; how many there were."""
    left = count
    while left and (chunk := file.read(min(CHUNK, left))):
        left -= len(chunk)
    return count - left

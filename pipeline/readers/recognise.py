"""Which reader a file belongs to: what its first bytes say, else what its name says."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from os.path import splitext
from pathlib import Path

from pipeline.errors import ReadError
from pipeline.ranges import exists
from pipeline.readers.base import READERS
from pipeline.readers.decoding import reading
from pipeline.readers.dicom_header import NO_IMAGE
from pipeline.readers.hyperstack import is_hyperstack
from pipeline.readers.raster import is_georeferenced
from pipeline.readers.tiff import info_of, pages
from pipeline.readers.vrt import MASK_SUFFIX, VRT_SUFFIX, sources_of
from pipeline.storage import is_url
from pipeline.types import ImageInfo

HEAD = 352
NAMED = (".jp2", ".j2k", VRT_SUFFIX)  # tiles by the thousand, and files that name other files
BESIDE = (MASK_SUFFIX, ".ovr")  # what GDAL puts beside a raster, TIFF by their first bytes
GZIP = b"\x1f\x8b"
DEFLATED = 1 << 16  # bytes of a gzipped file that surely hold its first HEAD


def identify(path: str) -> str | None:
    """Name the reader of a file, or None where neither signature nor suffix is known.

    The signature decides: a PNG called `.jpg` is read as PNG. A file that has a known suffix but
    no known signature gets the reader of its suffix, which will say what is wrong with it. A TIFF
    is read as `raster` where it is georeferenced, as `hyperstack` where it describes its planes.
    Raises ReadError, kind `io`: what a disk lets nobody read now may be readable the next moment,
    and must not be read as something else then.
    """
    return look(path)[0]


def look(path: str) -> tuple[str | None, Sequence[ImageInfo] | None]:
    """As `identify`, and the header of the only page, where it had to be parsed for that."""
    name = _signed(_head(path))
    if name == "tiff":
        return _look_at_tiff(path)
    return named_reader(path) if name is None else name, None


def _look_at_tiff(path: str) -> tuple[str, Sequence[ImageInfo] | None]:
    """The reader of a TIFF: by its first page, or a mask beside it.

    A file whose tags are damaged is no raster: the reader of plain TIFF says what is wrong with it.
    """
    if exists(path + MASK_SUFFIX):
        return "raster", None
    placed, described = False, True
    try:
        with pages(path) as found:
            first = next(found)
            described = first[0].parent.is_ome or first[0].parent.is_imagej
            placed = is_georeferenced(first[0])
            if not placed and not described and next(found, None) is None:
                return "tiff", (info_of(first[0]),)
    except ReadError as error:
        if error.kind == "io":
            raise
        placed = False
    if placed:
        return "raster", None
    return "hyperstack" if described and is_hyperstack(path) else "tiff", None


def named_reader(path: str) -> str | None:
    """Name the reader that a file's suffix speaks of, without opening it."""
    return next((n for n, reader in READERS.items() if _ends(path, reader.suffixes)), None)


def is_dicom(path: str) -> bool:
    """Whether a file is read as DICOM; one that cannot be read now: whether its name allows it."""
    if is_url(path):
        return named_reader(path) == "dicom"
    try:
        return (_signed(_head(path)) or named_reader(path)) == "dicom"
    except ReadError:
        return named_reader(path) in (None, "dicom")


def why_no_image(path: str) -> str | None:
    """Why a file of a folder is taken for no image unless it is named; None where it is one.

    Masks and overviews beside a raster are part of it; JPEG 2000 and VRT have to be named.
    """
    suffix = _suffix(path)
    if suffix in NAMED:
        return f"{suffix} not named"
    if suffix in BESIDE and Path(path).with_suffix("").exists():
        return "mask or overviews of another file"
    known = any(suffix in reader.suffixes for reader in READERS.values())
    try:
        if (not known or suffix in READERS["dicom"].suffixes) and NO_IMAGE.match(_head(path)):
            return "DICOM without an image"
        return None if known or identify(path) is not None else "no known image format"
    except ReadError:
        return None if known else "no known suffix, and not readable"


def parts_beside(path: str) -> tuple[str, ...]:
    """Other files that are a part of this one: the mask of a TIFF, the sources of a VRT."""
    suffix = _suffix(path)
    if suffix == VRT_SUFFIX:
        return sources_of(path)
    if not any(suffix in READERS[name].suffixes for name in ("tiff", "raster")):
        return ()
    mask = path + MASK_SUFFIX
    return (mask,) if Path(mask).is_file() else ()


def known_suffixes() -> frozenset[str]:
    """Every suffix that some reader claims, lower case with the dot."""
    return frozenset(suffix for reader in READERS.values() for suffix in reader.suffixes)


def _suffix(path: str) -> str:
    """In lower case; hundreds of thousands of files are asked for theirs."""
    return splitext(path)[1].lower()  # noqa: PTH122 (a Path costs ten times as much)


def _signed(head: bytes) -> str | None:
    return next((name for name, r in READERS.items() if r.signature.match(head)), None)


def _ends(path: str, suffixes: tuple[str, ...]) -> bool:
    """Compare the last suffix, or the last two (`.nii.gz`)."""
    found = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    return any("".join(found[at:]) in suffixes for at in range(len(found)))


def _head(path: str) -> bytes:
    with reading(path, "image") as file:
        head = file.read(HEAD)
        if head.startswith(GZIP):
            with suppress(zlib.error):
                packed = head + file.read(DEFLATED)
                head = GZIP + zlib.decompressobj(wbits=31).decompress(packed, HEAD)
    return head

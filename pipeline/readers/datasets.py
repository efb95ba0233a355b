"""Raster files as GDAL opens them: with one driver, at the place of a page, objects by ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, BinaryIO, cast

from pipeline.errors import MissingDependency, ReadError
from pipeline.gdal import CACHE, session
from pipeline.ranges import Handle, Ranges, exists, held
from pipeline.readers.decoding import decoding
from pipeline.readers.strips import Absent, absent, check_strips
from pipeline.readers.tiff import Tiff, pages
from pipeline.readers.vrt import MASK_SUFFIX, VRT_SUFFIX, plain_vrt

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from tifffile import TiffPage

_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Dataset:
    """What GDAL is asked to open: a file by a driver; of a TIFF the page at an offset.

    path: the text itself of a VRT.
    """

    path: str
    driver: str
    offset: int | None = None

    def open(self, stack: ExitStack) -> DatasetReader:
        """Open it until the stack is closed. An object is read by ranges that Python fetches."""
        import rasterio

        ranges = held(self.path)
        if ranges is None:
            name = self._at(self.path)
            return stack.enter_context(rasterio.open(name, driver=self.driver, sharing=False))
        opener = _Opener(ranges, f"{next(_NUMBERS)}/{self.path}")
        whole = rasterio.open(opener.name, driver=self.driver, sharing=False, opener=opener)
        if self.offset is None:
            return stack.enter_context(whole)
        with whole:
            name = self._at(whole.name)
            return stack.enter_context(rasterio.open(name, driver=self.driver, sharing=False))

    def _at(self, path: str) -> str:
        """Its place in the file, by which GDAL looks for nothing beside it."""
        return path if self.offset is None else f"GTIFF_DIR:off:{self.offset}:{path}"


@dataclass(frozen=True, slots=True)
class Part:
    """One page: its dataset, its mask where that is another one, and what a sparse file omits."""

    dataset: Dataset
    mask: Dataset | None = None
    absent: Absent | None = None


@contextmanager
def gdal(path: str, cache: int = CACHE) -> Iterator[None]:
    """Run GDAL calls about a file; only ReadError comes out of the block."""
    with decoding(path, "raster"):
        _refuse_name(path)
        try:
            with session(cache=cache):
                yield
        except MissingDependency as error:
            raise ReadError("dependency", str(error)) from error


def _refuse_name(path: str) -> None:
    """Refuse what GDAL takes for a file system of its own, or rasterio cannot hand to it."""
    if path.startswith("/vsi"):
        raise ReadError(
            "unsupported", "below a folder /vsi.., which GDAL takes for its own; move it"
        )
    if any("\ud800" <= char <= "\udfff" for char in path):
        raise ReadError(
            "unsupported", "a name that is not UTF-8, which GDAL needs; rename the file"
        )


@contextmanager
def parts_of(path: str) -> Iterator[Iterator[Part]]:
    """The pages of a file, parsed as they are asked for."""
    with decoding(path, "raster") as file:
        head = file.read(16)
    if not Tiff.signature.match(head):
        if path.lower().endswith(VRT_SUFFIX):
            yield iter([Part(Dataset(plain_vrt(path), "VRT"))])
        else:
            yield iter([Part(Dataset(path, "JP2OpenJPEG"))])
        return
    with pages(path) as found:
        yield (_tiff_part(path, page, mask) for page, mask in found)


def _tiff_part(path: str, page: TiffPage, inside: TiffPage | None) -> Part:
    check_strips(page)
    mask = None if inside is None else Dataset(path, "GTiff", inside.offset)
    if exists(beside := path + MASK_SUFFIX):
        mask = Dataset(beside, "GTiff")
    return Part(Dataset(path, "GTiff", page.offset), mask, absent(page))


class _Opener:
    """One object as rasterio hands it to GDAL: `rasterio.abc.FileContainer`, with nothing beside.

    name: of no other one, and all that GDAL learns of it.
    """

    def __init__(self, ranges: Ranges, name: str) -> None:
        from rasterio.abc import FileContainer

        FileContainer.register(type(self))
        self.ranges, self.name = ranges, name

    def open(self, path: str, _mode: str = "r", **_: object) -> BinaryIO:
        """A handle of its own on the object."""
        if path != self.name:
            raise FileNotFoundError(path)
        return cast("BinaryIO", Handle(self.ranges))

    def isfile(self, path: str) -> bool:
        """Whether it is the object."""
        return path == self.name

    def isdir(self, _path: str) -> bool:
        """There are none."""
        return False

    def ls(self, _path: str) -> list[str]:
        """There is nothing else."""
        return []

    def mtime(self, _path: str) -> int:
        """A time, which nobody asks for."""
        return 0

    def size(self, path: str) -> int:
        """Bytes of the object."""
        return self.ranges.size if path == self.name else 0

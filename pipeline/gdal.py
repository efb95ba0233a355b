"""GDAL as it may run here: few drivers, no sidecar files, no network, a bounded cache, quiet.

GDAL opens a file with whatever driver likes its content, and some drivers read, write or connect to
what the content names. So whoever opens a file names its driver, and while a file is open for us no
driver is there but those listed here: not even one file that another names is opened by them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from threading import Condition

from pipeline.errors import MissingDependency

DRIVERS = frozenset({"GTiff", "JP2OpenJPEG", "VRT"})
"""What may read a file."""

WRITERS = frozenset({"COG", "GTiff", "MEM"})
"""What is there while files are written: in another session, so that readers never meet it."""

CACHE = 128 << 20
"""Bytes of decoded blocks that a process keeps: what tiles side by side have in common."""

LARGEST_CACHE = 1 << 30
"""... of strips, which all tiles of a row have in common."""

OPTIONS: dict[str, str | int] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # as if nothing lay beside the file
    "GDAL_PAM_ENABLED": "NO",
    # No world files. PAM, which is off, is named because JPEG 2000 else has an unset transform.
    "GDAL_GEOREF_SOURCES": "PAM,INTERNAL",
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",  # no name of a remote file equals it
    "GDAL_NUM_THREADS": 1,
}


FAILURE = 3  # GDAL's CE_Failure; below it are warnings


class GdalError(Exception):
    """What GDAL itself said of a file, not what was made of it on the way up."""


def require() -> None:
    """Raise MissingDependency without rasterio."""
    try:
        import rasterio  # noqa: F401
    except ImportError as error:
        message = "georeferenced rasters need rasterio; pip install 'filterbank[geo]' and run again"
        raise MissingDependency(message) from error


@contextmanager
def session(drivers: frozenset[str] = DRIVERS, cache: int = CACHE) -> Iterator[None]:
    """Run GDAL calls within these limits; its warnings go to the logger `rasterio`.

    cache: bytes of decoded blocks that the process may keep from now on.

    A session with other drivers waits until the ones before it have ended, so never open it inside
    one.

    Raises
    ------
    MissingDependency
        Without rasterio.
    GdalError
        For every error of rasterio and GDAL within the block.
    """
    require()
    from rasterio import Env
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.session import DummySession

    with Env(DummySession(), **OPTIONS | {"GDAL_CACHEMAX": cache}), _DRIVERS.only(drivers):
        try:
            yield
        except (RasterioError, CPLE_BaseError) as error:
            raise GdalError(_first_cause(error)) from error


@contextmanager
def writing() -> Iterator[None]:
    """Run GDAL calls that write, in a session of their own drivers. Raises as `session` does.

    What GDAL says while it closes a file counts too; rasterio does not listen to that, and the last
    bytes may be those that the disk had no room for.
    """
    with session(WRITERS):
        library = _library()
        library.CPLErrorReset()
        yield
        if library.CPLGetLastErrorType() >= FAILURE:
            raise GdalError(library.CPLGetLastErrorMsg().decode(errors="replace"))


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


class _Drivers:
    """GDAL's list of drivers, which is one for the process: short while anyone is inside.

    rasterio has no word for it, and GDAL_SKIP asks for the names of all that this build of GDAL
    may bring along.
    """

    def __init__(self) -> None:
        self._turn, self._inside = Condition(), 0
        self._names: frozenset[str] = frozenset()
        self._dropped: list[int] = []

    @contextmanager
    def only(self, names: frozenset[str]) -> Iterator[None]:
        with self._turn:
            self._turn.wait_for(lambda: not self._inside or self._names == names)
            self._inside += 1
            self._names = names
            self._drop()
        try:
            yield
        finally:
            with self._turn:
                self._inside -= 1
                while self._dropped and not self._inside:
                    _library().GDALRegisterDriver(self._dropped.pop())
                self._turn.notify_all()

    def _drop(self) -> None:
        library = _library()
        for index in reversed(range(library.GDALGetDriverCount())):
            driver = library.GDALGetDriver(index)
            if library.GDALGetDriverShortName(driver).decode() not in self._names:
                library.GDALDeregisterDriver(driver)
                self._dropped.append(driver)


_DRIVERS = _Drivers()


@cache
def _library() -> ctypes.CDLL:
    """GDAL itself, found through what is linked with it."""
    library = ctypes.CDLL(import_module("rasterio._env").__file__)
    library.GDALGetDriver.restype = ctypes.c_void_p
    library.GDALGetDriverShortName.restype = ctypes.c_char_p
    library.GDALGetDriverShortName.argtypes = [ctypes.c_void_p]
    library.GDALDeregisterDriver.argtypes = [ctypes.c_void_p]
    library.GDALRegisterDriver.argtypes = [ctypes.c_void_p]
    library.CPLGetLastErrorMsg.restype = ctypes.c_char_p
    return library

"""What a decoder raises, warns or logs, and what that means for the image: the one place."""

from __future__ import annotations

import errno
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import FailureKind, ReadError
from pipeline.ranges import opened

LOGGERS = tuple(
    logging.getLogger(name)
    for name in ("tifffile", "imagecodecs", "netpbmfile", "pydicom", "rasterio")
)

# A seek to a place that no file has is the header's fault, not the disk's.
BAD_SEEK = (errno.EINVAL, errno.EOVERFLOW)

# Notes after which the pixels, or the list of pages, cannot be trusted. The numbers are the TIFF
# tags that decide what a sample means (6.0 specification; 42113 is GDAL_NODATA): a decoder that
# cannot read one goes on with its default. Everything else is about metadata and is dropped.
SUSPECT = re.compile(
    r"Truncated File Read|corrupted (?:tag list|strip|tile)|invalid page offset|"
    r"invalid offset to page|circular reference|expected \d+ segments|"
    r"Premature end of JPEG|Corrupt JPEG data: (?:premature end|bad Huffman)|"
    r"<tifffile\.TiffTag (?:25[4-9]|262|266|273|27[7-9]|284|317|32[02345]|33[89]|347|42113) @"
)
GDAL_NAME = re.compile(r"/vsiriopener_[0-9a-f]+/[0-9]+/")
"""What stands before the name of an object that is read by ranges."""
UNSUPPORTED = re.compile(
    r"not supported|unsupported|not implemented|is not a known|cannot handle|Python objects|"
    r"missing codec",
    re.IGNORECASE,
)
LIMIT = re.compile(r"exceeds user limit|too large|exceeds limit", re.IGNORECASE)


@contextmanager
def decoding(path: str, form: str, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file for a decoder of the format `form`; only ReadError comes out of the block.

    private: what the decoder says stays unsaid, as it may quote a person's data from the file.

    Raises
    ------
    ReadError
        `io` where the system refuses; `limit` where the decoder refuses the size, or memory ends;
        `unsupported` where the decoder says so; `corrupt` for any other exception and for
        warnings and log records that put the pixels in doubt.
    """
    notes: list[str] = []
    with reading(path, form, private=private) as file, _listen(notes):
        yield file
    for note in notes:
        if not private and SUSPECT.search(note):
            raise ReadError("corrupt", f"damaged {form} file: {_clean(note, path)}")


@contextmanager
def reading(path: str, form: str, *, private: bool = False) -> Iterator[BinaryIO]:
    """As `decoding`, for what neither warns nor logs: bytes as they are. Raises ReadError."""
    try:
        with opened(path) as file:
            yield file
    except ReadError:
        raise
    except Exception as error:
        kind = _kind(error)
        said = "" if private else f": {_clean(str(error), path)}"
        message = _message(kind, error, said, form)
        raise ReadError(kind, message) from (None if private else error)


@contextmanager
def _listen(notes: list[str]) -> Iterator[None]:
    """Collect warnings and log records instead of showing them."""
    ear = _Ear(notes)
    before = [logger.propagate for logger in LOGGERS]
    for logger in LOGGERS:
        logger.addHandler(ear)
        logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
            notes.extend(str(warning.message) for warning in caught)
    finally:
        for logger, propagate in zip(LOGGERS, before, strict=True):
            logger.removeHandler(ear)
            logger.propagate = propagate


class _Ear(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append(record.getMessage())


def _kind(error: Exception) -> FailureKind:
    if isinstance(error, OSError) and error.errno is not None and error.errno not in BAD_SEEK:
        return "io"
    if isinstance(error, MemoryError) or LIMIT.search(str(error)):
        return "limit"
    if isinstance(error, NotImplementedError) or UNSUPPORTED.search(str(error)):
        return "unsupported"
    return "corrupt"


def _message(kind: FailureKind, error: Exception, said: str, form: str) -> str:
    text = f"{type(error).__name__}{said}"
    if kind == "io" and isinstance(error, OSError):
        return f"cannot be opened or read: {error.strerror}"
    if kind == "limit":
        return f"larger than the {form} decoder takes ({text}); cut it into smaller files"
    if kind == "unsupported":
        return f"a kind of {form} that is not read here ({text}); convert the file"
    return f"damaged {form} file ({text}); copy it again from its source"


def _clean(text: str, path: str) -> str:
    """Drop what differs between machines and runs: the path's folders and memory addresses."""
    named = GDAL_NAME.sub("", text).replace(path, Path(path).name)
    return " ".join(re.sub(r" at 0x[0-9a-fA-F]+", "", named).split())[:300]

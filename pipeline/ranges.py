"""Objects that are read where they lie: of each no more than the parts that somebody asks for.

Readers take paths, so a process has a list, by URL, of the objects that it has open. Where a store
can tell, none is mixed with another that took its place: parts are of the one that was opened.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from pipeline.errors import ReadError
from pipeline.storage import asking, is_url, object_at

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from pipeline.types import Member

CHANGED = "the file changed after it was listed; run again when it is at rest"


_numbers = count()
"""Of the objects that this process opens: of addresses some come again, after what had them."""


class Ranges:
    """An object that is open, in this process.

    error: why a part could not be read; from then on there are no others. Decoders make their own
    sense of a file that ends early, and GDAL has no way to hear why, so who asks for the file says
    it in the end.
    """

    def __init__(self, url: str, size: int, mtime_ns: int) -> None:
        """Raises ReadError: `io`, or `changed` for an object that is not as it was listed."""
        self.size, self.pid, self.number = size, os.getpid(), next(_numbers)
        self.error: ReadError | None = None
        path = object_at(url)
        try:
            before = path.stat()
            self._file = path.open(parts=True)
        except OSError as error:
            raise ReadError("io", error.strerror or str(error)) from error
        second = 10**9  # HTTP has no finer times, but listings may
        if (before.st_size, before.st_mtime_ns // second) != (size, mtime_ns // second):
            self.close()
            raise ReadError("changed", CHANGED)

    def read(self, start: int, count: int) -> bytes:
        """Bytes of the object from a place on; fewer at its end, and none after an error."""
        if self.error is not None:
            return b""
        try:
            with asking():
                self._file.seek(start)
                return self._file.read(count)
        except OSError as error:
            replaced = isinstance(cause := error.__cause__, OSError) and cause.errno == errno.EBUSY
            said = error.strerror or str(error)
            self.error = ReadError("changed", CHANGED) if replaced else ReadError("io", said)
            return b""

    def close(self) -> None:
        """Forget its parts."""
        self._file.close()


class Handle(io.RawIOBase):
    """A place in an object, as files have it."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges, self._at = ranges, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes before the place."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to another place, which may lie beyond the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.ranges.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._at = base + offset
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as much as there is room for."""
        view = memoryview(buffer).cast("B")
        found = self.ranges.read(self._at, len(view))
        view[: len(found)] = found
        self._at += len(found)
        return len(found)


_open: dict[str, Ranges] = {}
"""What is open, by URL. A fork of a process has none of it: connections are its parent's."""


def take(member: Member) -> None:
    """Open the objects of a member, for as long as they are kept. Raises ReadError."""
    listed = member.parts or ((member.bytes, member.mtime_ns),)
    for url, (size, time) in zip(member.paths, listed, strict=True):
        if held(url) is None:
            _open[url] = Ranges(url, size, time)


def keep_only(urls: Collection[str]) -> None:
    """Forget all other objects."""
    for url in _open.keys() - urls:
        ranges = _open.pop(url)
        if ranges.pid == os.getpid():
            with suppress(OSError):
                ranges.close()


def held(path: str) -> Ranges | None:
    """The object of a URL that is open; None for others, and for files."""
    found = _open.get(path)
    return found if found is not None and found.pid == os.getpid() else None


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """A file, or an object that is open. Raises OSError; ReadError where parts were missing."""
    ranges = held(path)
    if ranges is None:
        with Path(path).open("rb") as file:
            yield file
        return
    try:
        yield cast("BinaryIO", Handle(ranges))
    finally:
        if ranges.error is not None:
            raise ranges.error


def exists(path: str) -> bool:
    """Whether there is a file, or an object that is open."""
    return held(path) is not None if is_url(path) else Path(path).exists()


def stamp(path: str) -> tuple[int, ...]:
    """What tells a file from one that it was before; nothing for none."""
    if (ranges := held(path)) is not None:
        return ranges.pid, ranges.number
    try:
        status = Path(path).stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

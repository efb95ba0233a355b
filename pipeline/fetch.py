"""Objects of a store -> files of this machine, for as long as somebody reads them.

Readers take paths. So each process that reads fetches the files of an image into a folder of its
own, and deletes them when it has read them; those of a scene when it comes to the next image. The
disk holds one image per process. Of large rasters the disk holds nothing: they are read by ranges.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path

from pipeline import ranges
from pipeline.errors import ReadError
from pipeline.storage import is_url, object_at, private
from pipeline.types import Member, Source

LARGE = 4 << 20
"""Bytes above which an object that can be read in parts is not fetched: one request is cheaper."""
IN_PARTS = (".tif", ".tiff", ".geotiff", ".gtiff", ".gtif", ".btf", ".tf8", ".jp2", ".j2k")
"""What the readers of windows read."""


@contextmanager
def fetched(source: Source, most: int | None = None, *, keep: bool = False) -> Iterator[Source]:
    """A source whose files can be read: on this machine, or large ones by ranges.

    Itself, where there is nothing to fetch. keep: they may be asked for again at once. Raises
    ReadError: `io`, `changed` for an object that is not what was listed, and `limit` for one of
    more than `most` bytes that would have to be fetched.
    """
    if not any(is_url(member.path) for member in source.files):
        yield source
        return
    far = {member for member in source.members if _is_read_in_parts(member, source)}
    near = [m for m in source.files if is_url(m.path) and m not in far]
    for member in near:
        if most is not None and member.bytes > most:
            message = f"object of {member.bytes} bytes is over limits.bytes ({most})"
            raise ReadError("limit", message)
    shelf = _shelf()
    shelf.keep_only(near)
    ranges.keep_only({url for member in far for url in member.paths})
    try:
        for member in far:
            ranges.take(member)
        local = {m: shelf.take(m) if m in near else m for m in source.files}
        yield replace(
            source,
            members=tuple(local[member] for member in source.members),
            masks=tuple((rater, local[member]) for rater, member in source.masks),
            qa=source.qa and local[source.qa],
        )
    except OSError as error:
        raise ReadError("io", error.strerror or str(error)) from error
    finally:
        if not keep:
            shelf.keep_only(())
            ranges.keep_only(())


def _is_read_in_parts(member: Member, source: Source) -> bool:
    """Whether a member is read where it lies: its header, and windows of a large raster."""
    large = is_url(member.path) and member.bytes > LARGE
    windowed = source.info is None or source.info.windowed
    return large and windowed and member.path.lower().endswith(IN_PARTS)


class _Shelf:
    """The files that a process has fetched; each in a folder with what lies beside it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{_prefix()}{self.pid}-", dir=private()))
        self.held: dict[Member, Member] = {}

    def keep_only(self, members: Sequence[Member]) -> None:
        for member in [*self.held]:
            if member not in members:
                shutil.rmtree(Path(self.held.pop(member).path).parent, ignore_errors=True)
        with suppress(OSError):  # something is left
            self.folder.rmdir()

    def take(self, member: Member) -> Member:
        if member not in self.held:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            try:
                self.held[member] = _fetch(member, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return self.held[member]

    def close(self) -> None:
        if self.pid == os.getpid():
            shutil.rmtree(self.folder, ignore_errors=True)


_own: list[_Shelf] = []
"""The shelf of this process, once it has fetched something."""


def _shelf() -> _Shelf:
    """This process's shelf; what a killed one left goes when another one gets its own."""
    if not _own or _own[0].pid != os.getpid():
        for folder in private().glob(f"{_prefix()}*"):
            if not Path("/proc", folder.name.split("-")[2]).exists():
                shutil.rmtree(folder, ignore_errors=True)
        _own[:] = [_Shelf()]
        Finalize(None, _own[0].close, exitpriority=1)  # children have no atexit
    return _own[0]


def _prefix() -> str:
    """What folders are called of processes that know each other's ids."""
    return f"in-{Path('/proc/self/ns/pid').stat().st_ino}-"


def _fetch(member: Member, folder: Path) -> Member:
    paths = [_get(url, folder) for url in member.paths]
    listed = member.parts or ((member.bytes, member.mtime_ns),)
    for path, (size, time) in zip(paths, listed, strict=True):
        if path.stat().st_size != size:
            raise ReadError("changed", ranges.CHANGED)
        os.utime(path, ns=(time, time))
    return replace(member, path=str(paths[0]), beside=tuple(map(str, paths[1:])))


def _get(url: str, folder: Path) -> Path:
    source = object_at(url)
    target = folder / source.name
    before = source.stat()
    source.get(target)
    if source.stat() != before:
        message = "the file changed while it was read; run again when it is at rest"
        raise ReadError("changed", message)
    return target

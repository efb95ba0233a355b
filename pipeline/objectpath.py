"""A place in an object store that answers as a path does.

An object store has no folders, no renames and no locks. It puts, copies and deletes whole objects,
each of these at once or not at all, lists what it holds as it is now, and creates an object only
where there is none: `create`. What keeps results whole there is built on that alone.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import MissingDependency, WriteError

NEEDS = {"s3": "'filterbank[s3]'", "gs": "'filterbank[gcs]'", "memory": "fsspec"}
"""Protocols of object stores, and what pip installs for each."""


_STREAM: Mapping[str, Any] = {"block_size": 8 << 20, "cache_type": "readahead"}
_PARTS: Mapping[str, Any] = {
    "block_size": 1 << 18,
    "cache_type": "blockcache",
    "cache_options": {"maxblocks": 64},
}
"""What one request asks for, and what is kept of it, as fsspec names it."""


class StoreError(WriteError, OSError):
    """A store that does not answer, or refuses: look at the network, bucket and credentials."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What is asked of an object; `os.stat_result` has the same names."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class ObjectPath:
    """A place in an object store: methods of `pathlib.Path`, as far as an output folder asks.

    key: bucket and path. Raises OSError, as a path does, and MissingDependency.
    """

    protocol: str
    key: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.protocol, f"{self.key}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self.key)

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def parent(self) -> ObjectPath:
        """What it is directly below."""
        return ObjectPath(self.protocol, posixpath.dirname(self.key))

    def absolute(self) -> ObjectPath:
        """Itself."""
        return self

    def relative_to(self, root: ObjectPath) -> Path:
        """The path from a place above."""
        return Path(self.key).relative_to(root.key)

    @property
    def store(self) -> Any:
        """The fsspec file system, which never answers a listing from memory."""
        import fsspec

        try:
            return fsspec.filesystem(self.protocol, use_listings_cache=False)
        except ImportError as error:
            need = NEEDS[self.protocol]
            message = f"{self.protocol}:// needs a library: pip install {need}"
            raise MissingDependency(message) from error

    # ------------------------------------------------------------ questions
    def exists(self) -> bool:
        """Whether there is an object here, or one below."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is an object here."""
        return self._kind() == "file"

    def _kind(self) -> str | None:
        # fsspec's own `exists` and `isfile` answer no where a store does not answer
        with asking():
            try:
                return str(self.store.info(self.key)["type"])
            except FileNotFoundError:
                return None

    def is_dir(self) -> bool:
        """Whether there is an object below."""
        return any(True for _ in self.iterdir())

    def stat(self) -> Stat:
        """Size and time of an object."""
        with asking():
            return _stat(self.store.info(self.key))

    def iterdir(self) -> Iterator[ObjectPath]:
        """What is directly below."""
        with asking():
            try:
                found = self.store.ls(self.key, detail=False)
            except FileNotFoundError:
                return
        for key in found:
            if (path := ObjectPath(self.protocol, key.strip("/"))) != self:
                yield path

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """What is directly below and has such a name."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[ObjectPath]:
        """Every object below that has such a name."""
        return (
            self / name for name in self.sizes() if fnmatchcase(posixpath.basename(name), pattern)
        )

    def sizes(self) -> dict[str, int]:
        """Sizes of all objects below by their path from here, from one listing."""
        return {name: one.st_size for name, one in self.stats().items()}

    def stats(self) -> dict[str, Stat]:
        """Sizes and times of all objects below by their path from here, from one listing."""
        with asking():
            found = self.store.find(self.key, detail=True)
        below = f"{self.key}/"
        pairs = ((key.strip("/"), info) for key, info in found.items())
        return {k.removeprefix(below): _stat(info) for k, info in pairs if k.startswith(below)}

    # ------------------------------------------------------------ reading
    def read_bytes(self) -> bytes:
        """All of an object."""
        with asking():
            return bytes(self.store.cat_file(self.key))

    def read_text(self) -> str:
        """All of an object, which is UTF-8."""
        return self.read_bytes().decode()

    def open(self, mode: Literal["rb"] = "rb", *, parts: bool = False) -> BufferedReader:
        """An object as a file, of which only what is asked for is read.

        parts: here and there, and not from one end to the other. Where the store can tell, nothing
        is read of another object that took its place.
        """
        cache = _PARTS if parts else _STREAM
        with asking():
            found: BufferedReader = self.store.open(self.key, mode, **cache)
        return found

    def get(self, target: Path) -> None:
        """Copy an object to a local file."""
        with asking():
            self.store.get_file(self.key, str(target))

    # ------------------------------------------------------------ changes
    def write_bytes(self, data: bytes) -> None:
        """Put an object, whole or not at all."""
        with asking():
            self.store.pipe_file(self.key, data)

    def create(self, data: bytes) -> bool:
        """Put an object where there is none, and say whether that was so.

        data: no other writer's, because what stands there afterwards decides: stores word their
        refusals differently, and an answer that was lost is asked for again.
        """
        try:
            with asking():
                self.store.pipe_file(self.key, data, mode="create")
        except OSError:
            try:
                return self.read_bytes() == data
            except FileNotFoundError:
                pass
            raise
        return True

    def put(self, files: Mapping[str, Path]) -> None:
        """Copy local files to places below, many at once."""
        if files:
            with asking():
                self.store.put([*map(str, files.values())], [f"{self.key}/{n}" for n in files])

    def copy(self, names: Sequence[str], target: ObjectPath) -> None:
        """Copy objects below to below another place, in the store, many at once."""
        if names:
            with asking():
                self.store.copy(
                    [f"{self.key}/{n}" for n in names], [f"{target.key}/{n}" for n in names]
                )

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object."""
        try:
            with asking():
                self.store.rm_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def clear(self) -> None:
        """Delete every object below."""
        try:
            with asking():
                self.store.rm(self.key, recursive=True)
        except FileNotFoundError:
            pass

    def abort_uploads(self) -> None:
        """Forget the parts of uploads that a killed process began below: they are paid for."""
        if self.protocol != "s3":  # others forget them by themselves
            return
        bucket, _, prefix = self.key.partition("/")
        asked = {"Bucket": bucket, "Prefix": f"{prefix}/"}
        with asking():
            while True:
                page = self.store.call_s3("list_multipart_uploads", **asked)
                for upload in page.get("Uploads", ()):
                    name = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    self.store.call_s3("abort_multipart_upload", **name)
                if not page.get("IsTruncated"):
                    return
                asked |= {
                    "KeyMarker": page["NextKeyMarker"],
                    "UploadIdMarker": page["NextUploadIdMarker"],
                }


def fetch_all(files: Mapping[ObjectPath, Path]) -> None:
    """Copy objects of one store to local files, many at once. Raises OSError."""
    if files:
        with asking():
            next(iter(files)).store.get([path.key for path in files], [*map(str, files.values())])


def _stat(info: Mapping[str, Any]) -> Stat:
    time = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    seconds = time.timestamp() if hasattr(time, "timestamp") else float(time)
    return Stat(int(info["size"]), round(seconds * 1e6) * 1000)


@contextmanager
def asking() -> Iterator[None]:
    """Let every refusal of a store be an OSError: libraries have errors of their own."""
    try:
        yield
    except (FileNotFoundError, MissingDependency):
        raise
    except Exception as error:
        message = f"the object store refuses, or does not answer: {type(error).__name__}: {error}"
        raise StoreError(message) from error

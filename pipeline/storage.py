"""Where files lie: a local path, or a place in an object store that answers as a path does.

An object store has no folders, no renames and no locks. It puts, copies and deletes whole objects,
each of these at once or not at all, lists what it holds as it is now, and creates an object only
where there is none: `create`. What keeps results whole there is built on that alone.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pipeline.errors import MissingDependency, PlanError

_NEEDS = {"s3": "'filterbank[s3]'", "gs": "gcsfs", "memory": "fsspec"}
"""Protocols of object stores, and what pip installs for each."""

TMP = ".tmp"
"""Below the output folder: what is not committed."""


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
            need = _NEEDS[self.protocol]
            message = f"{self.protocol}:// needs a library: pip install {need}"
            raise MissingDependency(message) from error

    # ------------------------------------------------------------ questions
    def exists(self) -> bool:
        """Whether there is an object here, or one below."""
        with _asking():
            return bool(self.store.exists(self.key))

    def is_file(self) -> bool:
        """Whether there is an object here."""
        with _asking():
            return bool(self.store.isfile(self.key))

    def is_dir(self) -> bool:
        """Whether there is an object below."""
        return any(True for _ in self.iterdir())

    def stat(self) -> Stat:
        """Size and time of an object."""
        with _asking():
            return _stat(self.store.info(self.key))

    def iterdir(self) -> Iterator[ObjectPath]:
        """What is directly below."""
        with _asking():
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
        with _asking():
            found = self.store.find(self.key, detail=True)
        below = f"{self.key}/"
        pairs = ((key.strip("/"), info) for key, info in found.items())
        return {k.removeprefix(below): _stat(info) for k, info in pairs if k.startswith(below)}

    # ------------------------------------------------------------ reading
    def read_bytes(self) -> bytes:
        """All of an object."""
        with _asking():
            return bytes(self.store.cat_file(self.key))

    def read_text(self) -> str:
        """All of an object, which is UTF-8."""
        return self.read_bytes().decode()

    def open(self, mode: Literal["rb"] = "rb") -> BufferedReader:
        """An object as a file, of which only the parts asked for are read."""
        with _asking():
            found: BufferedReader = self.store.open(self.key, mode)
        return found

    def get(self, target: Path) -> None:
        """Copy an object to a local file."""
        with _asking():
            self.store.get_file(self.key, str(target))

    # ------------------------------------------------------------ changes
    def write_bytes(self, data: bytes) -> None:
        """Put an object, whole or not at all."""
        with _asking():
            self.store.pipe_file(self.key, data)

    def create(self, data: bytes) -> bool:
        """Put an object where there is none, and say whether that was so.

        data: no other writer's, because what stands there afterwards decides: stores word their
        refusals differently, and an answer that was lost is asked for again.
        """
        try:
            with _asking():
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
            with _asking():
                self.store.put([*map(str, files.values())], [f"{self.key}/{n}" for n in files])

    def copy(self, names: Sequence[str], target: ObjectPath) -> None:
        """Copy objects below to below another place, in the store, many at once."""
        if names:
            with _asking():
                self.store.copy(
                    [f"{self.key}/{n}" for n in names], [f"{target.key}/{n}" for n in names]
                )

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete an object."""
        try:
            with _asking():
                self.store.rm_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def clear(self) -> None:
        """Delete every object below."""
        try:
            with _asking():
                self.store.rm(self.key, recursive=True)
        except FileNotFoundError:
            pass

    def abort_uploads(self) -> None:
        """Forget the parts of uploads that a killed process began below: they are paid for."""
        if self.protocol != "s3":  # others forget them by themselves
            return
        bucket, _, prefix = self.key.partition("/")
        with _asking():
            found = self.store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            for upload in found.get("Uploads", ()):
                name = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                self.store.call_s3("abort_multipart_upload", **name)


Place: TypeAlias = Path | ObjectPath


def place(text: str | Place) -> Place:
    """What a path or URL names. Raises PlanError for a URL that filterbank cannot use."""
    if isinstance(text, ObjectPath):
        return text
    protocol, mark, key = str(text).partition("://")
    if not mark:
        return Path(text)
    if protocol in ("file", "local"):
        return Path(key)
    if protocol not in _NEEDS:
        known = ", ".join(f"{name}://" for name in ("file", *_NEEDS))
        message = f"{protocol[:40]}:// is no store that filterbank knows ({known})"
        raise PlanError(message)
    key = key.strip("/")
    if "@" in key.partition("/")[0]:
        message = (
            f"{protocol}:// with a user or password in it; leave credentials to the store's own "
            "environment variables or files"
        )
        raise PlanError(message)
    parts = key.split("/")
    if not key or re.search(r"[*?\[\]]", key) or any(part in ("", ".", "..") for part in parts):
        message = f"{text} names no place in a store: bucket and path, without . .. * ? [ ]"
        raise PlanError(message)
    return ObjectPath(protocol, key)


def object_at(url: str) -> ObjectPath:
    """The object of a URL that a listing gave."""
    protocol, _, key = url.partition("://")
    return ObjectPath(protocol, key)


def is_url(text: str) -> bool:
    """Whether a path names a place in a store, and is no file's."""
    return "://" in text


def glob(folder: Place, pattern: str) -> list[Place]:
    """What is directly in a folder and has such a name, in order."""
    found: list[Place] = [*folder.glob(pattern)]
    return sorted(found, key=str)


def local_of(path: Place) -> Path | None:
    """A path of this machine; None where it is none."""
    return path if isinstance(path, Path) else None


def is_within(path: str, folder: Place) -> bool:
    """Whether a path or URL names a folder, or something in it; links are followed."""
    if isinstance(folder, Path):
        return not is_url(path) and Path(os.path.realpath(path)).is_relative_to(
            os.path.realpath(folder)
        )
    return f"{path.rstrip('/')}/".startswith(f"{folder}/")


def scratch(root: Place) -> Path:
    """The local folder for what an output folder is made of before it is committed.

    For an object store it is one of this user's in the folder of temporary files (TMPDIR), the
    same in each run, so that the next one removes what a killed one left.
    """
    if isinstance(root, Path):
        return root / TMP
    return private() / hashlib.sha256(str(root).encode()).hexdigest()[:16]


def private() -> Path:
    """This user's folder for temporary files, which nobody else can read. Raises PlanError."""
    own = Path(tempfile.gettempdir()) / f"filterbank-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        message = f"{own} is somebody else's; set TMPDIR to a folder of your own"
        raise PlanError(message)
    return own


def arrow(path: Place) -> tuple[Path | str, Any]:
    """A place as pyarrow takes it: the path, and what it calls `filesystem`."""
    return (path, None) if isinstance(path, Path) else (path.key, path.store)


def _stat(info: Mapping[str, Any]) -> Stat:
    time = info.get("LastModified") or info.get("mtime") or info.get("created") or 0.0
    seconds = time.timestamp() if hasattr(time, "timestamp") else float(time)
    return Stat(int(info["size"]), round(seconds * 1e6) * 1000)


@contextmanager
def _asking() -> Iterator[None]:
    """Let every refusal of a store be an OSError: libraries have errors of their own."""
    try:
        yield
    except (OSError, MissingDependency):
        raise
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise OSError(message) from error

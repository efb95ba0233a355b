"""Where files lie: a local path, or a place in an object store."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pipeline.errors import PlanError
from pipeline.objectpath import NEEDS, fetch_all
from pipeline.objectpath import ObjectPath as ObjectPath
from pipeline.objectpath import Stat as Stat
from pipeline.objectpath import asking as asking

TMP = ".tmp"
"""Below the output folder: what is not committed."""
_TOGETHER = 256
"""So many objects are fetched at once."""

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
    if protocol not in NEEDS:
        known = ", ".join(f"{name}://" for name in ("file", *NEEDS))
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


def at(path: str) -> Place:
    """The file or object of a path or URL that a listing gave."""
    return object_at(path) if is_url(path) else Path(path)


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


def sizes(root: Place) -> Callable[[str], int | None]:
    """What tells the size of a file below a folder, None where it is missing. Raises OSError.

    A store is asked once, for all of them.
    """
    if isinstance(root, ObjectPath):
        return root.sizes().get

    def size_of(name: str) -> int | None:
        try:
            return (root / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    return size_of


def at_hand(paths: Sequence[Place]) -> Iterator[Path]:
    """The same files as paths of this machine, one after the other, under their own names.

    Of objects copies are fetched, many at once; they are gone when the next are asked for.
    """
    yield from (path for path in paths if isinstance(path, Path))
    objects = [path for path in paths if isinstance(path, ObjectPath)]
    for i in range(0, len(objects), _TOGETHER):
        with tempfile.TemporaryDirectory(dir=private()) as folder:
            near = {path: Path(folder) / path.name for path in objects[i : i + _TOGETHER]}
            fetch_all(near)
            yield from near.values()


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

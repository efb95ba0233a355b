"""Make a set of files appear under their final names, all of them or none.

Files are written and fsynced in `.tmp/<id>/`, then `.tmp/<id>.json` is renamed into place: it lists
every final name, in order, and what goes. From that moment the set is decided; the renames that
follow can be cut off anywhere, because `recover` finishes them. Without that journal the files in
`.tmp/<id>/` never were.

For an object store the files are written to a local folder first; `upload` does the rest. Over 300
lines, because what writes a journal and what recovers from it have to agree step by step.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline import upload
from pipeline.errors import WriteError
from pipeline.storage import TMP, ObjectPath, Place, scratch


@contextmanager
def writing(root: Place) -> Iterator[None]:
    """Name the folder and the reason where the system refuses to write. Raises WriteError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        path = error.filename2 or error.filename
        where = f" ({path})" if path and str(path) != str(root) else ""
        message = (
            f"cannot write to {root}: {reason}{where}; {_remedy(root, error.errno)}, "
            "and run again: what was committed stays"
        )
        raise WriteError(message) from error


def _remedy(root: Place, number: int | None) -> str:
    """What helps against an error of the system's."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free the disk"
    if isinstance(root, ObjectPath):
        return "look at the network and the bucket's permissions"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "allow it"
    if number in (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY):
        return "move away what stands there, or name another output.path"
    if number == errno.EFBIG:
        return "allow larger files (ulimit -f)"
    return "look at the disk, or name another output.path"


@contextmanager
def reading(path: Place) -> Iterator[None]:
    """Name what the system refuses to read, and why: that is no damage. Raises WriteError."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        message = (
            f"cannot read {error.filename or path}: {reason}; look at the disk or the network, and "
            "run again: what was committed stays"
        )
        raise WriteError(message) from error


class Staging:
    """The files of one commit before they have their final names."""

    def __init__(self, root: Place, name: str, room: str = "") -> None:
        self.root, self.name, self.room = root, name, room
        self.folder = scratch(root) / room / name
        if self.folder.exists():
            shutil.rmtree(self.folder)
        # whose room is gone has nobody to write for
        self.folder.mkdir(parents=not room or isinstance(root, ObjectPath))
        self.files: dict[str, tuple[int, str]] = {}

    def path(self, final: str) -> Path:
        """Where to write the file that will be `final`, a POSIX path below the root."""
        path = self.folder / final
        if not path.parent.is_dir():
            folder = self.folder  # which is not made again where its room is gone
            for part in Path(final).parent.parts:
                folder = folder / part
                folder.mkdir(exist_ok=True)
        return path

    def add(self, final: str) -> None:
        """Make a file that was written at `path(final)` durable, and record size and SHA-256."""
        with self.path(final).open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._settle(file)
            self.files[final] = (file.tell(), digest)

    def write(self, final: str, data: bytes) -> None:
        """Write and add a small file."""
        with self.path(final).open("wb") as file:
            file.write(data)
            file.flush()
            self._settle(file)
        self.files[final] = (len(data), hashlib.sha256(data).hexdigest())

    def _settle(self, file: IO[bytes]) -> None:
        """Wait until a file is on the disk, and let the system forget its pages.

        Results outgrow memory: there they would push out the images that are still to be read, and
        memory that a virtual machine has to ask its host for costs more than writing to it.
        """
        os.fsync(file.fileno())
        read_soon = isinstance(self.root, ObjectPath)
        if not read_soon and hasattr(os, "posix_fadvise"):  # macOS has none
            with suppress(OSError):  # a file system may not know of advice
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def commit(self, remove: Iterable[str] = ()) -> None:
        """Give every added file its final name, in the order added; delete what `remove` names.

        In a room they wait for `adopt`.
        """
        todo = {"files": list(self.files), "remove": sorted(set(remove) - set(self.files))}
        if isinstance(self.root, ObjectPath):
            upload.stage(self.root, self.name, self.room, self.folder, todo)
            if not self.room:
                upload.decide(self.root, self.name)
            _clear(self.folder, scratch(self.root))
            return
        for folder, _, _ in os.walk(self.folder):
            _sync(Path(folder))
        _replace(self.folder.with_name(f"{self.name}.json"), json.dumps(todo).encode())
        if not self.room:
            _finish(self.root, self.name)

    def discard(self) -> None:
        """Forget the files, unless their commit is decided: then `recover` finishes it."""
        if isinstance(self.root, ObjectPath):
            _clear(self.folder, scratch(self.root))
        elif not self.folder.with_name(f"{self.name}.json").exists():
            shutil.rmtree(self.folder, ignore_errors=True)


def _clear(folder: Path, top: Path) -> None:
    """Remove a folder, and those above it that are empty then, up to one of them."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        while folder != top:
            folder = folder.parent
            folder.rmdir()


def open_room(root: Place, room: str) -> None:
    """Make a place where a worker stages files that only `adopt` gives their final names."""
    if isinstance(root, ObjectPath):
        return
    (root / TMP / room).mkdir(parents=True)


def close_room(root: Place, room: str) -> None:
    """Forget what is staged in a room.

    In a folder a worker that still lives can stage nothing more; what it puts to a store, and
    what it wrote while the room was cleared, goes in the next recovery.
    """
    if isinstance(root, ObjectPath):
        upload.forget(root, room)
        return
    shutil.rmtree(root / TMP / room, ignore_errors=True)
    with suppress(OSError):
        (root / TMP).rmdir()


def adopt(root: Place, room: str, name: str) -> None:
    """Commit what a worker staged in its room; under the lock, by the process that holds it.

    The journal follows the files out of the room: as long as it has not, they never were.
    """
    if isinstance(root, ObjectPath):
        upload.decide(root, name, room)
        return
    shutil.rmtree(root / TMP / name, ignore_errors=True)
    for entry in (name, f"{name}.json"):
        (root / TMP / room / entry).rename(root / TMP / entry)
    _sync(root / TMP)
    if not _finish(root, name):
        message = f"cannot write to {root}: the journal of {name} is damaged; run again"
        raise WriteError(message)


def replace_file(path: Place, data: bytes) -> None:
    """Write a whole file under its name, durably: temporary name, fsync, rename, fsync."""
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, data)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def recover(root: Place) -> int:
    """Finish commits that were cut off, forget files that were never committed; count the former.

    Journals that no commit wrote are forgotten, too. Must run, under the lock, before anything else
    is written.
    """
    if isinstance(root, ObjectPath):
        shutil.rmtree(scratch(root), ignore_errors=True)
        return upload.recover(root)
    for stray in root.glob("?*.tmp"):  # of `replace_file`, cut off
        stray.unlink()
    folder = root / TMP
    if not folder.is_dir():
        return 0
    names = sorted(p.stem for p in folder.glob("*.json") if p.is_file())
    done = sum(_finish(root, name) for name in names)
    shutil.rmtree(folder, ignore_errors=True)
    return done


def damage(path: Place, size: int, digest: str) -> str | None:
    """What is wrong with a file that was committed with this size and SHA-256: the whole check.

    Raises WriteError for one that cannot be read, which may be whole.
    """
    with reading(path):
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return None
                return "damaged" if file.tell() == size else f"has {file.tell()} bytes, not {size}"
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except IsADirectoryError:
            return "is a folder"


def _finish(root: Path, name: str) -> bool:
    """Do what a journal says, and forget it; nothing, and False, where no commit wrote it."""
    journal = root / TMP / f"{name}.json"
    todo = upload.todo_of(journal.read_bytes())
    touched: dict[Path, None] = {}
    for final in todo["files"] if todo else ():
        source, target = root / TMP / name / final, root / final
        if source.exists():
            _make(target.parent, root)
            source.replace(target)
        touched[target.parent] = None
    for final in todo["remove"] if todo else ():
        target = root / final
        target.unlink(missing_ok=True)
        touched[_prune(target.parent, root)] = None
    for folder in touched:
        if folder.is_dir():
            _sync(folder)
    journal.unlink()
    shutil.rmtree(root / TMP / name, ignore_errors=True)
    with suppress(OSError):
        (root / TMP).rmdir()
    return todo is not None


def _make(folder: Path, root: Path) -> None:
    """Create a folder; its entry in every parent it has below the root is durable afterwards."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _sync(new.parent)


def _prune(folder: Path, root: Path) -> Path:
    """Remove folders that a deletion left empty, up to the kind of output; return the last one."""
    while folder.parent != root and folder != root:
        try:
            folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            break
        folder = folder.parent
    return folder


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

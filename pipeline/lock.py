"""Who may write to an output folder: one run at a time, and only where the folder is ours."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pipeline.writers.parquet as tables
from pipeline import lease
from pipeline.commit import writing
from pipeline.errors import Locked, PlanError, WriteError
from pipeline.storage import ObjectPath, Place


def refuse_foreign(root: Place) -> None:
    """Raise PlanError where a folder holds things but no run has ever left its mark."""
    if not root.is_dir():
        return
    names = {path.name for path in root.iterdir()}  # once: another run may begin meanwhile
    if not names or ".lock" in names:
        return
    if any(map(tables.check_seal, (root / "images").glob("part-*.parquet"))):
        return  # a copy without hidden files
    message = (
        f"{root} is not empty and no output folder of filterbank, which would delete what is "
        "not its own; give results a folder of their own"
    )
    raise PlanError(message)


@contextmanager
def locked(root: Place) -> Iterator[None]:
    """Hold the folder for writing.

    Raises Locked, naming the holder, WriteError, also where the file system cannot lock, and
    PlanError where it is somebody else's.
    """
    if isinstance(root, ObjectPath):
        with ExitStack() as stack:
            with writing(root):
                refuse_foreign(root)
                stack.enter_context(lease.held(root))
            yield
        return
    with writing(root):
        refuse_foreign(root)
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 4096).decode(errors="replace").strip() or "another process"
            message = f"{root} is in use by {holder}; wait for it, or use --if-locked skip"
            raise Locked(message) from None
        except OSError as error:
            message = (
                f"cannot lock {root}: {os.strerror(error.errno or 0)}; mount its file system with "
                "locks (flock), or name another output.path"
            )
            raise WriteError(message) from error
        with writing(root):
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        yield
    finally:
        os.close(handle)

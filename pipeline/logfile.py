"""log.jsonl: a line of JSON for each event, in at most two files."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

from pipeline.storage import ObjectPath, Place

LOG, OLDER = "log.jsonl", "log.1.jsonl"
MOST = 16 << 20
"""A log of this many bytes is put aside when the next run starts, instead of the one before it."""

_EVERY = 30.0
"""Seconds for which lines wait that go to an object store, which can only write all anew."""


class Log:
    """The log of one run: all its lines lie together in one file. Raises OSError.

    Making it puts a long log aside, and cuts off a last line that was never finished.
    """

    def __init__(self, root: Place) -> None:
        self._path = root / LOG
        self._waiting: list[bytes] = []
        self._wrote = time.monotonic()
        if self._path.is_file():
            _tidy(root)

    def add(self, event: str, **details: object) -> None:
        """Append one line, all of it or nothing."""
        line = json.dumps({"time": stamp(time.time()), "event": event, **details}).encode() + b"\n"
        if isinstance(self._path, Path):
            _append(self._path, line)
            return
        self._waiting.append(line)
        if event == "end" or time.monotonic() - self._wrote > _EVERY:
            try:
                before = self._path.read_bytes()
            except FileNotFoundError:
                before = b""
            self._path.write_bytes(before + b"".join(self._waiting))
            self._waiting, self._wrote = [], time.monotonic()


def stamp(seconds: float) -> str:
    """A time, given in seconds since 1970, as text in UTC.

    >>> stamp(0)
    '1970-01-01T00:00:00Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _tidy(root: Place) -> None:
    path, older = root / LOG, root / OLDER
    if isinstance(path, ObjectPath) or isinstance(older, ObjectPath):
        if path.stat().st_size > MOST:
            older.write_bytes(path.read_bytes())
            path.unlink()
    elif path.stat().st_size > MOST:
        path.replace(older)
    elif not (lines := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, lines.rfind(b"\n") + 1)


def _append(path: Path, line: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(before)
            raise

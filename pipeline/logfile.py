"""log.jsonl: a line of JSON for each event, in at most two files."""

from __future__ import annotations

import errno
import json
import os
import time
from pathlib import Path

LOG, OLDER = "log.jsonl", "log.1.jsonl"
MOST = 16 << 20
"""A log of this many bytes is put aside when the next run starts, instead of the one before it."""


def rotate(root: Path) -> None:
    """Put a long log aside, and cut off a last line that was never finished.

    A run does so when it starts and not again, so that all its lines lie together.
    """
    path = root / LOG
    if not path.is_file():
        return
    if path.stat().st_size > MOST:
        path.replace(root / OLDER)
        return
    lines = path.read_bytes()
    if not lines.endswith(b"\n"):
        os.truncate(path, lines.rfind(b"\n") + 1)


def log(root: Path, event: str, **details: object) -> None:
    """Append one line, all of it or nothing. Raises OSError."""
    line = json.dumps({"time": stamp(time.time()), "event": event, **details}).encode() + b"\n"
    with (root / LOG).open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(before)
            raise


def stamp(seconds: float) -> str:
    """A time, given in seconds since 1970, as text in UTC.

    >>> stamp(0)
    '1970-01-01T00:00:00Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

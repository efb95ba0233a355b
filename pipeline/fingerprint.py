"""What tells whether the files of an image are still what they were: their times and bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from pipeline.errors import ReadError
from pipeline.types import Member


def stamp(members: Sequence[Member]) -> int:
    """The time of a file in nanoseconds; of several, a hash of all sizes and times, below zero.

    The latest of several times would hide a change of a file that is not the latest.
    """
    if len(members) == 1 and not members[0].parts:
        return members[0].mtime_ns
    each = [member.parts or ((member.bytes, member.mtime_ns),) for member in members]
    return -1 - (int.from_bytes(hashlib.sha256(repr(each).encode()).digest()[:8]) >> 1)


def fingerprint(members: Sequence[Member]) -> str:
    """SHA-256 over the bytes of every file a source is made of. Raises ReadError, kind `io`."""
    total = hashlib.sha256()
    for member in members:
        try:
            total.update(_hash(member))
        except OSError as error:
            raise ReadError("io", error.strerror or type(error).__name__) from error
    return total.hexdigest() if len(members) > 1 else _hash(members[0]).hex()


@lru_cache(maxsize=8)
def _hash(member: Member) -> bytes:
    """Remembered for a moment, because the pages of one file are sources of their own."""
    digests = []
    for path in member.paths:
        with Path(path).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return hashlib.sha256(b"".join(digests)).digest() if member.beside else digests[0]

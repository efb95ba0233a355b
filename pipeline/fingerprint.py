"""What tells whether the files of an image are still what they were: their times and bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from pipeline.errors import ReadError
from pipeline.storage import ObjectPath, Place, asking, at
from pipeline.types import Member

Given: TypeAlias = Sequence[tuple[str, str]]
"""What a name or a table says of an image besides its files, by column."""


def stamp(members: Sequence[Member], given: Given = ()) -> int:
    """The time of a file in nanoseconds; of several, a hash of all sizes and times, below zero.

    The latest of several times would hide a change of a file that is not the latest. What is given
    besides is in the hash, and what a manifest says of the files.
    """
    if len(members) == 1 and not members[0].parts and not members[0].digests and not given:
        return members[0].mtime_ns
    each: list[object] = [m.parts or ((m.bytes, m.mtime_ns),) for m in members]
    each += [member.digests for member in members if member.digests]
    each += given
    return -1 - (int.from_bytes(hashlib.sha256(repr(each).encode()).digest()[:8]) >> 1)


def fingerprint(members: Sequence[Member], given: Given = ()) -> str:
    """SHA-256 over the bytes of every file a source is made of, and of what is given besides.

    Raises ReadError, kind `io`; `corrupt` for files that differ from the manifest, and `incomplete`
    for those that it does not name.
    """
    total = hashlib.sha256()
    try:
        digests = [_hash(member) for member in members]
    except OSError as error:
        raise ReadError("io", error.strerror or type(error).__name__) from error
    for digest in digests:
        total.update(digest)
    files = total.hexdigest() if len(members) > 1 else digests[0].hex()
    return hashlib.sha256(f"{files}{[*given]}".encode()).hexdigest() if given else files


@lru_cache(maxsize=8)
def _hash(member: Member) -> bytes:
    """Remembered for a moment, because the pages of one file are sources of their own."""
    digests = [_digest(at(path)) for path in member.paths]
    for path, found, wanted in zip(member.paths, digests, member.digests, strict=False):
        if found.hex() != wanted:
            raise _differing(Path(path).name, wanted)
    return hashlib.sha256(b"".join(digests)).digest() if member.beside else digests[0]


def _digest(path: Place) -> bytes:
    """SHA-256 of a file, or of an object, of which nothing is kept."""
    with asking() if isinstance(path, ObjectPath) else nullcontext(), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
        read, size = file.tell(), file.seek(0, os.SEEK_END)
    if read < size:
        message = f"gave {read} of its {size} bytes and no more; look at its disk"
        raise ReadError("io", message)
    return digest


def _differing(file: str, wanted: str) -> ReadError:
    if not wanted:
        message = f"{file} is not in the manifest input.sha256, whose names start at the input root"
        return ReadError("incomplete", f"{message}; add its line")
    message = f"{file} differs from the manifest input.sha256; copy it again from its source"
    return ReadError("corrupt", message)

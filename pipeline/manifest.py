"""What a list of SHA-256 sums, as `sha256sum` writes it, says that files should be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError

_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](.+)", re.DOTALL)
_ESCAPES = {b"\\\\": b"\\", b"\\n": b"\n", b"\\r": b"\r"}


def read_manifest(file: str) -> Mapping[str, str]:
    """The sums of a file's lines: lower-case hexadecimal digits by name, relative to a folder.

    Lines are those of `sha256sum`, in text or binary mode; empty ones and comments (#) say nothing.

    Raises
    ------
    ConfigError
        With the place of each line that cannot be understood, or that says another sum of a name
        than one before it.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}; check input.sha256"
        raise ConfigError((message,)) from error
    found: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.removesuffix(b"\r")
        if not text or text.startswith(b"#"):
            continue
        parts = _LINE.fullmatch(text)
        if parts is None:
            problems.append(f"{file}:{number}: no line of sha256sum; write <64 hex digits>  <name>")
            continue
        name, digest = _name(parts[3], escaped=bool(parts[1])), parts[2].decode().lower()
        if found.setdefault(name, digest) != digest:
            problems.append(f"{file}:{number}: another sum of the same name; remove one")
    if problems:
        raise ConfigError(tuple(problems[:100]))
    return found


def _name(written: bytes, *, escaped: bool) -> str:
    if escaped:
        written = re.sub(rb"\\[\\nr]", lambda m: _ESCAPES[m[0]], written)
    return os.path.normpath(os.fsdecode(written))

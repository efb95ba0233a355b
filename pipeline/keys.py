"""Names of files -> keys of images -> names of output files. No byte of a name is lost."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

_MARKS = "%#\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
_UNSURE = re.compile(r"[^ !\"$&-~]")  # all but plain ASCII is looked at letter by letter
_LONGEST = 200

PICTURES = ("png", "geotiff", "nifti", "stac")
"""Folders that hold, for each image, a folder of files."""


def escape(name: str) -> str:
    """Write a relative path as a key: printable text from which `unescape` gets the bytes back.

    `%`, `#`, control characters, marks that reverse text, and bytes that are not UTF-8 become
    %XX, byte by byte.

    >>> escape("a/50% #1\\n.png")
    'a/50%25 %231%0A.png'
    """
    return _UNSURE.sub(_escape, name)


def _escape(match: re.Match[str]) -> str:
    char = match[0]
    if char in _MARKS or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp"):
        return "".join(f"%{byte:02X}" for byte in os.fsencode(char))
    return char


def unescape(key: str) -> str:
    """The relative path a key was made from, as Python spells it (surrogateescape)."""
    plain = re.sub(rb"%([0-9A-F]{2})", lambda m: bytes.fromhex(m[1].decode()), key.encode())
    return os.fsdecode(plain)


def picture_folder(key: str, kind: str = "png") -> str:
    """Where an image's pictures are: `png/<key>`, each part cut to what a file system holds."""
    return "/".join([kind, *(_shorten(part) for part in key.split("/"))])


def picture_part(label: str) -> str:
    """A band label as one part of a path."""
    safe = re.sub(r"[^\w.+-]|^\.+$", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), label)
    return _shorten(safe) or "%"


def _shorten(part: str) -> str:
    """At most 200 bytes; a longer part ends in 8 digits of its hash."""
    data = part.encode()
    if len(data) <= _LONGEST:
        return part
    digest = hashlib.sha256(data).hexdigest()[:8]
    return f"{data[: _LONGEST - 9].decode(errors='ignore')}-{digest}"

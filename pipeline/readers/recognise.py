"""Which reader a file belongs to: what its first bytes say, else what its name says."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path

from pipeline.readers.base import READERS
from pipeline.readers.dicom_header import NO_IMAGE

HEAD = 352
GZIP = b"\x1f\x8b"
DEFLATED = 1 << 16  # bytes of a gzipped file that surely hold its first HEAD


def identify(path: str) -> str | None:
    """Name the reader of a file, or None where neither signature nor suffix is known.

    The signature decides: a PNG called `.jpg` is read as PNG. A file that has a known suffix but
    no known signature, or that cannot be opened, gets the reader of its suffix, which will say
    what is wrong with it.
    """
    head = _head(path)
    for name, reader in READERS.items():
        if reader.signature.match(head):
            return name
    return next((n for n, reader in READERS.items() if _ends(path, reader.suffixes)), None)


def why_no_image(path: str) -> str | None:
    """Why a file of a folder is taken for no image unless it is named; None where it is one."""
    suffix = Path(path).suffix.lower()
    known = suffix in known_suffixes()
    if (not known or suffix in READERS["dicom"].suffixes) and NO_IMAGE.match(_head(path)):
        return "DICOM without an image"
    return None if known or identify(path) is not None else "no known image format"


def known_suffixes() -> frozenset[str]:
    """Every suffix that some reader claims, lower case with the dot."""
    return frozenset(suffix for reader in READERS.values() for suffix in reader.suffixes)


def _ends(path: str, suffixes: tuple[str, ...]) -> bool:
    """Compare the last suffix, or the last two (`.nii.gz`)."""
    found = [suffix.lower() for suffix in Path(path).suffixes[-2:]]
    return any("".join(found[at:]) in suffixes for at in range(len(found)))


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
            if head.startswith(GZIP):
                with suppress(zlib.error):
                    packed = head + file.read(DEFLATED)
                    head = GZIP + zlib.decompressobj(wbits=31).decompress(packed, HEAD)
    except OSError:
        return b""
    return head

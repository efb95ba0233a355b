"""Which reader a file belongs to: what its first bytes say, else what its name says."""

from __future__ import annotations

from pathlib import Path

from pipeline.readers.base import READERS

HEAD = 32


def identify(path: str) -> str | None:
    """Name the reader of a file, or None where neither signature nor suffix is known.

    The signature decides: a PNG called `.jpg` is read as PNG. A file that has a known suffix but
    no known signature, or that cannot be opened, gets the reader of its suffix, which will say
    what is wrong with it.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        head = b""
    for name, reader in READERS.items():
        if reader.signature.match(head):
            return name
    suffix = Path(path).suffix.lower()
    return next((name for name, reader in READERS.items() if suffix in reader.suffixes), None)


def known_suffixes() -> frozenset[str]:
    """Every suffix that some reader claims, lower case with the dot."""
    return frozenset(suffix for reader in READERS.values() for suffix in reader.suffixes)

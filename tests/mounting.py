"""File systems of a test's own: small, read-only, or cut off from power."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount or lock folders")


@contextlib.contextmanager
def mounted(folder: Path, *words: str | Path) -> Iterator[None]:
    """Mount something on a folder; skips the test, with the reason, where that is not allowed."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *words, folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"mount is not allowed here: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)

"""Folders that are dear to make and never changed: made once for all test processes."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Once:
    """Fills folders below `base`, which the processes of a test session share."""

    base: Path

    def __call__(self, name: str, fill: Callable[[Path], object]) -> Path:
        folder, unfinished = self.base / name, self.base / f"{name}.unfinished"
        with (self.base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                fill(unfinished)
                unfinished.rename(folder)
        return folder

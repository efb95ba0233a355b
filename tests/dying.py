"""What a process leaves of a folder when it dies: cheaper than killing one, and at every change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import patch

import pyarrow.parquet as pq

Left: TypeAlias = "dict[str, bytes | None]"
"""Files of a folder by name, with their bytes; folders have none."""


def look(root: Path) -> Left:
    """What a folder holds now, as far as it has reached the system."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(root.rglob("*"))
    }


def put(root: Path, left: Left) -> None:
    """Make a folder hold just this."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, data in left.items():
        if data is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(data)


def deaths(root: Path, act: Callable[[], object]) -> list[Left]:
    """Do something; what it would leave of a folder if it died before its first, second ... change.

    A rename, deletion, new folder, sync or batch of Parquet rows is a change; states that equal the
    one before are left out. What the process has not yet given to the system is not there, as
    little as after a kill.
    """
    states: list[Left] = []

    def noting(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Any, **named: Any) -> object:
            now = look(root)
            if not states or states[-1] != now:
                states.append(now)
            return real(*arguments, **named)

        return call

    with ExitStack() as patches:
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync"):
            patches.enter_context(patch.object(os, name, noting(getattr(os, name))))
        write = noting(pq.ParquetWriter.write_table)
        patches.enter_context(patch.object(pq.ParquetWriter, "write_table", write))
        act()
    return states

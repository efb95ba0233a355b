"""A file system without locks: no run begins where another one could not be kept out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from command import draw, filterbank, write_config
from tracing import Trace, inject, need_strace


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP"])
def test_a_folder_that_cannot_be_locked_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """As on NFS without its lock daemon."""
    need_strace()
    draw(tmp_path / "in/0.png", seed=0)
    root = tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", root)
    calls = Trace((), (str(root / ".lock"),))
    said = inject(calls, ["--trace=flock", f"--inject=flock:error={name}"], "run", config)
    assert (said.code, said.out) == (7, ""), said
    reason = os.strerror(getattr(errno, name))
    assert said.err == (
        f"filterbank: cannot lock {root}: {reason}; mount its file system with locks (flock), or "
        "name another output.path\n"
    )
    assert [path.name for path in root.iterdir()] == [".lock"]
    assert filterbank("run", config).code == 0

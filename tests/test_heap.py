"""Threads that compute share one heap: glibc gives back what a plane of another one lay in."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from command import draw, write_config

HEAPS = """
import ctypes, sys
from pipeline.cli import main

try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"heaps.xml", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="speaks to glibc")
def test_a_run_has_one_heap(tmp_path: Path) -> None:
    """Though numpy and torch start threads, of which each would have one of its own."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        draw(tmp_path / "in" / f"{i}.png", seed=i)
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out", run={"threads": 2}
    )
    command = [sys.executable, "-c", HEAPS, "run", str(config)]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (tmp_path / "heaps.xml").read_text().count("<heap nr=") == 1

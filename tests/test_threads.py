"""Threads that compute start no others: each has one of OpenMP, whatever a library thinks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from pathlib import Path
from pipeline.work import _pool
import torch

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

def work():
    before = threads()
    for dtype in (torch.float32, torch.float64):
        torch.ones(100, dtype=dtype).sqrt_()
    return threads() - before

torch.set_num_threads(1)  # as `configure` does, for the thread that it is called in
with _pool(1) as pool:
    print(pool.submit(work).result())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_a_root_wakes_no_second_thread() -> None:
    """One that MKL else wakes takes as long as 20,000 roots do."""
    alone = {**os.environ, "OMP_NUM_THREADS": "2"}  # one, in other tests
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=alone, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"

"""Threads that compute start no others: each has one of OpenMP, whatever a library thinks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from pipeline.work import _pool


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_root_wakes_no_second_thread(dtype: torch.dtype) -> None:
    """MKL's, of any size: as long as an OpenMP team takes to wake, it takes for 10,000 numbers."""

    def work() -> tuple[int, int]:
        before = len(os.listdir("/proc/self/task"))
        torch.ones(100, dtype=dtype).sqrt_()
        return before, len(os.listdir("/proc/self/task"))

    with _pool(1) as pool:
        before, after = pool.submit(work).result()
    assert before == after

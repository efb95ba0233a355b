"""What a program takes of the machine, with all that it starts."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple


class Spent(NamedTuple):
    """CPU and wall seconds of a command with all its children, and their largest peak in bytes."""

    cpu: float
    wall: float
    peak: int
    said: str


def measured(command: Sequence[str]) -> Spent:
    """Run a command to its end; what it says to stderr goes where it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        said, complaint = (file.seek(0) or file.read().decode() for file in (out, errors))
    if process.returncode:
        sys.exit(said + complaint)
    return Spent(used.ru_utime + used.ru_stime, wall, used.ru_maxrss << 10, said)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and the range in brackets."""
    median, least, most = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} [{least} - {most}]"

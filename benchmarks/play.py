"""Runs of the whole product in this process, on folders made for them: what one job costs.

A picture larger than a block repeats it, and the block is mirrored within itself: borders that
reflect go on with it, so what is right of the block is right of the largest picture.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import tifffile
from job import STATISTICS, Bank, Picture, configure, picture

from pipeline import cli

BLOCK = 1024
"""Pixels along the edge of what large pictures repeat."""
DIFFERENT = 8
"""Pictures of a folder that differ."""
RUNS = 3
"""The least number of runs of a job that is timed."""


@dataclass(frozen=True, eq=False)
class Point:
    """A job: x is what grows along its curve, among these."""

    x: int
    side: int
    images: int
    kernels: Bank
    statistics: Sequence[str] = STATISTICS
    threads: int = 1

    @property
    def pixels(self) -> float:
        """Of all images, in millions."""
        return self.images * self.side**2 / 1e6

    @property
    def copies(self) -> int:
        """How often the block stands in one picture."""
        return max(1, self.side // BLOCK) ** 2


def block(seed: int, side: int) -> Picture:
    """A picture beside its mirror images: its reflections beyond any border repeat it."""
    quarter = picture(seed, min(side, BLOCK) // 2)
    half = np.hstack([quarter, quarter[:, ::-1]])
    return np.vstack([half, half[::-1]])


def folder_of(root: Path, side: int, images: int) -> Path:
    """Tiled TIFF files, uncompressed; after the first few, the same ones under other names."""
    folder = root / f"in-{side}-{images}"
    if not folder.exists():
        folder.mkdir()
        files = [folder / f"{i:05}.tif" for i in range(images)]
        for i, file in enumerate(files):
            if i < DIFFERENT:
                repeats = (max(1, side // BLOCK),) * 2
                pixels = np.tile(block(i, side), repeats)
                tifffile.imwrite(file, pixels, tile=(min(side, 256),) * 2)
            else:
                file.hardlink_to(files[i % DIFFERENT])
    return folder


def run(config: Path, folder: Path, out: Path, threads: int) -> None:
    """`filterbank run` in this process; several threads have as many processes that read."""
    words = ["--input", folder, "--output", out, "--device", "cpu", "--threads", threads]
    words += ["--workers", threads if threads > 1 else 0]
    said = io.StringIO()
    with (
        patch.object(sys, "argv", ["filterbank", "run", str(config), *map(str, words)]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    if code:
        sys.exit(said.getvalue())


def cost(point: Point, clock: Callable[[], float], root: Path, long: float) -> tuple[float, Path]:
    """Seconds of a point, and where its results lie.

    The best of several runs counts, unless long is 0: the first ones pay for memory that the system
    has never handed out, which is part of a process's start.
    """
    room = Path(tempfile.mkdtemp(dir=root))
    config = configure(
        room / "bank.yaml",
        point.kernels,
        root,
        room,
        boundary="reflect",
        statistics=point.statistics,
    )

    def least(images: Path, out: str) -> float:
        best, spent, runs = float("inf"), 0.0, 0
        while not runs or spent < long or (long and runs < RUNS):
            runs += 1
            began = clock()
            run(config, images, room / f"{out}{runs}", point.threads)
            best = min(best, took := clock() - began)
            spent += took
        return best

    tiny = folder_of(root, 64, 1)
    run(config, tiny, room / "first", point.threads)  # what is compiled and cached now, stays
    start = least(tiny, "start")
    return least(folder_of(root, point.side, point.images), "out") - start, room / "out1"

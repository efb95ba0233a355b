"""How does one run scale on one machine, over threads, processes and Ray's actors?

Wall seconds of a shard, as the slope between two folders: what a run, a cluster and its actors take
to start is told apart. Modes take turns, and a ratio is taken within its round. All of them must
leave the same bits.

    python benchmarks/cluster.py [--shards 2] [--side 1024] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from job import bank, configure
from play import folder_of
from timing import measured, spread

SHARD = 64
"""Images of a shard."""


def modes(cores: int) -> dict[str, list[str]]:
    """Flags by what they mean; the first is what the others are compared with."""
    alone, ray = ["--threads", "1", "--workers", "0"], ["--executor", "ray", "--address", "local"]
    return {
        "one thread": alone,
        f"{cores} threads": ["--threads", str(cores)],
        f"{cores} processes": ["--executor", "processes", "--threads", str(cores)],
        f"ray, an actor of {cores} threads": [*ray, "--threads", str(cores)],
        f"ray, {cores} actors of one thread": [*ray, *alone],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shards", type=int, default=2, help="of each core, by which the larger folder is larger"
    )
    parser.add_argument("--side", type=int, default=1024, help="of an image, in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    few, more = cores, options.shards * cores
    slopes: dict[str, list[float]] = {mode: [] for mode in modes(cores)}
    starts: dict[str, list[float]] = {mode: [] for mode in modes(cores)}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        kernels = dict(list(bank().items())[1::3])
        config = configure(root / "bank.yaml", kernels, root, root)
        small, large = (folder_of(root, options.side, SHARD * n) for n in (few, few + more))
        measured(command(config, small, root / "first", []))  # what is compiled now, is cached
        for turn in range(options.rounds):
            for mode, flags in modes(cores).items():
                outs = [root / f"{turn} {mode} {size}" for size in ("small", "large")]
                start, used = (
                    measured(command(config, folder, out, flags)).wall
                    for folder, out in zip((small, large), outs, strict=True)
                )
                slopes[mode].append((used - start) / more)
                starts[mode].append(start - few * slopes[mode][-1])
                if tables(outs[1]) != tables(root / f"0 {next(iter(slopes))} large"):
                    sys.exit(f"{mode}: other statistics than the first run")
    print(f"{'':34}{'s/shard':>24}{'times one thread':>24}{'s to start':>24}")
    first = next(iter(slopes.values()))
    for mode, seconds in slopes.items():
        gains = [a / b for a, b in zip(first, seconds, strict=True)]
        cells = spread(seconds, 2), spread(gains, 2), spread(starts[mode], 1)
        print(f"{mode:34}" + "".join(f"{cell:>24}" for cell in cells))


def command(config: Path, folder: Path, out: Path, flags: list[str]) -> list[str]:
    """A run, as words."""
    paths = ["--input", str(folder), "--output", str(out)]
    return [sys.executable, "-m", "pipeline", "run", str(config), *paths, "--device", "cpu", *flags]


def tables(out: Path) -> dict[str, bytes]:
    """All statistics, by file."""
    return {path.name: path.read_bytes() for path in (out / "statistics").iterdir()}


if __name__ == "__main__":
    main()

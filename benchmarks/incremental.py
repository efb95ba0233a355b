"""What does a run cost where little has changed? One of many small images comes, changes or goes.

Each step runs the command line in a process of its own. Seconds are CPU time; MB and reads are what
/proc counts of all it reads, so also of the libraries that it starts with.

    python benchmarks/incremental.py [--images 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

_RUN = """
import sys, resource
from pipeline.cli import main
try:
    main()
finally:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print("seconds", sum(u.ru_utime + u.ru_stime for u in used), file=sys.stderr)
    print(open("/proc/self/io").read(), file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=32, help="side of an image, pixels")
    parser.add_argument("--json", type=Path, help="write the figures here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = dict(measure(Path(folder), asked.images, asked.size))
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))


def measure(folder: Path, images: int, size: int) -> Iterator[tuple[str, dict[str, float]]]:
    rng = np.random.default_rng(5)
    names = [folder / f"in/{i // 1000:03}/{i:06}.png" for i in range(images)]

    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size), dtype=np.uint8)).save(path)

    for path in names:
        draw(path)
    config = folder / "c.yaml"
    config.write_text(yaml.safe_dump(CONFIG | {"input": {"path": str(folder / "in")}}))

    middle = names[images // 2]
    steps: list[tuple[str, Callable[[], object], list[str]]] = [
        ("full run", lambda: None, []),
        ("nothing new", lambda: None, []),
        ("one added", lambda: draw(folder / "in/zzz.png"), []),
        ("one touched", lambda: os.utime(middle), []),
        ("one changed", lambda: draw(middle), []),
        ("one renamed", lambda: middle.rename(middle.with_suffix(".new.png")), []),
        ("one pruned", lambda: None, ["--prune"]),
    ]
    print(f"{'':>14} {'wall s':>8} {'CPU s':>8} {'MB read':>8} {'reads':>8}  of the full run")
    whole = 0.0
    for name, change, flags in steps:
        change()
        found = run(config, folder / "out", *flags)
        whole = whole or found["seconds"]
        print(
            f"{name:>14} {found['wall']:8.2f} {found['seconds']:8.2f} "
            f"{found['rchar'] / 1e6:8.1f} {found['syscr']:8.0f}  {found['seconds'] / whole:.1%}"
            f"  {found['said']}"
        )
        yield name, {key: value for key, value in found.items() if isinstance(value, float)}


def run(config: Path, output: Path, *flags: str) -> dict[str, float | str]:
    began = time.perf_counter()
    words = ["run", str(config), "--output", str(output), "--workers", "0", *flags]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=True
    )
    found = (line.split(maxsplit=1) for line in done.stderr.splitlines() if line)
    counted = {key.rstrip(":"): float(value) for key, value in found}
    last = done.stdout.splitlines()[-1].partition(";")[0]
    return {"wall": time.perf_counter() - began, **counted, "said": last}


CONFIG = {
    "version": 1,
    "filters": [{"gaussian": {"sigma": [1, 2]}}, "sobel"],
    "statistics": ["mean", "std", "p50"],
    "output": {"path": "out"},
    "run": {"device": "cpu"},
}

if __name__ == "__main__":
    main()

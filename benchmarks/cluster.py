"""What does the Ray executor cost on one machine, against the local one? Wall seconds, in turn.

Starting a cluster and its actors costs seconds, once a run; a share of each shard is what remains,
so both ratios are told: of whole runs, and without the time until the first actor works.

    python benchmarks/cluster.py [--shards 4] [--side 2304] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from run import BANK, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=4, help="of 64 images")
    parser.add_argument(
        "--side", type=int, default=2304, help="of an image, in pixels: 36 s a shard on one core"
    )
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = make(root / "in", 64 * options.shards, options.side)
        (root / "bank.yaml").write_text(BANK.replace("{path: out}", f"{{path: {root / 'unused'}}}"))
        for round in range(options.rounds):
            local, _ = seconds(root, folder, f"local{round}")
            far, start = seconds(
                root, folder, f"ray{round}", "--executor", "ray", "--address", "local"
            )
            print(
                f"{options.shards} shards of {local / options.shards:.1f} s: local {local:.1f} s, "
                f"ray {far:.1f} s, of it {start:.1f} s to start; ratio {far / local:.3f}, "
                f"after the start {(far - start) / local:.3f}"
            )


def seconds(root: Path, folder: Path, out: str, *flags: str) -> tuple[float, float]:
    """Wall seconds of a run, and those until its first actor worked."""
    words = ["run", str(root / "bank.yaml"), "--input", str(folder), "--output", str(root / out)]
    began = time.perf_counter()
    command = [sys.executable, "-m", "pipeline", *words, "--device", "cpu", *flags]
    subprocess.run(command, check=True, capture_output=True)
    took = time.perf_counter() - began
    lines = [json.loads(line) for line in (root / out / "log.jsonl").read_text().splitlines()]
    times = {line["event"]: datetime.fromisoformat(line["time"]) for line in reversed(lines)}
    start = (times.get("actor", times["start"]) - times["start"]).total_seconds()
    return took, start


if __name__ == "__main__":
    main()

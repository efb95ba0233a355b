"""What grows with the number of images besides the work on pixels: seconds, bytes, memory.

A folder of tiny images is run once, so that nearly all of it is bookkeeping; figures are per 1,000
images, files or shards of 64, and may be multiplied (docs/scaling.md does).

    python benchmarks/scaling.py [--shards 100] [--tiff]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline import store
from pipeline.commit import Staging
from pipeline.config import load
from pipeline.discover import list_members
from pipeline.remote import pinned
from pipeline.stages.boxes import read_box
from pipeline.stages.filter import compute
from pipeline.stages.loader import _jobs
from pipeline.stages.read import Tiles
from pipeline.survey import Options, survey
from pipeline.types import ShardReport
from pipeline.work import work

CONFIG = """
version: 1
input: {{path: {root}/in}}
filters:
  - gabor: {{wavelength: [4, 8], orientations: 8}}
statistics: [mean, std, p50]
output: {{path: {root}/out}}
run: {{device: cpu, workers: 0, threads: 1}}
"""


def cpu(act: Callable[[], object]) -> float:
    """CPU seconds of the best of three."""
    best = float("inf")
    for _ in range(3):
        began = used()
        act()
        best = min(best, used() - began)
    return best


def used() -> float:
    """CPU seconds of this process and those that it started and that ended."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=100, help="of 64 images")
    parser.add_argument("--tiff", action="store_true", help="not PNG")
    given = parser.parse_args()
    shards, suffix = max(2, given.shards), "tif" if given.tiff else "png"
    with tempfile.TemporaryDirectory() as name:
        root, images = Path(name), 64 * shards
        (root / "in").mkdir()
        rng = np.random.default_rng(0)
        for i in range(images):
            pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"in/scan_{i:07}.{suffix}")
        (root / "bank.yaml").write_text(CONFIG.format(root=root))
        config = load(root / "bank.yaml")
        measure(config, root, images, shards)


def measure(config, root: Path, images: int, shards: int) -> None:
    listing = cpu(lambda: list_members(config.input, output=root / "out", now=time.time()))
    whole = cpu(lambda: survey(config, Options()))
    tracemalloc.start()
    plan = survey(config, Options())
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    commits: list[float] = []
    commit = Staging.commit

    def timed(self, remove=()):
        began = time.perf_counter()
        commit(self, remove)
        commits.append(time.perf_counter() - began)

    first, others = plan.shards[:1], plan.shards[1:]  # the first pays for imports and the bank
    seconds = []
    with patch.object(Staging, "commit", timed):
        for part in (first, others):
            began = used()
            for report in work(plan.plan, part):
                assert not isinstance(report, ShardReport) or not report.failed
            seconds.append(used() - began)
    working = seconds[1] * len(plan.shards) / len(others)
    decoding, computing = pixels(plan.plan, plan.shards)
    adoptions = [adoption(plan.plan, shard) for shard in plan.shards[:20]]
    loading = cpu(lambda: store.load(root / "out"))
    again = cpu(lambda: survey(config, Options()))
    print(f"{shards} shards, {images} images of 16 x 16, 16 responses, 3 statistics; CPU seconds")
    print(f"listing            {1000 * listing / images:8.4f} per 1,000 files")
    print(f"survey, all new    {1000 * whole / images:8.4f} per 1,000 images, headers included")
    print(f"survey, all done   {1000 * again / images:8.4f} per 1,000 images")
    print(f"  of it store.load {1000 * loading / shards:8.4f} per 1,000 shards")
    print(f"driver's memory    {held / images:8.0f} bytes per new image")
    print(f"work               {1000 * working / images:8.4f} per 1,000 images, hardly any pixels")
    print(f"  of it decoding   {1000 * decoding / images:8.4f} by the reader alone")
    print(f"  of it computing  {1000 * computing / images:8.4f} of batches: filters and statistics")
    rest = whole + working - decoding - computing
    print(f"an image besides   {1000 * rest / images:8.4f} ms: survey and work, less these two")
    print(f"commit             {np.median(commits):8.4f} wall seconds per shard (median), 3 files")
    print(f"adopt              {np.median(adoptions):8.4f} wall seconds per shard, of Ray's driver")
    for table in ("images", "statistics", "regions"):
        parts = list((root / "out" / table).glob("*.parquet"))
        size, rows = sum(p.stat().st_size for p in parts), sum(map(rows_of, parts))
        print(
            f"{table:18} {size / len(parts):8.0f} bytes per part, {rows // images} rows per image"
        )


def pixels(plan, shards) -> tuple[float, float]:
    """CPU seconds of decoding all images, and of what is computed of them."""
    sources = [source for shard in shards for source in shard.sources]
    boxes = [plan.box(plan.tiles(source)[0]) for source in sources]

    def decode() -> None:
        for source, box in zip(sources, boxes, strict=True):
            read_box(source, box)

    loads = [Tiles(plan)[job] for i, shard in enumerate(shards) for job in _jobs(plan, i, shard, 1)]
    batches = [batch for loaded in loads for batch in loaded.batches]
    return cpu(decode), cpu(lambda: [compute(plan, batch) for batch in batches])


def adoption(plan, shard) -> float:
    """Wall seconds of the driver for a shard that a worker has left in its room."""
    remote = pinned(plan)
    remote.open("room")
    for _ in remote.work("room", [shard]):
        pass
    began = time.perf_counter()
    remote.accept("room", shard.id)
    took = time.perf_counter() - began
    remote.close("room")
    return took


def rows_of(part: Path) -> int:
    return int(pq.read_metadata(part).num_rows)


if __name__ == "__main__":
    main()

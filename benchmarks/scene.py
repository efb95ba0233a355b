"""How much memory does a scene take, and how long? A raster is made, and run as a user would.

Memory is the most that all processes of a run hold at one time: proportional set sizes, in which
a page that several share counts once. Speed is pixels x bands x responses per second, of CPU time
and of wall time; each pass over the pixels counts once more.

    python benchmarks/scene.py [--sides 8000 20000] [--memory 2GiB] [--nodata] [SCENE.tif ..]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import rasterio
from rasterio import Affine
from rasterio.windows import Window

BANDS, BLOCK, RESPONSES = 4, 512, 16

BANK = """
version: 1
input: {{path: "{scene}"}}
filters:
  - sobel: {{output: [y, x, magnitude]}}
  - gaussian: {{sigma: [1, 2, 4]}}
  - log: {{sigma: [1, 2]}}
  - laws: {{kernels: [L5E5, E5L5, S5S5, E5E5]}}
  - gabor: {{wavelength: 8, orientations: 4}}
statistics: [{statistics}]
output: {{path: "{out}"}}
run: {{device: cpu, memory: {memory}}}
"""


def make(path: Path, side: int, *, nodata: bool) -> Path:
    """Smooth noise of 16 bits with a large mean; nodata: with a hole in every other block."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:BLOCK, :BLOCK]
    layout = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 5e6), "nodata": 0}
    size = {"width": side, "height": side, "count": BANDS, "dtype": "uint16"}
    with rasterio.open(path, "w", compress="deflate", **layout, **place, **size) as file:
        for i, (_, window) in enumerate(file.block_windows()):
            waves = 9000 + 800 * np.sin((x + 37 * i) / 11) * np.cos(y / 17)
            pixels = waves + rng.normal(0, 60, (BANDS, BLOCK, BLOCK))
            block = pixels.astype(np.uint16)[:, : window.height, : window.width]
            if nodata and i % 2:
                block[:, 100:160, 200:330] = 0
            file.write(block, window=Window(*window.flatten()))
    return path


def held(group: int) -> int:
    """Bytes that the processes of a group hold at this moment."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[2]) == group:
                rollup = (stat.parent / "smaps_rollup").read_text()
                total += 1024 * int(rollup.partition("Pss:")[2].split()[0])
        except (OSError, IndexError, ValueError):  # it has ended meanwhile
            continue
    return total


def measure(scene: Path, folder: Path, statistics: str, memory: str) -> None:
    """Run the bank on a scene, and say what it took."""
    config = folder / "bank.yaml"
    out = folder / f"out-{scene.stem}-{statistics[:4]}"
    config.write_text(BANK.format(scene=scene, out=out, statistics=statistics, memory=memory))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "pipeline", "run", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    most = 0
    while process.poll() is None:
        most = max(most, held(process.pid))
        time.sleep(0.2)
    if process.returncode:
        sys.exit(f"the run ended with exit code {process.returncode}")
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with rasterio.open(scene) as file:
        pixels = file.width * file.height * file.count
        shape = f"{file.height} x {file.width} x {file.count} bands"
    rows = sum(pq.read_metadata(part).num_rows for part in (out / "statistics").iterdir())
    work = pixels * RESPONSES / 1e6
    print(
        f"{shape} x {RESPONSES} responses, [{statistics}]: {rows} rows; "
        f"most memory {most / 2**20:.0f} MiB; {cpu:.0f} s CPU, {wall:.0f} s wall; "
        f"{work / cpu:.0f} Mpixel x response / s CPU, {work / wall:.0f} wall",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="*", default=[8000, 12000])
    parser.add_argument("--statistics", nargs="*", default=["mean, std, min, max"])
    parser.add_argument("--memory", default="2GiB")
    parser.add_argument("--nodata", action="store_true")
    parser.add_argument("scenes", type=Path, nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [] if given.scenes else given.sides
        scenes = [make(folder / f"{n}.tif", n, nodata=given.nodata) for n in made]
        for scene in [*given.scenes, *scenes]:
            for statistics in given.statistics:
                measure(scene, folder, statistics, given.memory)


if __name__ == "__main__":
    main()

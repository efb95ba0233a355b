"""How fast is it? The product against a plain scipy script, in one run on one machine.

Speed is the CPU time per image as the slope between two folder sizes, start-up excluded; figures
are ratios to the scipy script on the same images, because machines differ and are noisy. Also the
wall-clock rate of a folder of small images, with and without sheets.

    python benchmarks/run.py [--images 4] [--small 400]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from timing import measured

BANK = """
version: 1
input: {path: data}
filters:
  - sobel: {output: [y, x]}
  - laplacian
  - gaussian: {sigma: [1, 2, 4]}
  - log: {sigma: [1, 2, 4]}
  - gabor: {wavelength: 8, orientations: 4, output: real}
  - laws: {kernels: [L5E5, E5S5, S5S5, R5R5]}
statistics: [mean, std, min, max, skewness, kurtosis, p05, p50, p95, energy, entropy]
output: {path: out}
"""

SCIPY = """
import sys, numpy as np
from pathlib import Path
from PIL import Image
from scipy import ndimage
from pipeline.bank.expr import Conv, nodes_of
from pipeline.config import load
from pipeline.plan import Plan
plan = Plan(load(Path(sys.argv[1])), "cpu")
nodes = [node for r in plan.responses for node in nodes_of(plan.example(r))]
kernels = [node.kernel for node in nodes if isinstance(node, Conv)]
for path in sorted(Path(sys.argv[2]).glob("*.png")):
    x = np.asarray(Image.open(path), np.float32)
    for k in kernels:
        y = ndimage.correlate(x, k.array.astype(np.float32), mode="reflect").astype(np.float64)
        z = y - y.mean()
        s = z.std()
        row = [y.mean(), s, y.min(), y.max(), (z**3).mean() / s**3, (z**4).mean() / s**4 - 3,
               *np.quantile(y, [0.05, 0.5, 0.95]), (y**2).sum()]
        p = np.histogram(y, 64)[0] / y.size
        row.append(-(p[p > 0] * np.log2(p[p > 0])).sum())
"""


def make(folder: Path, count: int, side: int) -> Path:
    """Smooth noise: compresses and quantises like an image."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8), dtype=np.uint8))
        picture = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
        noisy = picture + rng.integers(-8, 9, picture.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.png")
    return folder


def slope(make_command, few: int, many: int) -> float:
    """CPU seconds per image, start-up excluded."""
    start, used = measured(make_command(few)), measured(make_command(many))
    return (used.cpu - start.cpu) / (many - few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4, help="large images in the bigger folder")
    parser.add_argument("--small", type=int, default=400, help="small images")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "bank.yaml").write_text(BANK)
        few, many = 1, 1 + options.images
        folders = {n: make(root / f"large{n}", n, 1024) for n in (few, many)}
        script = [sys.executable, "-c", SCIPY, str(root / "bank.yaml")]

        def ours(n: int) -> list[str]:
            return product(root, folders[n], f"out{n}")

        plain = slope(lambda n: [*script, str(folders[n])], few, many)
        mine = slope(ours, few, many)
        print(f"1024 x 1024, 15 responses, 11 statistics: scipy {plain:.2f} s CPU per image")
        print(f"filterbank / scipy = {mine / plain:.3f}")
        small = make(root / "small", options.small, 104)
        for sheets, label in ((False, "tables"), (True, "tables and sheets")):
            used = measured(product(root, small, f"small{sheets}", sheets=sheets))
            rate = options.small / used.wall
            print(
                f"{options.small} of 104 x 104, {label}: {rate:.0f} images/s, {used.cpu:.1f} s CPU"
            )


def product(root: Path, folder: Path, out: str, *, sheets: bool = False) -> list[str]:
    config = root / f"{out}.yaml"
    png = "{what: sheet}" if sheets else "false"
    config.write_text(BANK.replace("{path: out}", f"{{path: {root / out}, png: {png}}}"))
    return [sys.executable, "-m", "pipeline", "run", str(config), "--input", str(folder)]


if __name__ == "__main__":
    main()

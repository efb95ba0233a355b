"""The whole product against what users would pick instead, on one job, in one run.

The job: 8-bit images, 61 kernels (8 edges 3x3, 16 Gabor 31x31, 25 Laws 5x5, 12 Gaussians,
Laplacians of Gaussians and differences of Gaussians), border mirrored, 11 exact statistics of every
response as Parquet; variant B also writes every response as a PNG. Every tool is a program of its
own; its figure is the CPU time per image as the slope between two folders, start-up excluded.
Ratios are taken within a round to OpenCV. The check is the worst deviation from scipy in float64 on
the first image, in standard deviations of the response (energy: relative; entropy: bits).

    python benchmarks/peers.py [--variant B] [--rounds 3] [--tools opencv,filterbank] [--json FILE]
        [--picture FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from chart import draw_bars
from job import STATISTICS, Array, Bank, Image, bank, configure, deviation, picture, summary, wanted
from timing import measured, spread

Tool = Callable[[Image, Bank], Iterator[tuple[str, Image]]]

RANK = 1e-7
"""Singular values below this share of the first are nothing: a separable kernel has one."""


def separated(kernel: Array) -> list[tuple[Array, Array]]:
    """Columns and rows whose outer products sum to a kernel."""
    u, s, v = np.linalg.svd(kernel)
    return [(u[:, i] * s[i], v[i]) for i in range(int((s > RANK * s[0]).sum()))]


# ---------------------------------------------------------------- the tools
def opencv(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """Passes of one dimension for what is a sum of one or two of them, else filter2D."""
    import cv2

    cv2.setNumThreads(1)
    for name, kernel in kernels.items():
        passes = separated(kernel)
        if len(passes) > 2:
            yield name, cv2.filter2D(image, -1, kernel)
        else:
            yield name, sum(cv2.sepFilter2D(image, -1, row, column) for column, row in passes)


def scipy(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """correlate1d for what is a sum of one or two of them, else the faster of direct and FFT."""
    from scipy import ndimage, signal

    for name, kernel in kernels.items():
        passes = separated(kernel)
        if len(passes) <= 2:
            yield (
                name,
                sum(
                    ndimage.correlate1d(
                        ndimage.correlate1d(image, row, 1, mode="mirror"), column, 0, mode="mirror"
                    )
                    for column, row in passes
                ),
            )
        else:
            radius = len(kernel) // 2
            wide = np.pad(image, radius, mode="reflect")
            taps = kernel[::-1, ::-1].astype(np.float32)
            yield name, signal.oaconvolve(wide, taps, "valid")


def torch(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """conv2d: two passes for separable kernels, else one dense product."""
    import torch
    from torch.nn.functional import conv2d, pad

    torch.set_num_threads(1)
    x = torch.from_numpy(image)[None, None]

    def tensor(taps: Array) -> torch.Tensor:
        return torch.from_numpy(taps.astype(np.float32))[None, None]

    with torch.inference_mode():
        for name, kernel in kernels.items():
            radius, passes = len(kernel) // 2, separated(kernel)
            wide = pad(x, (radius,) * 4, mode="reflect")
            if len(passes) <= 2:
                y = sum(
                    conv2d(conv2d(wide, tensor(row[None])), tensor(column[:, None]))
                    for column, row in passes
                )
            else:
                y = conv2d(wide, tensor(kernel))
            yield name, y[0, 0].numpy()


def kornia(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """filter2d_separable for what is a sum of one or two passes, else filter2d."""
    import torch
    from kornia.filters import filter2d, filter2d_separable

    torch.set_num_threads(1)
    x = torch.from_numpy(image)[None, None]

    def tensor(taps: Array) -> torch.Tensor:
        return torch.from_numpy(taps.astype(np.float32))[None]

    with torch.inference_mode():
        for name, kernel in kernels.items():
            passes = separated(kernel)
            if len(passes) <= 2:
                y = sum(
                    filter2d_separable(x, tensor(row), tensor(column), "reflect")
                    for column, row in passes
                )
            else:
                y = filter2d(x, tensor(kernel), "reflect")
            yield name, y[0, 0].numpy()


def skimage(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """Its filters are scipy's dense correlation, as `gabor` and `laplace` call it."""
    from scipy import ndimage

    for name, kernel in kernels.items():
        yield name, ndimage.correlate(image, kernel.astype(np.float32), mode="mirror")


TOOLS: dict[str, Tool] = {
    "opencv": opencv,
    "scipy": scipy,
    "torch": torch,
    "kornia": kornia,
    "skimage": skimage,
}


MORE = {"filterbank": 4}
"""Images of a tool for each of another: of a fast one so many that the cost of a start, which
scatters as much as an image takes, does not decide."""


def play(tool: str, folder: Path, out: Path, variant: str) -> None:
    """What a user's script around a library does."""
    import cv2
    import pyarrow as pa
    import pyarrow.parquet as pq

    kernels, rows = bank(), []
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32)
        for name, response in TOOLS[tool](image, kernels):
            rows.append((path.name, name, *summary(response)))
            if variant == "B":
                low, high = float(response.min()), float(response.max())
                codes = np.rint((response - low) * (255 / (high - low))).astype(np.uint8)
                cv2.imwrite(str(out / f"{path.stem}_{name}.png"), codes)
    columns = ("image", "filter", *STATISTICS)
    table = pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
    pq.write_table(table, out / "statistics.parquet", compression="zstd")


def command(tool: str, folder: Path, out: Path, variant: str) -> list[str]:
    """What does the job, as words; for our own, with its config beside the output."""
    if tool != "filterbank":
        out.mkdir()
        job = ["--variant", variant, "--play", tool, str(folder), str(out)]
        return [sys.executable, __file__, *job]
    png = "{what: maps}" if variant == "B" else "false"
    config = configure(out.parent / "bank.yaml", bank(), folder, out, png=png)
    return [sys.executable, "-m", "pipeline", "run", str(config)]


# ---------------------------------------------------------------- the comparison
def make(folder: Path, count: int, side: int) -> Path:
    """Half of them PNG, half JPEG."""
    import cv2

    folder.mkdir()
    for i in range(count):
        path = folder / f"{i:04}.{'jpg' if i % 2 else 'png'}"
        cv2.imwrite(str(path), picture(i, side))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=["A", "B"], default="A")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=4, help="by which the larger folder is larger; x4 for ours"
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--tools", default=",".join(("filterbank", *TOOLS)))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--picture", type=Path, help="draw the ratios here")
    parser.add_argument(
        "--play", nargs=3, metavar=("TOOL", "FOLDER", "OUT"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    if options.play:
        tool, folder, out = options.play
        play(tool, Path(folder), Path(out), options.variant)
        return
    tools = list(dict.fromkeys(["opencv", *options.tools.split(",")]))
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    walls: dict[str, list[float]] = {tool: [] for tool in tools}
    checks: dict[str, tuple[float, str]] = {}
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        counts = {tool: (MORE.get(tool, 1), options.images * MORE.get(tool, 1)) for tool in tools}
        sizes = {size for few, more in counts.values() for size in (few, few + more)}
        folders = {size: make(root / f"in{size}", size, options.side) for size in sizes}
        right = wanted(picture(0, options.side), bank())
        for tool in tools:  # compiles, and fills the system's caches
            measured(command(tool, folders[counts[tool][0]], root / f"{tool}-0", options.variant))
        for turn in range(options.rounds):
            for tool in tools:
                few, more = counts[tool]
                outs = [root / f"{tool}-{turn}-{n}" for n in ("few", "all")]
                start = measured(command(tool, folders[few], outs[0], options.variant))
                used = measured(command(tool, folders[few + more], outs[1], options.variant))
                seconds[tool].append((used.cpu - start.cpu) / more)
                walls[tool].append((used.wall - start.wall) / more)
                peaks[tool] = max(peaks.get(tool, 0), used.peak)
                checks[tool] = deviation(outs[1], "0000.png", right)
    figures = report(options.variant, seconds, walls, peaks, checks)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    if options.picture:
        title = f"CPU time per image, OpenCV script = 1 (variant {options.variant})"
        draw_bars(title, ratios_of(figures), options.picture)


def report(
    variant: str,
    seconds: dict[str, list[float]],
    walls: dict[str, list[float]],
    peaks: dict[str, int],
    checks: dict[str, tuple[float, str]],
) -> dict[str, Any]:
    print(f"variant {variant}: median [least - most] of {len(seconds['opencv'])} rounds")
    heads = ("CPU s/image", "to OpenCV", "wall s/image", "peak MiB")
    print(f"{'tool':12}" + "".join(f"{head:>23}" for head in heads) + "  worst statistic")
    figures = {}
    for tool, used in seconds.items():
        ratios = [a / b for a, b in zip(used, seconds["opencv"], strict=True)]
        error, where = checks[tool]
        cells = (spread(used), spread(ratios), spread(walls[tool]), f"{peaks[tool] / 2**20:.0f}")
        row = "".join(f"{cell:>23}" for cell in cells)
        print(f"{tool:12}{row}  {error:.1e} ({where})")
        figures[tool] = {"cpu": used, "ratio": ratios, "wall": walls[tool], "peak": peaks[tool]}
        figures[tool] |= {"error": error, "worst": where}
    return {"variant": variant, "tools": figures}


def ratios_of(figures: dict[str, Any]) -> dict[str, float]:
    """The median of each tool, ours first."""
    medians = {tool: median(one["ratio"]) for tool, one in figures["tools"].items()}
    return {"filterbank": medians.pop("filterbank"), **medians}


if __name__ == "__main__":
    main()

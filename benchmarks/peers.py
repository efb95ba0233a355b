"""The whole product against what users would pick instead, on one job, in one run.

The job: 8-bit images, 61 kernels (8 edges 3x3, 16 Gabor 31x31, 25 Laws 5x5, 12 Gaussians,
Laplacians of Gaussians and differences of Gaussians), border mirrored, 11 exact statistics of every
response as Parquet; variant B also writes every response as a PNG. Every tool is a program of its
own; its figure is the CPU time per image as the slope between two folders, start-up excluded.
Ratios are taken within a round to OpenCV. The check is the worst deviation from scipy in float64 on
the first image, in standard deviations of the response (energy: relative; entropy: bits).

    python benchmarks/peers.py [--variant B] [--rounds 3] [--tools opencv,filterbank] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Bank = dict[str, Array]
Tool = Callable[[Image, Bank], Iterator[tuple[str, Image]]]

STATISTICS = ["mean", "std", "min", "max", "skewness", "kurtosis", "energy"]
STATISTICS += ["p10", "p50", "p90", "entropy"]
RANK = 1e-7
"""Singular values below this share of the first are nothing: a separable kernel has one."""


# ---------------------------------------------------------------- the bank
def bank() -> Bank:
    """Dense taps by name, for correlation around the centre."""
    out = {
        "sobel_x": np.outer([1, 2, 1], [-1, 0, 1]),
        "sobel_y": np.outer([-1, 0, 1], [1, 2, 1]),
        "prewitt_x": np.outer([1, 1, 1], [-1, 0, 1]),
        "prewitt_y": np.outer([-1, 0, 1], [1, 1, 1]),
        "scharr_x": np.outer([3, 10, 3], [-1, 0, 1]),
        "scharr_y": np.outer([-1, 0, 1], [3, 10, 3]),
        "laplace_4": np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        "laplace_8": np.array([[1, 1, 1], [1, -8, 1], [1, 1, 1]]),
    }
    for wavelength in (4.0, 6.0, 9.0, 13.5):
        for angle in (0, 45, 90, 135):
            out[f"gabor_{wavelength:g}_{angle}".replace(".", "p")] = gabor(wavelength, angle)
    taps = {"l": [1, 4, 6, 4, 1], "e": [-1, -2, 0, 2, 1], "s": [-1, 0, 2, 0, -1]}
    taps |= {"w": [-1, 2, 0, -2, 1], "r": [1, -4, 6, -4, 1]}
    out |= {f"laws_{a}{b}": np.outer(taps[a], taps[b]) for a in taps for b in taps}
    for sigma in (1, 2, 4, 8):
        radius, wide = 4 * sigma, int(6.4 * sigma + 0.5)
        narrow, broad = gauss(sigma, radius), gauss(1.6 * sigma, wide)
        x = np.arange(-radius, radius + 1)
        second = narrow * (x * x - sigma**2) / sigma**4
        out[f"gauss_{sigma}"] = np.outer(narrow, narrow)
        out[f"log_{sigma}"] = np.outer(narrow, second) + np.outer(second, narrow)
        padded = np.pad(narrow, wide - radius)
        out[f"dog_{sigma}"] = np.outer(padded, padded) - np.outer(broad, broad)
    return {name: np.asarray(taps, np.float64) for name, taps in out.items()}


def gauss(sigma: float, radius: int) -> Array:
    x = np.arange(-radius, radius + 1)
    g = np.exp(-x * x / (2 * sigma**2))
    return g / g.sum()


def gabor(wavelength: float, degrees: int) -> Array:
    y, x = np.mgrid[-15:16, -15:16].astype(np.float64)
    c, s, sigma = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees)), 0.56 * wavelength
    u, v = x * c + y * s, y * c - x * s
    envelope = np.exp(-(u * u + 0.25 * v * v) / (2 * sigma**2))
    wave = envelope * np.cos(2 * np.pi * u / wavelength)
    wave -= envelope * (wave.sum() / envelope.sum())
    return wave / np.abs(wave).sum()


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


def skimage(image: Image, kernels: Bank) -> Iterator[tuple[str, Image]]:
    """Its filters are scipy's dense correlation, as `gabor` and `laplace` call it."""
    from scipy import ndimage

    for name, kernel in kernels.items():
        yield name, ndimage.correlate(image, kernel.astype(np.float32), mode="mirror")


TOOLS: dict[str, Tool] = {"opencv": opencv, "scipy": scipy, "torch": torch, "skimage": skimage}


def summary(response: Image) -> list[float]:
    """The statistics as a careful user of numpy computes them."""
    flat = response.ravel()
    low, high, wide = float(flat.min()), float(flat.max()), flat.astype(np.float64)
    energy, mean = float(np.dot(wide, wide)), float(wide.mean())
    wide -= mean
    square = wide * wide
    second = square.mean()
    skewness = np.dot(square, wide) / flat.size / second**1.5
    kurtosis = np.dot(square, square) / flat.size / second**2 - 3
    share = np.histogram(flat, 64, (low, high))[0] / flat.size
    share = share[share > 0]
    quantiles = np.percentile(flat, [10, 50, 90])
    entropy = -(share * np.log2(share)).sum()
    return [mean, second**0.5, low, high, skewness, kurtosis, energy, *quantiles, entropy]


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
    root = out.parent
    lines = [
        "version: 1",
        f"input: {{path: {folder}}}",
        "boundary: mirror",
        f"statistics: [{', '.join(STATISTICS)}]",
        f"output: {{path: {out}, png: {'{what: maps}' if variant == 'B' else 'false'}}}",
        "filters:",
    ]
    for name, kernel in bank().items():
        np.save(root / f"{name}.npy", kernel)
        lines.append(f"  - kernel: {{name: {name}, file: {root}/{name}.npy}}")
    config = root / "bank.yaml"
    config.write_text("\n".join(lines) + "\n")
    return [sys.executable, "-m", "pipeline", "run", str(config)]


# ---------------------------------------------------------------- the comparison
def make(folder: Path, count: int, side: int) -> Path:
    """Smooth shapes, texture and noise, half of them PNG, half JPEG: natural enough to compress."""
    import cv2

    folder.mkdir()
    for i in range(count):
        rng = np.random.default_rng(i)
        layers = [
            cv2.resize(rng.normal(0, 40 / 2**k, (side >> (6 - k),) * 2), (side, side))
            for k in range(6)
        ]
        image = np.clip(128 + sum(layers) + rng.normal(0, 2, (side, side)), 0, 255)
        path = folder / f"{i:04}.{'jpg' if i % 2 else 'png'}"
        cv2.imwrite(str(path), np.rint(image).astype(np.uint8))
    return folder


def measured(command: list[str]) -> tuple[float, float, int]:
    """CPU and wall seconds of a command with all its children, and their largest peak in bytes."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(said.read().decode())
    wall = time.perf_counter() - began
    return used.ru_utime + used.ru_stime, wall, used.ru_maxrss << 10


def deviation(out: Path, image: Path) -> tuple[float, str]:
    """The worst statistic of an image against scipy in float64, and its name."""
    import cv2
    import pyarrow.dataset as ds
    from scipy import ndimage, signal

    found = out / "statistics" if (out / "statistics").is_dir() else out / "statistics.parquet"
    table = ds.dataset(found).to_table(filter=ds.field("image") == image.name)
    rows = {row["filter"]: row for row in table.to_pylist()}
    pixels = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE).astype(np.float64)
    worst = 0.0, ""
    for name, kernel in bank().items():
        if kernel.size <= 25:
            truth = ndimage.correlate(pixels, kernel, mode="mirror")
        else:
            wide = np.pad(pixels, len(kernel) // 2, mode="reflect")
            truth = signal.fftconvolve(wide, kernel[::-1, ::-1], "valid")
        wanted = dict(zip(STATISTICS, summary(truth), strict=True))
        scale = dict.fromkeys(STATISTICS, wanted["std"]) | {"skewness": 1.0, "entropy": 1.0}
        scale |= {"kurtosis": 1 + abs(wanted["kurtosis"]), "energy": wanted["energy"]}
        if np.array_equal(kernel, np.rint(kernel)):
            del wanted["entropy"]  # edges of bins fall on integers: the truth's rounding decides
        for one, value in wanted.items():
            error = abs(rows[name][one] - value) / scale[one]
            worst = max(worst, (error, f"{one} of {name}"))
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=["A", "B"], default="A")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--images", type=int, default=4, help="by which the larger folder is larger"
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--tools", default=",".join(("filterbank", *TOOLS)))
    parser.add_argument("--json", type=Path, help="write the figures here, too")
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
        few, many = (make(root / f"in{n}", n, options.side) for n in (1, 1 + options.images))
        for tool in tools:  # compiles, and fills the system's caches
            measured(command(tool, few, root / f"{tool}-first", options.variant))
        for turn in range(options.rounds):
            for tool in tools:
                outs = [root / f"{tool}-{turn}-{n}" for n in ("few", "many")]
                start, _, _ = measured(command(tool, few, outs[0], options.variant))
                used, wall, peak = measured(command(tool, many, outs[1], options.variant))
                seconds[tool].append((used - start) / options.images)
                walls[tool].append(wall / (1 + options.images))
                peaks[tool] = max(peaks.get(tool, 0), peak)
                checks[tool] = deviation(outs[1], many / "0000.png")
    report(options.variant, seconds, walls, peaks, checks, options.json)


def report(
    variant: str,
    seconds: dict[str, list[float]],
    walls: dict[str, list[float]],
    peaks: dict[str, int],
    checks: dict[str, tuple[float, str]],
    file: Path | None,
) -> None:
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
    if file is not None:
        file.write_text(json.dumps({"variant": variant, "tools": figures}, indent=1))


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f} - {max(values):.3f}]"


if __name__ == "__main__":
    main()

"""The bank compiler against plain conv2d, OpenCV and scipy: CPU time in one run, and error.

For each bank, ns of CPU time per pixel and response (process_time, one thread, the tools in turn
for some seconds, the best of each), the ratio to the compiled plan, and the largest error against
scipy in float64, as a share of each response's range. The plan gets images as a run hands them
over, in memory with room for the border; the others make their borders themselves. Then the peak
memory of a streamed bank.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import cos, pi, sin, sqrt

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # as a run does, and numpy by itself

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import BankPlan, compile_bank
from pipeline.bank.expr import Conv, Input, Kernel
from pipeline.bank.memory import roomy
from pipeline.boundary import Boundary
from pipeline.config import load
from pipeline.heap import keep_memory
from pipeline.plan import Plan
from pipeline.types import Batch, Grid, ImageInfo, Region, Source, Tile

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Weights = list[Array]
EDGE = Boundary("mirror")


# ---------------------------------------------------------------- banks
def edges() -> Weights:
    """Sobel, Prewitt and Scharr, two Laplacians, the compasses of Kirsch and Robinson."""
    out = []
    for smooth in ([1, 2, 1], [1, 1, 1], [3, 10, 3]):
        out += [np.outer(smooth, [-1, 0, 1]), np.outer([-1, 0, 1], smooth)]
    out += [
        np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
        1 - 9 * np.eye(3)[1][:, None] * np.eye(3)[1],
    ]
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    for weights in ([5, 5, 5, -3, -3, -3, -3, -3], [1, 2, 1, 0, -1, -2, -1, 0]):
        for turn in range(8):
            kernel = np.zeros((3, 3))
            for place, at in enumerate(ring):
                kernel[at] = weights[(place - turn) % 8]
            out.append(kernel)
    return [np.asarray(k, np.float64) for k in out]


def laws() -> Weights:
    """All pairs of the five normalised 1-D profiles of five taps."""
    taps = [
        [1, 4, 6, 4, 1],
        [-1, -2, 0, 2, 1],
        [-1, 0, 2, 0, -1],
        [-1, 2, 0, -2, 1],
        [1, -4, 6, -4, 1],
    ]
    unit = [np.array(t) / np.linalg.norm(t) for t in taps]
    return [np.outer(a, b) for a in unit for b in unit]


def _turned(size: int, angle: float) -> tuple[Array, Array]:
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x * cos(angle) + y * sin(angle), y * cos(angle) - x * sin(angle)


def gabor(gamma: float) -> Weights:
    """16 orientations, real and imaginary parts."""
    out = []
    for i in range(16):
        u, v = _turned(31, pi * i / 16)
        wave = np.exp(-(u**2 + gamma**2 * v**2) / 50 + 2j * np.pi * u / 8)
        out += [wave.real, wave.imag]
    return out


def leung_malik() -> Weights:
    """36 elongated edges and bars, 4 Gaussians, 8 Laplacians of Gaussians."""

    def normal(k: Array) -> Array:
        return (k - k.mean()) / np.abs(k - k.mean()).sum()

    first, second, blobs = [], [], []
    for s in (sqrt(2), 2, 2 * sqrt(2)):
        for i in range(6):
            u, v = _turned(49, pi * i / 6)
            gauss = np.exp(-(u**2) / (18 * s**2) - v**2 / (2 * s**2))
            first.append(normal(-v * gauss))
            second.append(normal((v**2 - s**2) * gauss))
    u, v = _turned(49, 0.0)
    square = u**2 + v**2
    scales = [sqrt(2) ** i for i in (1, 2, 3, 4)]
    blobs += [normal(np.exp(-square / (2 * s * s))) for s in scales]
    for s in scales + [3 * s for s in scales]:
        blobs.append(normal((square - 2 * s * s) * np.exp(-square / (2 * s * s))))
    return first + second + blobs


def scales() -> Weights:
    """LoG and DoG over seven half octaves."""
    out = []
    for s in [2 ** (i / 2) for i in range(7)]:
        for wide in (s, 1.6 * s):
            u, v = _turned(2 * int(4 * wide + 0.5) + 1, 0.0)
            square = u**2 + v**2
            narrow = np.exp(-square / (2 * s * s))
            if wide == s:
                out.append((square / s**2 - 2) * narrow / (2 * pi * s**4))
            else:
                broad = np.exp(-square / (2 * wide * wide))
                out.append(broad / broad.sum() - narrow / narrow.sum())
    return out


def steerable() -> Weights:
    """The second derivative of a Gaussian in 16 directions."""
    out = []
    for i in range(16):
        u, v = _turned(31, pi * i / 16)
        out.append(np.exp(-(u**2 + v**2) / 32) * (u**2 / 256 - 1 / 16))
    return out


BANKS: dict[str, Callable[[], Weights]] = {
    "3x3 edges": edges,
    "Laws": laws,
    "Gabor, gamma 1": lambda: gabor(1.0),
    "Gabor, gamma 0.5": lambda: gabor(0.5),
    "Leung-Malik": leung_malik,
    "LoG and DoG": scales,
    "steerable": steerable,
}


# ---------------------------------------------------------------- tools
@dataclass(frozen=True, eq=False)
class Bank:
    """Kernels, and what is made of them once for a folder of images: not part of what is timed."""

    kernels: Weights

    @cached_property
    def plan(self) -> BankPlan:
        """The compiled bank."""
        named = enumerate(map(Kernel.of, self.kernels))
        return compile_bank([(str(i), Conv(Input(), k), EDGE) for i, k in named], 2)


def batch_of(bank: BankPlan, image: Image) -> Batch:
    """An image as `prepare` hands it to a bank: with room around it."""
    info = ImageInfo(image.shape, ("1",), "float32", Grid((1.0, 1.0)))
    whole, room = Region.whole(image.shape), tuple((h, h) for h in bank.halo)
    values = roomy((1, 1, *image.shape), room).copy_(torch.from_numpy(image))
    tiles = (Tile(Source("x", (), "npy", info=info), whole),)
    return Batch(tiles, whole, ("1",), values, room=room)


def by_plan(bank: Bank, batch: Batch) -> Iterator[Tensor]:
    for response in apply_bank(bank.plan, batch):
        yield response.values


def by_torch(bank: Bank, image: Image) -> Iterator[Tensor]:
    """One conv2d for all kernels of a size."""
    sizes = dict.fromkeys(k.shape for k in bank.kernels)
    x = torch.from_numpy(image[None, None])
    found: dict[int, Tensor] = {}
    with torch.inference_mode():
        for size in sizes:
            which = [i for i, k in enumerate(bank.kernels) if k.shape == size]
            weights = torch.from_numpy(np.stack([bank.kernels[i] for i in which])[:, None]).float()
            pad = tuple(n // 2 for n in reversed(size) for _ in range(2))
            y = torch.nn.functional.conv2d(torch.nn.functional.pad(x, pad, "reflect"), weights)
            found |= dict(zip(which, y[0], strict=True))
    for i in range(len(bank.kernels)):
        yield found[i]


def by_opencv(bank: Bank, image: Image) -> Iterator[Image]:
    import cv2

    cv2.setNumThreads(1)
    for kernel in bank.kernels:
        yield cv2.filter2D(
            image, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101
        )


def by_scipy(bank: Bank, image: Image) -> Iterator[Image]:
    for kernel in bank.kernels:
        yield ndimage.correlate(image, kernel.astype(np.float32), mode="mirror")


PLAN = "plan"
TOOLS = {PLAN: by_plan, "conv2d": by_torch, "OpenCV": by_opencv, "scipy": by_scipy}


def spend(tool: Callable[..., Iterator[object]], bank: Bank, image: object) -> float:
    began = time.process_time()
    for _ in tool(bank, image):
        pass
    return time.process_time() - began


def truth(image: Image, kernel: Array) -> Array:
    """In float64: by scipy, or for large kernels by numpy's transform, which is as exact."""
    if kernel.size < 200:
        return ndimage.correlate(image.astype(np.float64), kernel, mode="mirror")
    pads = [(n // 2, n // 2) for n in kernel.shape]
    wide = np.pad(image.astype(np.float64), pads, "reflect")
    spectrum = np.fft.rfft2(wide) * np.fft.rfft2(kernel, s=wide.shape).conj()
    return np.fft.irfft2(spectrum, s=wide.shape)[: image.shape[0], : image.shape[1]]


def compare(side: int, repeats: int, seconds: float = 0.0) -> None:
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1).astype(np.float32)
    image = np.float32(100) * (image - image.min()) / np.ptp(image)
    edge = max(64, side // 4)  # wider than the widest kernel reaches
    small = np.ascontiguousarray(image[:edge, :edge])
    print(f"{side} x {side}, ns of CPU time per pixel and response, one thread (ratio to the plan)")
    print(f"{'bank':<22}{PLAN:>7}" + "".join(f"{t:>16}" for t in TOOLS if t != PLAN) + "   error")
    for name, make in BANKS.items():
        bank = Bank(make())
        little, given = (
            dict.fromkeys(TOOLS, x) | {PLAN: batch_of(bank.plan, x)} for x in (small, image)
        )
        for tool, run in TOOLS.items():
            spend(run, bank, little[tool])  # warm: caches, first calls
        best = dict.fromkeys(TOOLS, float("inf"))
        began, done = time.monotonic(), 0
        while done < repeats or time.monotonic() - began < seconds:
            for tool, run in TOOLS.items():
                if tool != "scipy":
                    best[tool] = min(best[tool], spend(run, bank, given[tool]) / image.size)
            done += 1
        best["scipy"] = spend(by_scipy, bank, small) / small.size
        error = max(
            float(np.abs(got[0, 0].numpy() - (want := truth(image, kernel))).max() / np.ptp(want))
            for kernel, got in zip(bank.kernels, by_plan(bank, given[PLAN]), strict=True)
        )
        cost = {t: b / len(bank.kernels) * 1e9 for t, b in best.items()}
        rest = "".join(
            f"{cost[t]:>8.2f}{f'({cost[t] / cost[PLAN]:.1f})':>8}" for t in TOOLS if t != PLAN
        )
        print(f"{f'{name} ({len(bank.kernels)})':<22}{cost[PLAN]:>7.2f}{rest}   {error:.1e}")


# ---------------------------------------------------------------- memory
MANY = "".join(
    f"  - gabor: {{wavelength: {w}, sigma: {s}, orientation: {[i * 3.6 for i in range(50)]}}}\n"
    for w, s in ((4, 2), (6, 3), (8, 4), (10, 5))
)
CONFIG = f"""version: 1
input: {{path: unused}}
filters:
{MANY}statistics: [mean]
output: {{path: unused}}
"""


def measure(side: int) -> None:
    """In a process of its own: what streaming a bank adds to the memory of an idle one."""
    script = [sys.executable, __file__, "--stream", str(side)]
    subprocess.run(script, check=True)


def stream(side: int) -> None:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.yaml"
        path.write_text(CONFIG)
        plan = Plan(load(path), "cpu")
    info = ImageInfo((side, side), ("1",), "float32", Grid((1.0, 1.0)))
    (part,) = plan.banks(info)
    list(apply_bank(part.bank, batch_of(part.bank, np.zeros((64, 64), np.float32))))
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = np.random.default_rng(0).random((side, side), dtype=np.float32)
    count = sum(1 for _ in apply_bank(part.bank, batch_of(part.bank, image)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{count} responses of {side} x {side}: {(peak - idle) / 2**10:.0f} MiB above idle, "
        f"planned {plan.bytes_needed(info) / 2**20:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024, help="of the image, in pixels")
    parser.add_argument("--repeats", type=int, default=5, help="at least; the best counts")
    parser.add_argument("--seconds", type=float, default=5.0, help="at least, for each bank")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(1)
    if options.stream:
        return stream(options.stream)
    compare(options.side, options.repeats, options.seconds)
    return measure(4096)


if __name__ == "__main__":
    main()

"""JPEG decoded where filters are computed, against libjpeg-turbo in as many threads as there are.

Files of noise over a smooth ground, 4:2:0 in colour, are decoded from memory by both in turn, three
times; said are images a second, and how far samples are apart. On a GPU that is nvJPEG. Without one
nothing is measured, but with --interpret, which tries the same with nvImageCodec's own decoder of a
CPU, on any machine.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from pipeline.readers.nvjpeg import TOLERANCE, require
from pipeline.stages.decode import _samples

ROUNDS = 3


def files_of(count: int, side: int) -> list[bytes]:
    """Different JPEGs of one size."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    ground = 128 + 60 * np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], -1)
    found = []
    for _ in range(count):
        pixels = (ground + rng.normal(0, 8, ground.shape)).clip(0, 255).astype(np.uint8)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def by_pillow(files: Sequence[bytes]) -> list[npt.NDArray[np.uint8]]:
    """As readers decode them, in all processors at once."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda data: np.asarray(Image.open(BytesIO(data))), files))


def by_device(files: Sequence[Tensor], device: str) -> list[Tensor]:
    """As the device decodes them, all of them a batch; done when this returns."""
    found = _samples(files, device, gray=False)
    if device == "cuda":
        torch.cuda.synchronize()
    return found


def main() -> None:
    """Measure, and print a line for each decoder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--interpret", action="store_true", help="try nvImageCodec on this CPU")
    given = parser.parse_args()
    if not (given.interpret or torch.cuda.is_available()):
        print("no CUDA device: nothing is measured; --interpret tries it on this CPU")
        return
    require()
    device = "cpu" if given.interpret else "cuda"
    files = files_of(given.images, given.side)
    tensors = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    seconds: dict[str, list[float]] = {"libjpeg-turbo": [], f"nvImageCodec, {device}": []}
    for _ in range(ROUNDS):
        for name, decode in zip(
            seconds, (lambda: by_pillow(files), lambda: by_device(tensors, device)), strict=True
        ):
            began = time.perf_counter()
            decode()
            seconds[name].append(time.perf_counter() - began)
    for name, took in seconds.items():
        low, high = (given.images / s for s in (max(took), min(took)))
        print(f"{name:22} {low:8.0f} to {high:.0f} images/s of {given.side} x {given.side}")
    pairs = zip(by_pillow(files), by_device(tensors, device), strict=True)
    off = max(int(np.abs(a.astype(int) - b.cpu().numpy()).max()) for a, b in pairs)
    print(f"at most {off} gray levels apart ({TOLERANCE} are allowed)")
    assert off <= TOLERANCE


if __name__ == "__main__":
    main()

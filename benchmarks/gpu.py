"""Filtering and measuring in one kernel on a GPU, against torch with cuDNN in the same run.

The job: 64 images of 1024 x 1024 pixels, 16 kernels of 7 x 7, moments, extremes, percentiles and
entropy, all exact; from images on the device to columns on the CPU. Both are then compared with
float64, column by column. Without a CUDA device nothing is measured.

--interpret does a tiny job in Triton's interpreter, on any machine. --compile compiles the kernels
for a device of compute capability 9.0, which need not be there, and counts their instructions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.special import xlogy
from torch import Tensor

from pipeline.bank.expr import Kernel
from pipeline.fused.block import Walked, walked
from pipeline.fused.choose import STEPS
from pipeline.fused.keys import keys
from pipeline.fused.launch import BLOCK, ROWS
from pipeline.fused.moments import moments
from pipeline.fused.pixels import Recomputed
from pipeline.fused.reductions import Reduction, bins, deviations, within
from pipeline.fused.source import Stencil, write
from pipeline.gpu import build
from pipeline.stages.measure import Tally
from pipeline.statistics import accumulators
from pipeline.statistics.histogram import BINS
from pipeline.types import Region

Array = npt.NDArray[np.float64]
Columns = Mapping[str, Array]
STATISTICS = ("mean", "std", "skewness", "kurtosis", "min", "max", "p10", "p50", "p90", "entropy")
SHARES = (0.1, 0.5, 0.9)
REPEATS = 7


# ---------------------------------------------------------------- the job, by both
def fused(planes: Tensor, kernels: Sequence[Kernel]) -> Columns:
    """Columns (N * F,) of padded planes (N, H, W); no response is ever written."""
    reach = kernels[0].reach
    shape = tuple(n - a - b for n, (a, b) in zip(planes.shape[1:], reach, strict=True))
    computed = Recomputed(planes, Region.whole(shape), Stencil(tuple(kernels), reach))
    block, n = Walked.of(computed, shape), computed.counts()
    statistics = accumulators(STATISTICS)
    tally = Tally(block.values[0].numel(), n, n, None, walked(block, statistics), None)
    return tally.columns(statistics, STATISTICS)


def plain(planes: Tensor, kernels: Sequence[Kernel]) -> Columns:
    """The same by conv2d, sums in float64, one sort, and bins counted by their places."""
    weights = torch.from_numpy(np.stack([k.array for k in kernels])).to(planes)[:, None]
    found = [_plain(maps.flatten(1)) for x in planes for maps in _conv(x, weights)]
    return {name: torch.cat([one[name] for one in found]).cpu().numpy() for name in STATISTICS}


def _conv(x: Tensor, weights: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(x[None, None], weights)


def _plain(x: Tensor) -> dict[str, Tensor]:
    """Statistics of planes (F, n), those of one image: 16 maps of it are as much as a GPU wants."""
    mean = x.mean(1, dtype=torch.float64)
    d = x.double() - mean[:, None]
    d2 = d * d
    m2, m3, m4 = d2.mean(1), (d2 * d).mean(1), (d2 * d2).mean(1)
    low, high = (end.double() for end in torch.aminmax(x, dim=1))
    ordered = x.sort(1).values
    out = {"mean": mean, "std": m2.sqrt(), "min": low, "max": high}
    out |= {"skewness": m3 / m2**1.5, "kurtosis": m4 / m2**2 - 3.0}
    for share in SHARES:
        at = (x.shape[1] - 1) * share
        a, b = ordered[:, int(at)].double(), ordered[:, min(int(at) + 1, x.shape[1] - 1)].double()
        out[f"p{round(100 * share)}"] = a + (b - a) * (at - int(at))
    places = (
        ((x.double() - low[:, None]) * BINS / (high - low)[:, None]).long().clamp_(max=BINS - 1)
    )
    places += torch.arange(0, BINS * len(x), BINS, device=x.device)[:, None]
    counts = torch.bincount(places.flatten(), minlength=BINS * len(x)).view(len(x), BINS)
    share = counts / x.shape[1]
    return {
        **out,
        "entropy": -torch.special.xlogy(share.double(), share.double()).sum(1) / np.log(2),
    }


def wanted(image: Array, kernels: Sequence[Kernel]) -> Columns:
    """The same of one image by scipy and numpy in float64, of responses that are never rounded."""
    x = np.stack([ndimage.correlate(image, k.array, mode="reflect").ravel() for k in kernels])
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    places = ((x - low) * BINS / (high - low)).astype(int).clip(max=BINS - 1)
    shares = np.stack([np.bincount(p, minlength=BINS) / x.shape[1] for p in places])
    z = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
    out = {"mean": x.mean(1), "std": x.std(1), "min": low[:, 0], "max": high[:, 0]}
    out |= {"skewness": (z**3).mean(1), "kurtosis": (z**4).mean(1) - 3.0}
    out |= {f"p{round(100 * s)}": np.quantile(x, s, axis=1) for s in SHARES}
    return {**out, "entropy": -xlogy(shares, shares).sum(1) / np.log(2)}


# ---------------------------------------------------------------- what is said of it
def job(images: int, side: int, filters: int, size: int) -> tuple[Array, list[Kernel]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (images, side, side)).astype(np.float64)
    smooth = ndimage.gaussian_filter(noise, (0, 2, 2)) * 4 - 384
    kernels = [rng.standard_normal((size, size)) for _ in range(filters)]
    return smooth.clip(0, 255).round(), [Kernel.of(k / np.abs(k).sum()) for k in kernels]


def padded(images: Array, size: int, device: str) -> Tensor:
    """As the bank extends them, in its float32."""
    edges = ((0, 0), *((size // 2, size // 2),) * 2)
    return torch.from_numpy(np.pad(images, edges, mode="symmetric").astype(np.float32)).to(device)


def deviation(found: Columns, right: Columns) -> tuple[float, str]:
    """The largest error, in standard deviations of a response or as a plain number, and where."""
    scale = dict.fromkeys(("skewness", "kurtosis", "entropy"), 1.0)
    errors = {
        name: float((np.abs(found[name][: len(x)] - x) / scale.get(name, right["std"])).max())
        for name, x in right.items()
    }
    worst = max(errors, key=errors.__getitem__)
    return errors[worst], worst


def interpret() -> None:
    images, kernels = job(1, 12, 2, 3)
    planes, right = padded(images, 3, "cpu"), wanted(images[0], kernels)
    for tool in (fused, plain):
        print(f"{tool.__name__}: largest error {deviation(tool(planes, kernels), right)}")


def measure() -> None:
    if not torch.cuda.is_available():
        print("no CUDA device: not measured")
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    images, kernels = job(64, 1024, 16, 7)
    planes, right = padded(images, 7, "cuda"), wanted(images[0], kernels)
    tools: dict[str, Callable[[], Columns]] = {
        "fused": lambda: fused(planes, kernels),
        "plain": lambda: plain(planes, kernels),
    }
    first = {name: _seconds(tool) for name, tool in tools.items()}
    best = dict.fromkeys(tools, float("inf"))
    for _ in range(REPEATS):
        for name, tool in tools.items():  # in turn
            best[name] = min(best[name], _seconds(tool))
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; best of {REPEATS}")
    for name, tool in tools.items():
        found = tool()
        again = tool()
        same = all(found[key].tobytes() == again[key].tobytes() for key in found)
        error, where = deviation(found, right)
        print(
            f"{name}: {1e3 * best[name]:.2f} ms, {best[name] / best['fused']:.1f} x; first "
            f"{first[name]:.1f} s; largest error {error:.1e} ({where}); same bits again: {same}"
        )


def _seconds(tool: Callable[[], Any]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    tool()
    torch.cuda.synchronize()
    return time.perf_counter() - began


# ---------------------------------------------------------------- without a device
def compiled(filters: int, size: int) -> list[dict[str, Any]]:
    """What each walk of a full bank is compiled to; the loop runs from its first tap to its last.

    spilled: loads and stores of the stack in the loop; ptx: arithmetic in float32, each of a lane.
    """
    _, kernels = job(1, size, filters, size)
    none, slots = np.zeros((filters, 2)), torch.zeros((filters, 18), dtype=torch.int64)
    walks: dict[str, list[Reduction]] = {
        "moments, extremes, first bits": [moments(), keys(slots[:, :1], STEPS[:1])],
        "bins, next bits": [bins(none, BINS, slots.device), keys(slots, STEPS[:2])],
        "last bits": [keys(slots, STEPS)],
        "deviations": [deviations(none, slots.device)],
        "within": [within(none, none[:, 0], slots.device)],
    }
    return [{"walk": name, **_compiled(kernels, walk)} for name, walk in walks.items()]


def _compiled(kernels: Sequence[Kernel], walk: Sequence[Reduction]) -> dict[str, Any]:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {torch.float64: "*fp64", torch.int32: "*i32", torch.int16: "*i16"}
    rooms = [(*one.given, one.room(1, (1,), torch.device("cpu"))) for one in walk]
    pointers = [types[buffer.dtype] for buffer in chain.from_iterable(rooms)]
    kernel = build(write(kernels, kernels[0].reach, [one.template for one in walk]))
    constants = {"CELL": 256, "ROWS": ROWS, "BLOCK": BLOCK}
    names = [name for name in kernel.arg_names if name not in constants]
    numbers = ["i32"] * (len(names) - len(pointers) - 2)
    signature = dict(zip(names, ["*fp32", "i64", *numbers, *pointers], strict=True))
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constants)
    began = time.process_time()
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage, listing = (_dumped(file.name, option) for option in ("-res-usage", "-sass"))
    found = re.findall(r"^\s+/\*\w+\*/\s+(?:@!?\w+\s+)?(\w+)", listing, re.MULTILINE)
    taps = [i for i, op in enumerate(found) if op in ("FFMA", "FMUL")]
    loop = Counter(found[taps[0] : taps[-1] + 1] if taps else ())  # none where the only tap is 1
    singles = Counter(re.findall(r"\b(fma|mul|add|sub)(?:\.\w+)*\.f32\b", binary.asm["ptx"]))
    return {
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),  # type: ignore[index]
        "instructions": len(found),
        "loop": loop.total(),
        "multiply-adds": loop["FFMA"],
        "ptx": singles,
        "spilled": loop["LDL"] + loop["STL"],
        "seconds": round(time.process_time() - began, 1),
    }


def _dumped(file: str, option: str) -> str:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    done = subprocess.run([tool, option, file], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interpret", action="store_true", help="a tiny job on any machine")
    parser.add_argument(
        "--compile", metavar="FxK", nargs="+", help="such as 16x7: JSON lines; no device"
    )
    options = parser.parse_args()
    os.environ["TRITON_INTERPRET"] = str(int(options.interpret))  # before anything imports triton
    if options.compile:
        for bank in options.compile:
            for line in compiled(*map(int, bank.split("x"))):
                print(json.dumps({"bank": bank, **line}))
    elif options.interpret:
        interpret()
    else:
        measure()

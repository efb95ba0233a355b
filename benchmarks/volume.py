"""Filters of IBSI 2 on a volume, against MIRP: CPU and wall time, memory, and who is right.

Laws' kernels over 24 rotations with an energy map, and Gabor wavelets in three planes and several
directions; from NIfTI files to maps on the disk, with one thread. `alone` are the seconds of a
process with one volume, from start to end; `more` are those of each further volume, as the slope
between two folders: start-up is excluded, and what a process pays once. The check of a small volume
is scipy in float64, that of the large one ours: the largest difference, as a share of the map's
range.

MIRP (pip install mirp) needs no place in this project: name a Python that has it.

    python benchmarks/volume.py [--mirp PYTHON] [--side 256] [--rounds 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations, product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from timing import measured

Volume = npt.NDArray[np.floating]
Array = npt.NDArray[np.float64]
SMALL, FIRST = 40, "0.nii"
OURS = "filterbank"
MORE = {OURS: 8, "mirp": 1}
"""Volumes by which the larger folder is larger: enough to tell them from what a start costs, and
few enough of a slow tool for all to end within minutes."""
LAWS = {"L": [1, 2, 1], "E": [-1, 0, 1], "W": [-1, 2, 0, -2, 1], "R": [1, -4, 6, -4, 1]}
SIGMA, WAVELENGTH, GAMMA, ANGLES, RADIUS = 5.0, 4.0, 1.5, (0, 45, 90, 135), 31


# ---------------------------------------------------------------- what is right
def laws(volume: Volume) -> Array:
    """E3W5R5, the largest over the rotations of a cube, averaged over 15 voxels per axis."""
    from scipy import ndimage

    taps = [np.array(LAWS[name]) / np.linalg.norm(LAWS[name]) for name in "RWE"]
    kernel = np.einsum("i,j,k->ijk", *taps)
    found = [
        ndimage.convolve(volume.astype(np.float64), turned, mode="reflect")
        for turned in rotations(kernel)
    ]
    largest = np.maximum.reduce(found)
    return np.asarray(ndimage.uniform_filter(np.abs(largest), 15, mode="reflect"))


def rotations(kernel: Array) -> list[Array]:
    """A kernel in the 24 ways in which a cube can lie."""
    turned = []
    for order, flips in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.eye(3)[list(order)] * flips
        if np.linalg.det(matrix) > 0:
            backwards = tuple(slice(None, None, flip) for flip in flips)
            turned.append(kernel[backwards].transpose(order))
    return turned


def gabor(volume: Volume) -> Array:
    """The mean magnitude over planes and directions, each kernel cut off at its radius."""
    from scipy import signal

    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].astype(np.float64)
    wide = np.pad(volume.astype(np.float64), RADIUS, "symmetric")
    total = np.zeros(volume.shape)
    for across, degrees in product(range(3), ANGLES):
        angle = np.deg2rad(degrees)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        wave = np.exp(-(u**2 + (GAMMA * v) ** 2) / (2 * SIGMA**2) + 2j * np.pi * u / WAVELENGTH)
        inner = tuple(slice(RADIUS, -RADIUS) if a == across else slice(None) for a in range(3))
        kernel = np.expand_dims(wave, across)
        total += np.abs(signal.fftconvolve(wide[inner], kernel, "valid"))
    return total / (3 * len(ANGLES))


@dataclass(frozen=True)
class Job:
    """A filter in the words of both tools, and in scipy's."""

    config: str
    mirp: dict[str, object]
    right: Callable[[Volume], Array]


JOBS = {
    "Laws, 24 rotations, energy": Job(
        "laws: {kernels: E3W5R5, rotation_invariant: max, energy: 7}",
        {
            "filter_kernels": "laws",
            "laws_kernel": "e3w5r5",
            "laws_rotation_invariance": True,
            "laws_pooling_method": "max",
            "laws_compute_energy": True,
            "laws_delta": 7,
        },
        laws,
    ),
    "Gabor, 3 planes, 4 directions": Job(
        f"gabor: {{convention: ibsi, sigma: {SIGMA}, wavelength: {WAVELENGTH}, gamma: {GAMMA}, "
        f"orientations: {len(ANGLES)}, pool: mean, radius: {RADIUS}}}",
        {
            "filter_kernels": "gabor",
            "gabor_sigma": SIGMA,
            "gabor_lambda": WAVELENGTH,
            "gabor_gamma": GAMMA,
            "gabor_theta_step": 180.0 / len(ANGLES),
            "gabor_response": "modulus",
            "gabor_rotation_invariance": True,
            "gabor_pooling_method": "mean",
        },
        gabor,
    ),
}

MIRP = """
import json, sys, numpy as np
from pathlib import Path
from mirp import extract_images
volumes, out, words = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
out.mkdir()
for volume in sorted(volumes.iterdir()):
    found, _ = extract_images(
        image=str(volume), export_images=True, by_slice=False, boundary_condition="reflect", **words
    )[0]
    np.save(out / volume.name, found[-1]["image"].astype(np.float32))
"""


# ---------------------------------------------------------------- the tools
def make(folder: Path, side: int, count: int = 1) -> Volume:
    """Blobs under noise, of 16 bits, as (z, y, x); spacing 1 mm, no compression; all the same."""
    import nibabel
    from scipy import ndimage

    noise = np.random.default_rng(side).normal(size=(side,) * 3).astype(np.float32)
    volume: Volume = np.rint(1000 * (ndimage.gaussian_filter(noise, 2) * 6 + 0.2 * noise))
    folder.mkdir()
    image = nibabel.Nifti1Image(volume.T.astype(np.int16), np.diag([-1, -1, 1, 1]))
    nibabel.save(image, folder / FIRST)
    for i in range(1, count):
        (folder / f"{i}.nii").hardlink_to(folder / FIRST)
    return volume


def by_filterbank(job: Job, volumes: Path, out: Path) -> list[str]:
    """Ours, as a user writes it."""
    config = out.with_suffix(".yaml")
    config.write_text(
        f"version: 1\ninput: {{path: {volumes}}}\nboundary: reflect\nfilters:\n  - {job.config}\n"
        f"statistics: [mean, std, min, max]\noutput: {{path: {out}, maps: float32}}\n"
        "run: {device: cpu, threads: 1}\n"
    )
    return [sys.executable, "-m", "pipeline", "run", str(config)]


def by_mirp(python: str, job: Job, volumes: Path, out: Path) -> list[str]:
    return [python, "-c", MIRP, str(volumes), str(out), json.dumps(job.mirp)]


def answer(out: Path) -> Volume:
    """The map of the first volume that a tool has left."""
    if (out / f"{FIRST}.npy").exists():
        return np.load(out / f"{FIRST}.npy")
    from pipeline import open_output

    output = open_output(out)
    (name,) = output.filters["filter"].to_pylist()
    return output.maps(FIRST, name)


def apart(found: Volume, right: Volume) -> float:
    """The largest difference, as a share of the range."""
    return float(np.abs(found.astype(np.float64) - right).max() / np.ptp(right))


# ---------------------------------------------------------------- the comparison
Words = Callable[[Job, Path, Path], list[str]]
Figures = dict[str, dict[str, Any]]
"""By tool, what was measured."""


def compare(job: Job, tools: Mapping[str, Words], side: int, rounds: int, root: Path) -> Figures:
    """What a job takes of each tool, in turn, and how right they are."""
    small, alone = root / "small", root / "alone"
    right = job.right(make(small, SMALL))
    make(alone, side)
    for tool in tools:
        make(root / f"for-{tool}", side, 1 + MORE[tool])
    kinds = ("alone cpu", "alone wall", "cpu", "wall")
    found: Figures = {tool: {"peak": 0} | {kind: [] for kind in kinds} for tool in tools}
    for tool, words in tools.items():
        measured(words(job, small, root / f"{tool}-small"))
        found[tool]["error"] = apart(answer(root / f"{tool}-small"), right)
    for turn, (tool, words) in product(range(rounds), tools.items()):
        one = measured(words(job, alone, root / f"{tool}-alone-{turn}"))
        used = measured(words(job, root / f"for-{tool}", root / f"{tool}-{turn}"))
        more = ((used.cpu - one.cpu) / MORE[tool], (used.wall - one.wall) / MORE[tool])
        for kind, seconds in zip(kinds, (one.cpu, one.wall, *more), strict=True):
            found[tool][kind].append(seconds)
        found[tool]["peak"] = max(found[tool]["peak"], one.peak, used.peak)
    ours = answer(root / f"{OURS}-0")
    for tool in tools:
        found[tool]["apart"] = apart(answer(root / f"{tool}-0"), ours)
    return found


def table(found: Mapping[str, Figures]) -> str:
    """What was measured of all jobs; a ratio is to ours in the same round."""
    heads = ("alone: CPU s", "ratio", "wall s", "more: CPU s", "ratio", "wall s")
    heads += ("peak MiB", "off scipy", f"off {OURS}")
    lines = [f"{'':42}" + "".join(f"{head:>16}" for head in heads)]
    for title, figures in found.items():
        for tool, one in figures.items():
            cells = []
            for cpu, wall in (("alone cpu", "alone wall"), ("cpu", "wall")):
                pairs = zip(one[cpu], figures[OURS][cpu], strict=True)
                ratios = [theirs / ours for theirs, ours in pairs]
                cells += [f"{median(values):.2f}" for values in (one[cpu], ratios, one[wall])]
            cells += [f"{one['peak'] / 2**20:.0f}", f"{one['error']:.1e}", f"{one['apart']:.1e}"]
            lines.append(f"{title:30}{tool:>12}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mirp", metavar="PYTHON", help="an interpreter that has it")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures of each round here, too")
    options = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    tools: dict[str, Words] = {OURS: by_filterbank}
    if options.mirp:
        tools["mirp"] = partial(by_mirp, options.mirp)
    else:
        print("mirp: not installed; name a Python that has it with --mirp")
    found = {}
    for title, job in JOBS.items():
        with tempfile.TemporaryDirectory() as name:
            found[title] = compare(job, tools, options.side, options.rounds, Path(name))
    print(f"{options.side} voxels per axis, median of {options.rounds}\n{table(found)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""The job of benchmarks: pictures, a bank of kernels, exact statistics, and what is right.

Right is what scipy answers in float64 (numpy's transform for wide kernels, which is as exact).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]
Bank = dict[str, Array]
Wanted = dict[str, dict[str, float]]

QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}
STATISTICS = ("mean", "std", "min", "max", "skewness", "kurtosis", "energy", *QUANTILES, "entropy")
_PADS = {"mirror": "reflect", "reflect": "symmetric"}
"""numpy's names of scipy's modes."""


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


def gabor(wavelength: float, degrees: float) -> Array:
    y, x = np.mgrid[-15:16, -15:16].astype(np.float64)
    c, s, sigma = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees)), 0.56 * wavelength
    u, v = x * c + y * s, y * c - x * s
    envelope = np.exp(-(u * u + 0.25 * v * v) / (2 * sigma**2))
    wave = envelope * np.cos(2 * np.pi * u / wavelength)
    wave -= envelope * (wave.sum() / envelope.sum())
    return wave / np.abs(wave).sum()


# ---------------------------------------------------------------- the images
def picture(seed: int, side: int) -> Picture:
    """Smooth shapes, texture and noise: natural enough to compress."""
    import cv2

    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 40 / 2**k, (max(1, side >> (6 - k)),) * 2), (side, side))
        for k in range(6)
    ]
    image = np.clip(128 + sum(layers) + rng.normal(0, 2, (side, side)), 0, 255)
    return np.rint(image).astype(np.uint8)


# ---------------------------------------------------------------- the config
def configure(
    file: Path,
    kernels: Bank,
    images: Path,
    out: Path,
    *,
    boundary: str = "mirror",
    statistics: Sequence[str] = STATISTICS,
    png: str = "false",
) -> Path:
    """Write a config of a bank, with its kernels beside it."""
    taps = file.with_suffix(".taps")
    taps.mkdir(exist_ok=True)
    lines = [
        "version: 1",
        f"input: {{path: {images}}}",
        f"boundary: {boundary}",
        f"statistics: [{', '.join(statistics)}]",
        f"output: {{path: {out}, png: {png}}}",
        "filters:",
    ]
    for name, kernel in kernels.items():
        np.save(taps / f"{name}.npy", kernel)
        lines.append(f"  - kernel: {{name: {name}, file: {taps / name}.npy}}")
    file.write_text("\n".join(lines) + "\n")
    return file


# ---------------------------------------------------------------- the check
def summary(response: npt.NDArray[np.floating]) -> list[float]:
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


def truth(pixels: Picture, kernel: Array, mode: str = "mirror") -> Array:
    """A response in float64."""
    from scipy import ndimage, signal

    exact = pixels.astype(np.float64)
    if kernel.size <= 25:
        found: Array = ndimage.correlate(exact, kernel, mode=mode)
        return found
    wide = np.pad(exact, len(kernel) // 2, mode=_PADS[mode])
    return np.asarray(signal.fftconvolve(wide, kernel[::-1, ::-1], "valid"))


def wanted(pixels: Picture, kernels: Bank, mode: str = "mirror", copies: int = 1) -> Wanted:
    """What the statistics of a picture should be, or of one that repeats it without a seam.

    Copies tell by their `energy` and, as ranks lie between equal values, by their percentiles.

    Without the entropy of integer responses: edges of bins fall on values there, and the truth's
    rounding would decide.
    """
    out = {}
    for name, kernel in kernels.items():
        response = truth(pixels, kernel, mode)
        values = dict(zip(STATISTICS, map(float, summary(response)), strict=True))
        if copies > 1:
            values["energy"] *= copies
            ordered = np.sort(response, axis=None)
            values |= {n: _quantile(ordered, share, copies) for n, share in QUANTILES.items()}
        if np.array_equal(kernel, np.rint(kernel)):
            del values["entropy"]
        out[name] = values
    return out


def _quantile(ordered: Array, share: float, copies: int) -> float:
    """Between the ranks of ordered values each of which stands there several times."""
    at = share * (ordered.size * copies - 1)
    low, high = (float(ordered[int(rank) // copies]) for rank in (at, at + 1))
    return low + (high - low) * (at % 1)


def deviation(out: Path, image: str, right: Wanted) -> tuple[float, str]:
    """The worst statistic of an image in standard deviations of its response, and its name.

    Energy: relative; kurtosis: nearly so; entropy: in bits.
    """
    import pyarrow.dataset as ds

    found = out / "statistics" if (out / "statistics").is_dir() else out / "statistics.parquet"
    table = ds.dataset(found).to_table(filter=ds.field("image") == image)
    rows = {row["filter"]: row for row in table.to_pylist()}
    worst = 0.0, ""
    for name, values in right.items():
        for one, value in values.items():
            error = abs(rows[name][one] - value) / _unit(one, values)
            worst = max(worst, (error, f"{one} of {name}"))
    return worst


def _unit(statistic: str, values: Mapping[str, float]) -> float:
    """What an error of 1 is."""
    match statistic:
        case "skewness" | "entropy":
            return 1.0
        case "kurtosis":
            return 1 + abs(values["kurtosis"])
        case "energy":
            return values["energy"]
    return values["std"]

"""Fields to draw with: coordinates, smooth noise, blur, soft edges. All float64 (H, W)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float64]
Shape = tuple[int, int]


def coordinates(shape: Shape) -> tuple[Field, Field]:
    """Row and column of each pixel's centre, from 0 to 1."""
    rows, columns = ((np.arange(n) + 0.5) / n for n in shape)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    return y, x


def blur(field: Field, sigma: float) -> Field:
    """Gaussian blur, sigma in pixels; the edge is mirrored."""
    pad = int(4 * sigma) + 1
    wide = np.pad(field, pad, mode="symmetric")
    result = np.fft.irfft2(np.fft.rfft2(wide) * _gaussian(wide.shape, sigma), wide.shape)
    return result[pad:-pad, pad:-pad]


def clouds(rng: np.random.Generator, shape: Shape, size: float, octaves: int = 5) -> Field:
    """Fractal noise, mean 0 and deviation 1, whose largest blobs are about `size` pixels."""
    wide = (shape[0] + int(size), shape[1] + int(size))  # the noise repeats: cut one period off
    transfer = np.zeros((wide[0], wide[1] // 2 + 1))
    for octave in range(octaves):
        sigma = max(size / 4 / 2**octave, 0.4)
        transfer += sigma / 2**octave * _gaussian(wide, sigma)  # sigma evens out the deviations
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(wide)) * transfer, wide)
    total = noise[: shape[0], : shape[1]]
    return (total - total.mean()) / total.std()


def _gaussian(shape: tuple[int, ...], sigma: float) -> Field:
    """What a Gaussian does to each frequency of np.fft.rfft2."""
    rows, columns = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    decay = -2 * (np.pi * sigma) ** 2
    return np.exp(decay * rows**2)[:, None] * np.exp(decay * columns**2)


def soft(distance: Field, width: float = 1.0) -> Field:
    """1 inside (distance < 0), 0 outside, with an edge about `width` wide."""
    return 1 / (1 + np.exp(np.clip(4 * distance / width, -50, 50)))


def ellipse(y: Field, x: Field, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
    """Negative inside an ellipse, 0 on it, positive outside; roughly in units of the radii."""
    return np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1]) - 1


def cells(
    rng: np.random.Generator, shape: Shape, size: int
) -> tuple[npt.NDArray[np.intp], Field, int]:
    """A Voronoi diagram of cells about `size` pixels wide.

    Returns the cell each pixel is in, how much nearer its centre is than the next one (pixels),
    and the number of cells.
    """
    corners = np.stack(np.mgrid[-size : shape[0] + size : size, -size : shape[1] + size : size], -1)
    points = (corners + rng.uniform(0.05, 0.95, corners.shape) * size).reshape(-1, 2)
    down, across = (np.arange(n)[:, None] - p for n, p in zip(shape, points.T, strict=True))
    distance = np.hypot(down[:, None, :], across[None, :, :])
    near = np.partition(distance, 1, axis=-1)
    return distance.argmin(axis=-1), near[..., 1] - near[..., 0], len(points)


def blend(under: Field, over: npt.ArrayLike, amount: Field) -> Field:
    """Lay a colour (3,) or a picture (H, W, 3) over another with opacity `amount` (H, W)."""
    return under + (np.asarray(over, dtype=np.float64) - under) * amount[..., None]


def to_uint8(picture: Field) -> npt.NDArray[np.uint8]:
    """0..1 to 0..255."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)

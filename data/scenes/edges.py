"""Shapes whose responses can be worked out by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import coordinates, soft, to_uint8


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Seven test charts, among them the hollow square of configs/horizontal_edge.yaml."""
    return {
        "hollow_square.png": hollow_square(),
        "checkerboard.png": checkerboard(),
        "shapes.png": shapes(),
        "bars.png": bars(),
        "star.png": star(),
        "zone_plate.png": zone_plate(),
        "ramp_16bit.png": ramp(),
    }


def hollow_square() -> npt.NDArray[np.uint8]:
    """(5, 5) of 0 and 1: a ring of 3 x 3 pixels with an empty middle.

    8-bit, so that 1 stays 1 (viewers show it all but black): of 1-bit files, 1 is read as 255.
    """
    image = np.zeros((5, 5), dtype=np.uint8)
    image[1:4, 1:4] = 1
    image[2, 2] = 0
    return image


def checkerboard() -> npt.NDArray[np.uint8]:
    """(64, 64): squares of 8 pixels, 0 and 255."""
    y, x = np.indices((64, 64)) // 8
    return ((y + x) % 2 * 255).astype(np.uint8)


def shapes() -> npt.NDArray[np.uint8]:
    """(128, 128): a disk, a square, a triangle and a ring on mid gray, hard to soft edges."""
    y, x = coordinates((128, 128))
    image = np.full((128, 128), 0.35)
    square = np.maximum(abs(y - 0.27), abs(x - 0.73)) - 0.17
    triangle = np.maximum.reduce(
        [y - 0.9, 0.88 * (0.27 - x) - 0.47 * (y - 0.58), 0.88 * (x - 0.27) - 0.47 * (y - 0.58)]
    )
    ring = abs(np.hypot(y - 0.73, x - 0.73) - 0.15) - 0.035
    for distance, value, width in (
        (np.hypot(y - 0.27, x - 0.27) - 0.18, 0.95, 0.012),
        (square, 0.1, 0.002),
        (triangle, 0.75, 0.008),
        (ring, 0.9, 0.05),
    ):
        image += (value - image) * soft(distance, width)
    return to_uint8(image)


def bars() -> npt.NDArray[np.uint8]:
    """(96, 128): gratings of period 4, 8, 16 and 32 pixels, upright above and lying below."""
    image = np.zeros((96, 128), dtype=np.uint8)
    for i, period in enumerate((4, 8, 16, 32)):
        wave = (np.arange(48) % period < period // 2) * 255
        image[:48, 32 * i : 32 * i + 32] = wave[None, :32]
        image[48:, 32 * i : 32 * i + 32] = wave[:, None]
    return image


def star() -> npt.NDArray[np.uint8]:
    """(129, 129): a Siemens star of 16 spokes, an edge in every direction."""
    y, x = np.indices((129, 129)) - 64.0
    radius = np.hypot(y, x)
    spokes = np.tanh(radius * np.sin(16 * np.arctan2(y, x)) / 8)
    return to_uint8(0.5 + 0.5 * spokes * soft(radius - 60, 2))


def zone_plate() -> npt.NDArray[np.uint8]:
    """(128, 128): rings that get finer outwards, every orientation and wavelength once."""
    y, x = np.indices((128, 128)) - 63.5
    return to_uint8(0.5 + 0.5 * np.cos(np.pi * (y**2 + x**2) / 256))


def ramp() -> npt.NDArray[np.uint16]:
    """(64, 128): 0 to 65535 from left to right, with one step of 256 across the middle row."""
    image = np.linspace(0, 65000, 128).round().astype(np.uint16)
    return np.stack([image] * 32 + [image + np.uint16(256)] * 32)

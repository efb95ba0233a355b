"""Chest radiographs of a phantom: rays through tissue, air and bone onto a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scenes.field import Field, blur, clouds, coordinates, ellipse, soft

SHAPE = (512, 512)


@dataclass(frozen=True)
class Patient:
    """Proportions in fractions of the image; a nodule is (row, column, radius)."""

    seed: int
    width: float = 1.0
    heart: float = 0.16
    diaphragm: float = 0.74
    nodule: tuple[float, float, float] | None = None


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Three 16-bit images of 12-bit values, bone bright and air dark, 512 x 512."""
    return {
        "chest_normal.png": radiograph(Patient(seed=11)),
        "chest_nodule.png": radiograph(Patient(seed=12, width=1.06, nodule=(0.40, 0.29, 0.022))),
        "chest_large_heart.png": radiograph(
            Patient(seed=13, width=0.96, heart=0.215, diaphragm=0.68)
        ),
    }


def radiograph(patient: Patient) -> npt.NDArray[np.uint16]:
    """The detector's log signal: thickness plus quantum noise, which dense parts have more of."""
    rng = np.random.default_rng(patient.seed)
    y, x = coordinates(SHAPE)
    x = 0.5 + (x - 0.5) / patient.width
    depth = blur(tissue(patient, rng, y, x) + bones(y, x), 1.0)
    noise = blur(rng.standard_normal(SHAPE), 0.6) * 0.012 * np.exp(0.6 * depth)
    signal = 240 + 2050 * (depth + noise)
    return np.clip(signal, 0, 4095).round().astype(np.uint16)


def tissue(patient: Patient, rng: np.random.Generator, y: Field, x: Field) -> Field:
    """Soft tissue in half-value layers: body, lungs with vessels, heart, diaphragm, nodule."""
    side = abs(x - 0.5)
    slope = 0.055 + 0.16 * np.clip(side - 0.10, 0, None) ** 0.8  # from the neck to the shoulders
    neck = soft(side - 0.105 - 0.3 * np.clip(0.06 - y, 0, 1), 0.02)
    body = np.maximum(neck, soft(slope - y, 0.02))
    trunk = soft(side - 0.43 - 0.02 * np.sin(4 * y), 0.02)
    arm = soft(0.445 - side + 0.05 * (y - 0.3), 0.02) * (0.62 - 1.5 * (side - 0.52) ** 2)
    thickness = body * np.maximum(trunk * (1.0 - 1.3 * np.clip(side - 0.1, 0, 1) ** 1.6), arm)
    lungs = _lungs(patient, y, x)
    texture = vessels(rng, y, x) + 0.035 * clouds(rng, SHAPE, 24)
    thickness -= lungs * (0.62 - 0.20 * y - texture)
    thickness += 0.22 * soft(side - 0.065 - 0.02 * np.sin(9 * y), 0.03) * body
    size = patient.heart
    heart = soft(ellipse(y, x - 0.45 * (y - 0.6), (0.615, 0.545), (0.165, size)), 0.12)
    knob = soft(ellipse(y, x, (0.34, 0.555), (0.055, 0.05)), 0.3)
    thickness += 0.42 * np.maximum(heart, 0.5 * knob) * np.maximum(lungs, 0.35)
    if patient.nodule:
        row, column, radius = patient.nodule
        thickness += 0.17 * soft(ellipse(y, x, (row, column), (radius, radius)), 0.5)
    return thickness + 0.02 * clouds(rng, SHAPE, 120) * body


def _lungs(patient: Patient, y: Field, x: Field) -> Field:
    """Both lungs, 0..1: pointed at the top, cut off by the domes of the diaphragm."""
    both = np.zeros(SHAPE)
    for centre, lift in ((0.295, 0.035), (0.705, 0.0)):
        lean = 0.10 * (y - 0.5) * np.sign(centre - 0.5)
        outline = ellipse(y, x + lean, (0.56, centre), (0.45, 0.175))
        dome = patient.diaphragm - lift + 1.6 * (x - centre) ** 2
        both = np.maximum(both, soft(outline, 0.10) * soft(y - dome, 0.012))
    return both * soft(0.055 - abs(x - 0.5), 0.03)


def vessels(rng: np.random.Generator, y: Field, x: Field) -> Field:
    """Branches that leave each hilum and thin out towards the rim."""
    field = np.zeros(SHAPE)
    for hilum, direction in ((0.41, -1.0), (0.59, 1.0)):
        for angle in np.linspace(-1.25, 1.25, 13) + rng.normal(0, 0.05, 13):
            u = direction * (x - hilum) * np.cos(angle) + (y - 0.48) * np.sin(angle)
            v = -direction * (x - hilum) * np.sin(angle) + (y - 0.48) * np.cos(angle)
            wave = 0.012 * np.sin(25 * u + rng.uniform(0, 6))
            calibre = 0.010 * np.exp(-u / 0.12) + 0.0015
            field += 0.20 * np.exp(-(((v - wave) / calibre) ** 2) - u / 0.10) * (u > 0)
        field += 0.16 * np.exp(-(((y - 0.48) / 0.06) ** 2) - ((x - hilum) / 0.03) ** 2)
    return np.clip(field, 0, 0.35)


def bones(y: Field, x: Field) -> Field:
    """Ribs behind (level) and in front (steep), collar bones, spine, shoulder blades."""
    side = abs(x - 0.5)
    total = np.zeros(SHAPE)
    for i in range(10):
        behind = 0.115 + 0.073 * i + 1.0 * (side - 0.13) ** 2 - 0.01 * side
        front = 0.20 + 0.078 * i - 1.5 * (side - 0.36) ** 2 - 0.30 * side + 0.16
        reach = 0.215 + 0.155 * np.sin(np.pi * (i + 2.5) / 13)
        beside = soft(side - reach, 0.02)
        total += 0.17 * _bone(y - behind, 0.013) * beside * (i < 9)
        total += 0.08 * _bone(y - front, 0.012) * beside * soft(0.15 - side, 0.05) * (i < 7)
    collar = 0.165 - 0.20 * (side - 0.05) + 0.35 * (side - 0.2) ** 2
    total += 0.24 * _bone(y - collar, 0.014) * soft(side - 0.34, 0.02) * soft(0.045 - side, 0.02)
    blade = abs(side - 0.385 - 0.12 * (y - 0.3)) - 0.022
    total += 0.10 * soft(blade, 0.02) * soft(abs(y - 0.30) - 0.14, 0.05)
    disc = 0.8 + 0.2 * np.tanh(3 * np.cos(2 * np.pi * y / 0.062))
    return total + 0.17 * soft(side - 0.034, 0.015) * disc


def _bone(distance: Field, half_width: float) -> Field:
    """A tube seen from the side: its cortex is brighter than its middle."""
    wall = np.exp(-(((abs(distance) - 0.75 * half_width) / (0.3 * half_width)) ** 2))
    return 0.7 * soft(abs(distance) - half_width, 0.4 * half_width) + 0.4 * wall

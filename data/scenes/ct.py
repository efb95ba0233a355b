"""CT of a lower leg with a soft-tissue tumour, and the tumour's outline as a mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import Field, soft

SHAPE = (24, 48, 48)
SPACING = (3.0, 2.0, 2.0)
"""mm, as (z, y, x): slices are thicker than pixels are wide."""

Point = tuple[float, float, float]
"""mm, as (z, y, x)."""

AIR, FAT, MUSCLE, MARROW, CORTEX, TUMOUR = -1000.0, -100.0, 55.0, 20.0, 900.0, 35.0
"""Hounsfield units."""


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Two cases of int16 Hounsfield units and uint8 masks (1: tumour), each (24, 48, 48)."""
    rng = np.random.default_rng(7)
    smooth = leg(rng, centre=(33, 68, 50), radii=(17, 10, 13), texture=6, coarse=6)
    rough = leg(rng, centre=(40, 66, 54), radii=(24, 11, 15), texture=28, coarse=3)
    return {
        f"{case}/{name}.nii.gz": volume
        for case, volumes in (("smooth", smooth), ("rough", rough))
        for name, volume in zip(("image", "roi"), volumes, strict=True)
    }


def leg(
    rng: np.random.Generator, centre: Point, radii: Point, texture: float, coarse: float
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Image and mask; `texture` is the tumour's deviation in HU, `coarse` its grain in mm."""
    along = np.inf  # bones and limb run through all slices
    tumour = distance(centre, radii)
    image = np.full(SHAPE, AIR)
    for shape, inside in (
        (distance((0, 48, 48), (along, 42, 40)), FAT),
        (distance((0, 48, 48), (along, 36, 34)), MUSCLE),
        (distance((0, 30, 55), (along, 9, 10)), CORTEX),
        (distance((0, 30, 55), (along, 5, 6)), MARROW),
        (distance((0, 44, 24), (along, 4.5, 4.5)), CORTEX),
        (tumour, TUMOUR + texture * grain(rng, coarse)),
    ):
        image += (inside - image) * soft(shape, width=0.1)
    image += 8 * grain(rng, 1.5)  # the scanner's noise, smoothed by its reconstruction
    return np.round(image).astype(np.int16), (tumour < 0).astype(np.uint8)


def distance(centre: Point, radii: Point) -> Field:
    """Negative inside an ellipsoid, 0 on it, positive outside; in units of its radii (mm)."""
    steps = np.array(SPACING)[:, None, None, None]
    away = np.indices(SHAPE) * steps - np.reshape(centre, steps.shape)
    return np.sqrt(np.square(away / np.reshape(radii, steps.shape)).sum(axis=0)) - 1


def grain(rng: np.random.Generator, sigma: float) -> Field:
    """White noise after a Gaussian of `sigma` mm, of deviation 1; the ends meet."""
    noise = np.fft.fftn(rng.standard_normal(SHAPE))
    frequencies = (np.fft.fftfreq(n, step) for n, step in zip(SHAPE, SPACING, strict=True))
    for frequency in np.meshgrid(*frequencies, indexing="ij"):
        noise *= np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    field = np.fft.ifftn(noise).real
    return field / field.std()

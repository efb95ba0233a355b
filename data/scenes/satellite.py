"""Satellite scenes: reflectance x 10000 in four bands, 10 m pixels, with a nodata corner."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import Field, blend, blur, cells, clouds, soft

SHAPE = (256, 256)
# Reflectance of each ground in blue, green, red and near infrared.
WATER = (0.06, 0.05, 0.03, 0.02)
FOREST = (0.03, 0.05, 0.03, 0.28)
ASPHALT = (0.10, 0.11, 0.12, 0.15)
SOIL = (0.09, 0.13, 0.18, 0.26)
CROP = (0.04, 0.08, 0.05, 0.46)
STUBBLE = (0.10, 0.15, 0.21, 0.32)
GRASS = (0.05, 0.09, 0.07, 0.36)
ROOFS = ((0.16, 0.16, 0.17, 0.20), (0.12, 0.14, 0.24, 0.27), (0.34, 0.35, 0.36, 0.38))


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Two uint16 scenes (4, 256, 256); 0 is nodata."""
    rng = np.random.default_rng(4)
    row, column = np.indices(SHAPE)
    return {
        "farmland.tif": scene(farmland(rng), rng, outside=column - 0.45 * row > 205),
        "town.tif": scene(town(rng), rng, outside=row - 1.6 * column > 190),
    }


def scene(
    ground: Field, rng: np.random.Generator, outside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint16]:
    """Light, blur, haze and sensor noise over (H, W, 4) reflectance; 0 outside the swath."""
    light = 1 + 0.05 * clouds(rng, SHAPE, 160)
    seen = np.stack([blur(ground[..., band] * light, 0.55) for band in range(4)])
    seen += np.array((0.030, 0.018, 0.010, 0.004))[:, None, None]
    seen *= 1 + 0.012 * rng.standard_normal(seen.shape)
    return np.where(outside, 0, np.clip(seen * 10_000, 1, 10_000)).round().astype(np.uint16)


def farmland(rng: np.random.Generator) -> Field:
    """Fields with plough lines, a wood, a river, farm roads, a few farmhouses."""
    row, column = np.indices(SHAPE).astype(np.float64)
    ground = fields(rng, row, column)
    wood = soft(0.9 - clouds(rng, SHAPE, 110), 0.1)
    crowns = 1 + 0.30 * clouds(rng, SHAPE, 5, octaves=2)
    ground = blend(ground, np.asarray(FOREST) * crowns[..., None], wood)
    bend = 150 + 45 * np.sin(row / 38) + 12 * np.sin(row / 13)
    ground = blend(ground, GRASS, soft(abs(column - bend) - 11, 3))
    ground = blend(ground, WATER, soft(abs(column - bend) - 6 - row / 90, 1.5))
    for offset, slope in ((60, 0.25), (205, -0.18)):
        ground = blend(ground, ASPHALT, soft(abs(row - offset - slope * column) - 1.2, 1))
    ground = blend(ground, SOIL, 0.8 * soft(abs(column - 70 - 0.3 * row) - 0.8, 1))
    for top, left in ((70, 40), (78, 50), (84, 36), (195, 215), (188, 226)):
        build(ground, rng, top, left, (6, 9))
    return ground


def fields(rng: np.random.Generator, row: Field, column: Field) -> Field:
    """A patchwork of parcels, each with its crop, its vigour and its own plough direction."""
    parcel, margin, count = cells(rng, SHAPE, 44)
    kinds = np.array([CROP, SOIL, STUBBLE, GRASS])[rng.integers(0, 4, count)]
    vigour = rng.normal(1, 0.12, count)[parcel] + 0.05 * clouds(rng, SHAPE, 30)
    angle = rng.uniform(0, np.pi, count)[parcel]
    furrows = np.sin((row * np.sin(angle) + column * np.cos(angle)) * 2 * np.pi / 4.5)
    ground = kinds[parcel] * (vigour + 0.06 * furrows)[..., None]
    return blend(ground, GRASS, soft(margin - 1.5, 1))


def town(rng: np.random.Generator) -> Field:
    """Blocks of houses between turned streets, a park with a pond, a railway, a lake shore."""
    row, column = np.indices(SHAPE).astype(np.float64)
    u, v = 0.97 * column + 0.24 * row, -0.24 * column + 0.97 * row
    garden = 1 + 0.15 * clouds(rng, SHAPE, 8)
    ground = np.asarray(GRASS) * garden[..., None]
    street = np.minimum(abs((u + 4) % 34 - 17), abs((v + 9) % 26 - 13))
    for top in range(2, 250, 6):
        for left in range(2, 250, 6):
            if street[top + 2, left + 2] > 4.5 and rng.random() < 0.72:
                build(ground, rng, top, left, (int(rng.integers(3, 6)), int(rng.integers(3, 6))))
    for _ in range(5):
        build(ground, rng, int(rng.integers(150, 235)), int(rng.integers(120, 225)), (14, 22))
    ground = blend(ground, ASPHALT, soft(street - 1.1, 1))
    crowns = np.asarray(FOREST) * (1 + 0.3 * clouds(rng, SHAPE, 5, octaves=2))[..., None]
    edge = 34 + 3 * clouds(rng, SHAPE, 20)
    ground = blend(ground, crowns, soft(np.hypot(row - 90, column - 150) - edge, 2))
    ground = blend(ground, GRASS, soft(np.hypot(row - 96, column - 158) - 18, 2))
    ground = blend(ground, WATER, soft(np.hypot(row - 96, (column - 160) / 1.5) - 8, 1.5))
    ground = blend(ground, SOIL, soft(abs(row - 0.5 * column - 105) - 2.2, 1))
    ground = blend(ground, ASPHALT, soft(abs(row - 0.5 * column - 105) - 0.7, 1))
    shore = 34 + 14 * np.sin(row / 40) + 3 * clouds(rng, (256, 1), 20)
    ground = blend(ground, STUBBLE, soft(column - shore - 4, 2))
    return blend(ground, WATER, soft(column - shore, 1.5))


def build(
    ground: Field, rng: np.random.Generator, top: int, left: int, size: tuple[int, int]
) -> None:
    """A roof and its shadow to the north-west; changes `ground`."""
    bottom, right = top + size[0], left + size[1]
    ground[top - 1 : bottom - 1, left - 1 : right - 1] *= 0.45
    ground[top:bottom, left:right] = np.asarray(ROOFS[rng.integers(0, 3)]) * rng.normal(1, 0.12)

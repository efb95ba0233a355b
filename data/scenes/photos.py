"""Photographs that were never taken: a landscape, a street, a table, pebbles, a leaf."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import Field, blend, blur, cells, clouds, coordinates, ellipse, soft, to_uint8

BALLS = (
    ((0.60, 0.30), 0.20, (0.80, 0.20, 0.15)),
    ((0.66, 0.62), 0.16, (0.95, 0.62, 0.12)),
    ((0.78, 0.44), 0.10, (0.35, 0.60, 0.22)),
)
"""Of the still life: centre (row, column) and radius in parts of the picture, colour."""


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Colour, gray and transparent pictures of different sizes, and a 32 x 32 thumbnail."""
    rng = np.random.default_rng(2)
    return {
        "landscape.jpg": to_uint8(landscape(rng, (320, 480))),
        "street.png": to_uint8(street(rng)),
        "still_life.jpg": to_uint8(still_life(rng)),
        "pebbles_gray.png": pebbles(rng),
        "leaf_alpha.png": leaf(rng),
        "thumbnail_32.png": to_uint8(landscape(rng, (32, 32))),
    }


def landscape(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Sky with clouds, three mountain ridges that fade with distance, a meadow with flowers."""
    y, x = coordinates(shape)
    zenith = np.full((*shape, 3), (0.30, 0.52, 0.85))
    sky = blend(zenith, (0.86, 0.90, 0.93), np.clip(y / 0.5, 0, 1))
    cover = np.clip(clouds(rng, shape, shape[1] / 3) - 0.2, 0, 1)
    picture = blend(sky, (0.98, 0.97, 0.96), cover)
    for level, height, colour in (
        (0.42, 0.10, (0.58, 0.66, 0.78)),
        (0.52, 0.08, (0.38, 0.48, 0.55)),
        (0.62, 0.05, (0.20, 0.32, 0.24)),
    ):
        skyline = level - height * clouds(rng, (1, shape[1]), shape[1] / 4)[0] * 0.6
        shade = 1 + 0.10 * clouds(rng, shape, shape[1] / 12)
        layer = np.asarray(colour) * shade[..., None]
        picture = blend(picture, layer, soft(skyline[None, :] - y, 1.5 / shape[0]))
    return meadow(rng, picture, y, x)


def meadow(rng: np.random.Generator, picture: Field, y: Field, x: Field) -> Field:
    """Grass that gets coarser towards the camera, the shadow of a cloud, poppies."""
    shape = (y.shape[0], y.shape[1])
    blades = rng.standard_normal(shape)
    fine, coarse = (blur(blades, s) / blur(blades, s).std() for s in (0.5, 1.4))
    near = np.clip((y - 0.68) / 0.32, 0, 1)
    grass = 0.42 + 0.06 * fine * (1 - near) + 0.09 * coarse * near
    grass -= 0.14 * soft(ellipse(y, x, (0.8, 0.3), (0.06, 0.3)), 0.6)
    ground = grass[..., None] * (0.80, 1.0, 0.38) + 0.08 * near[..., None] * (1.0, 0.7, 0.1)
    picture = blend(picture, ground, soft(0.68 + 0.03 * np.sin(3 * x) - y, 1.5 / shape[0]))
    poppies = (rng.random(shape) < 0.004) * (y > 0.75)
    return blend(picture, (0.85, 0.12, 0.08), np.clip(blur(poppies * 8.0, 0.9), 0, 1))


def street(rng: np.random.Generator) -> Field:
    """A brick facade in the evening sun: rows of windows, a door, the shadow of a house."""
    shape = (240, 320)
    wall = _bricks(rng, shape)
    for top, left in ((t, s) for t in (20, 90) for s in (24, 98, 172, 246)):
        _window(wall, rng, top, left)
    _window(wall, rng, 160, 190)
    wall[150:228, 60:110] = (0.75, 0.72, 0.66)
    wall[156:228, 66:104] = (0.16, 0.25, 0.20)
    wall[164:190, 70:82] = wall[164:190, 88:100] = (0.20, 0.31, 0.26)
    wall[192:196, 96:100] = (0.85, 0.70, 0.30)
    wall[228:] = 0.45 + 0.04 * rng.standard_normal((12, 320, 1))
    wall[226:228] = 0.62
    row, column = np.indices(shape)
    shadow = 0.5 * soft(row - 1.1 * (column - 150.0), 4)
    wall *= 1 - shadow[..., None] * (0.9, 0.8, 0.55)
    return wall + 0.012 * rng.standard_normal((*shape, 3))


def _bricks(rng: np.random.Generator, shape: tuple[int, int]) -> Field:
    """Bricks of 14 x 6 pixels, every other course shifted by half a brick."""
    row, column = np.indices(shape)
    course = row // 6
    shifted = column + course % 2 * 7
    tones = rng.normal(1, 0.10, (shape[0] // 6 + 1, shape[1] // 14 + 2))
    brick = tones[course, shifted // 14][..., None] * (0.63, 0.33, 0.25)
    mortar = (row % 6 == 0) | (shifted % 14 == 0)
    return np.where(mortar[..., None], (0.72, 0.68, 0.62), brick)


def _window(wall: Field, rng: np.random.Generator, top: int, left: int) -> None:
    """Stone frame, cross bars and panes that mirror the sky; changes `wall`."""
    wall[top - 3 : top + 53, left - 3 : left + 45] = (0.80, 0.77, 0.72)
    wall[top : top + 50, left : left + 42] = (0.93, 0.93, 0.90)
    light = np.linspace(0.75, 0.25, 46)[:, None, None] * (0.55, 0.72, 0.95) + rng.uniform(-0.1, 0.1)
    wall[top + 2 : top + 48, left + 2 : left + 40] = light
    wall[top + 18 : top + 20, left : left + 42] = (0.93, 0.93, 0.90)
    wall[top : top + 50, left + 20 : left + 22] = (0.93, 0.93, 0.90)
    wall[top + 53 : top + 57, left - 5 : left + 47] = (0.35, 0.22, 0.18)


def still_life(rng: np.random.Generator) -> Field:
    """Three balls with highlights and soft shadows on a wooden table before a plain wall."""
    shape = (300, 360)
    y, x = coordinates(shape)
    grain = clouds(rng, (shape[0], 1), 8)[:, :1] + 0.4 * clouds(rng, shape, 90)
    wood = (0.55 + 0.05 * np.sin(5 * grain) + 0.03 * grain)[..., None] * (1.0, 0.68, 0.42)
    wall = (0.78 - 0.25 * np.hypot(y - 0.1, x - 0.2))[..., None] * (0.92, 0.95, 1.0)
    picture = blend(wall, wood, soft(0.45 - y, 0.006))
    for centre, radius, _ in BALLS:
        foot = (centre[0] + 0.9 * radius, centre[1] + 0.6 * radius)
        shadow = soft(ellipse(y, x, foot, (0.35 * radius, 1.2 * radius)), 1.5)
        picture = picture * (1 - 0.6 * shadow[..., None])
    for (cy, cx), radius, colour in BALLS:
        v, u = (y - cy) / radius, (x - cx) * shape[1] / shape[0] / radius
        skin = _lit(u, v, np.asarray(colour), 0.02 * clouds(rng, shape, 12))
        picture = blend(picture, skin, soft(np.hypot(u, v) - 1, 0.03))
    return picture + 0.008 * rng.standard_normal((*shape, 3))


def _lit(u: Field, v: Field, colour: Field, grain: Field) -> Field:
    """A ball's colour where its disk is (u, v), lit from the upper left, with a highlight."""
    z = np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
    diffuse = np.clip(-0.5 * u - 0.6 * v + 0.62 * z, 0, 1)
    gloss = np.clip(-0.27 * u - 0.33 * v + 0.905 * z, 0, 1) ** 60
    return colour * (0.18 + 0.9 * diffuse + grain)[..., None] + 0.8 * gloss[..., None]


def pebbles(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(256, 256) gray: rounded stones, lit from the upper left."""
    shape = (256, 256)
    stone, gap, count = cells(rng, shape, 21)
    height = blur(np.sqrt(np.clip(gap, 0, 9)), 1.5) + 0.08 * clouds(rng, shape, 6)
    tilt_y, tilt_x = np.gradient(height)
    tone = rng.uniform(0.35, 0.8, count)[stone]
    lit = tone * (0.9 - 0.7 * (tilt_x + tilt_y)) * np.clip(gap / 5, 0.25, 1)
    return to_uint8(blur(lit, 0.6) + 0.015 * rng.standard_normal(shape))


def leaf(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(240, 200) RGBA: a leaf with veins; transparent beside it."""
    shape = (240, 200)
    y, x = coordinates(shape)
    u, along = x - 0.5 - 0.04 * np.sin(4 * y), np.clip((y - 0.06) / 0.78, 0, 1)
    width = 0.40 * np.sin(np.pi * along**0.8) ** 0.9 + 1e-3
    inside = soft(abs(u) - width, 0.02)
    ribs = (y + 0.75 * abs(u)) * 11 % 1
    midrib = np.exp(-((u / 0.010) ** 2))
    veins = np.maximum(midrib, 0.7 * np.exp(-(((ribs - 0.5) / 0.07) ** 2)))
    stem = soft(abs(u) - 0.012, 0.008) * ((y > 0.8) & (y < 0.97))
    green = 0.42 + 0.06 * clouds(rng, shape, 40) + 0.03 * rng.standard_normal(shape)
    blade = (green - 0.10 * (u < 0))[..., None] * (0.50, 1.0, 0.30)
    colour = blend(blade, (0.72, 0.80, 0.42), np.maximum(veins, stem))
    return to_uint8(np.dstack([colour, np.maximum(inside, stem)]))

"""Pen strokes: single letters, digits and a written page."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scenes.field import Field, blend, blur, clouds, to_uint8
from scenes.glyphs import GLYPHS

PAGE = (
    "a line is a stroke of the hand",
    "it turns and it rests on the sheet",
    "ink is dark and the sheet is not",
    "look for the ends and the turns",
    "trees 37   rails 120   stones 4985",
    "the rest is still to be read 26",
)


def images() -> dict[str, npt.NDArray[np.generic]]:
    """Letters in ink on 1-bit paper, digits in light on dark 8-bit, a page of 400 x 600."""
    rng = np.random.default_rng(5)
    letters = {f"letter_{c}.png": letter(c, rng) for c in "aehkst"}
    digits = {f"digit_{c}.png": digit(c, rng) for c in "0123456789"}
    return {**letters, **digits, "page.png": page(rng)}


def letter(character: str, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(105, 105): ink is 0 and paper 1, as in the Omniglot set."""
    ink = draw(GLYPHS[character], (105, 105), (20.0, 26.0), (58.0, 50.0), 1.5, rng)
    return ink < 0.5


def digit(character: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(28, 28): light ink on black, as in the MNIST set."""
    return to_uint8(draw(GLYPHS[character], (28, 28), (4.0, 7.5), (20.0, 14.0), 1.1, rng))


def page(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """(400, 600, 3): six lines in blue ink on ruled, slightly stained paper."""
    shape = (400, 600)
    paper = 0.92 + 0.012 * clouds(rng, shape, 200) + 0.010 * rng.standard_normal(shape)
    picture = paper[..., None] * (1.0, 0.98, 0.92)
    ruling = np.isin(np.arange(400) % 56, (52,))[:, None] * np.ones(600)
    picture = blend(picture, (0.62, 0.75, 0.88), 0.6 * blur(ruling, 0.6))
    margin = (np.arange(600) == 46) * np.ones((400, 1))
    picture = blend(picture, (0.85, 0.45, 0.45), 0.7 * blur(margin, 0.6))
    ink = np.zeros(shape)
    for number, line in enumerate(PAGE):
        write(ink, line, 56.0 * (number + 1) + 25.0, rng)
    fade = 0.86 + 0.06 * clouds(rng, shape, 60)
    return to_uint8(blend(picture, (0.10, 0.14, 0.42), ink * fade))


def write(ink: Field, line: str, baseline: float, rng: np.random.Generator) -> None:
    """Letters one after the other, with an unsteady hand; changes `ink`."""
    left = 60.0
    for character in line:
        if character != " ":
            top = baseline - 24.0 + rng.normal(0, 0.7)
            glyph = draw(GLYPHS[character], ink.shape, (top, left), (24.0, 14.0), 1.05, rng)
            np.maximum(ink, glyph, out=ink)
        left += rng.normal(15.5, 0.5)


def draw(
    strokes: tuple[str, ...],
    shape: tuple[int, ...],
    corner: tuple[float, float],
    size: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> Field:
    """Ink, 0..1, of strokes scaled to `size` at `corner`: shaky, slanted, with pen pressure."""
    ink = np.zeros(shape)
    slant, shake = rng.normal(0.12, 0.04), 0.025
    for stroke in strokes:
        points = np.array([[float(n) for n in pair.split(",")] for pair in stroke.split()]) / 10
        points += rng.normal(0, shake, points.shape)
        points[:, 1] += slant * (0.5 - points[:, 0])
        path = smooth(points) * size + corner
        pressure = radius * (1 + 0.25 * np.sin(np.linspace(0.5, 3.4, len(path))))
        stamp(ink, path, pressure)
    return ink


def smooth(points: Field, steps: int = 24) -> Field:
    """A Catmull-Rom curve through (n, 2) points."""
    ends = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        bend = (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        parts.append(b + 0.5 * ((c - a) * t + bend))
    return np.vstack([*parts, points[-1:]])


def stamp(ink: Field, path: Field, radii: Field) -> None:
    """Press a soft round nib at every point of a path; changes `ink` near it."""
    low = np.maximum(np.floor(path.min(axis=0)).astype(int) - 4, 0)
    high = np.ceil(path.max(axis=0)).astype(int) + 5
    window = ink[low[0] : high[0], low[1] : high[1]]
    row, column = np.indices(window.shape)
    away = np.hypot(row[..., None] + low[0] - path[:, 0], column[..., None] + low[1] - path[:, 1])
    np.maximum(window, np.clip(radii + 0.5 - away, 0, 1).max(axis=-1), out=window)

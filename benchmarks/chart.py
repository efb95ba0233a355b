"""Small charts as PNG: lines over a logarithmic axis, or bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDE, HIGH = 300, 220
"""Of a panel, in pixels of the picture."""
FINE = 3
"""Drawn so many times larger, and reduced: smooth lines."""
LEFT, RIGHT, ABOVE, BELOW = 44, 22, 40, 40
INK, GRID, PAPER = "#24292f", "#d8dee4", "#ffffff"
REST = "#8c959f"
COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df")


@dataclass(frozen=True)
class Line:
    """One line: its name, and its points from left to right."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """Lines over one pair of axes; the one upwards begins at 0, the other is logarithmic."""

    title: str
    axis: str
    lines: Sequence[Line]


class Sheet:
    """A canvas in pixels of the picture, whatever it is drawn at."""

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self.image = Image.new("RGB", (width * FINE, height * FINE), PAPER)
        self.pen = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(11 * FINE)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: float = 1) -> None:
        scaled = [(x * FINE, y * FINE) for x, y in points]
        self.pen.line(scaled, colour, round(width * FINE), joint="curve")

    def box(self, x: float, y: float, right: float, below: float, colour: str) -> None:
        self.pen.rectangle([v * FINE for v in (x, y, right, below)], colour)

    def dot(self, x: float, y: float, colour: str) -> None:
        self.pen.circle((x * FINE, y * FINE), 2.5 * FINE, colour)

    def text(self, x: float, y: float, words: str, anchor: str, colour: str = INK) -> None:
        self.pen.text((x * FINE, y * FINE), words, colour, self.font, anchor)

    def save(self, file: Path) -> None:
        small = self.image.resize(self.size, Image.Resampling.LANCZOS)
        small.quantize(64).save(file, format="PNG", optimize=True)


def draw(panels: Sequence[Panel], file: Path, columns: int = 3) -> None:
    """Panels side by side, row by row."""
    rows = -(-len(panels) // columns)
    sheet = Sheet(WIDE * min(columns, len(panels)), HIGH * rows)
    for i, panel in enumerate(panels):
        _panel(sheet, panel, WIDE * (i % columns), HIGH * (i // columns))
    sheet.save(file)


def _panel(sheet: Sheet, panel: Panel, left: int, top: int) -> None:
    xs = [x for line in panel.lines for x in line.x]
    low, high = log10(min(xs)), max(log10(max(xs)), log10(min(xs)) + 1e-9)
    most = 1.15 * max(1e-9, *(y for line in panel.lines for y in line.y))
    x0, x1, y0, y1 = left + LEFT, left + WIDE - RIGHT, top + ABOVE, top + HIGH - BELOW

    def place(x: float, y: float) -> tuple[float, float]:
        return x0 + (log10(x) - low) / (high - low) * (x1 - x0), y1 - y / most * (y1 - y0)

    sheet.text(left + 6, top + 14, panel.title, "lm")
    sheet.text((x0 + x1) / 2, top + HIGH - 10, panel.axis, "mm")
    for y in _ticks(most):
        sheet.line([place(10**low, y), place(10**high, y)], GRID)
        sheet.text(x0 - 4, place(10**low, y)[1], f"{y:g}", "rm")
    for x in _apart(sorted(set(xs)), low, high, x1 - x0):
        sheet.text(place(x, 0)[0], y1 + 10, f"{x:g}", "mm")
    for i, line in enumerate(panel.lines):
        points = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        sheet.line(points, COLOURS[i], 1.5)
        for x, y in points:
            sheet.dot(x, y, COLOURS[i])
        sheet.text(x1, top + 14 + 14 * i, line.name, "rm", COLOURS[i])


def _ticks(most: float) -> list[float]:
    """Round numbers from 0, four or so."""
    rough = most / 4
    power = 10.0 ** floor(log10(rough))
    step = min((s * power for s in (1, 2, 5, 10)), key=lambda s: abs(s - rough))
    return [step * i for i in range(int(most / step) + 1)]


def _apart(xs: Sequence[float], low: float, high: float, wide: float) -> list[float]:
    """Those whose labels do not touch."""
    kept: list[float] = []
    for x in xs:
        if not kept or (log10(x) - log10(kept[-1])) / (high - low) * wide > 42:
            kept.append(x)
    return kept


def draw_bars(title: str, values: Mapping[str, float], file: Path) -> None:
    """Bars by name from the top down, each with its figure; the first stands out."""
    row, left, wide = 22, 90, 560
    sheet = Sheet(wide, 40 + row * len(values))
    most = max(values.values())
    sheet.text(8, 16, title, "lm")
    for i, (name, value) in enumerate(values.items()):
        y = 32 + row * i
        end = left + value / most * (wide - left - 50)
        sheet.text(left - 8, y + row / 2, name, "rm")
        sheet.box(left, y + 4, end, y + row - 4, COLOURS[0] if i == 0 else REST)
        sheet.text(end + 6, y + row / 2, f"{value:.2f}", "lm")
    sheet.save(file)

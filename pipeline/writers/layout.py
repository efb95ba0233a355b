"""A page of small pictures with captions: where each goes, and how its text is made to fit.

The font is the one inside Pillow, so that a page is the same on every machine. It has ASCII and
little more: other letters are spelled out, and the true name stays in the file's text chunks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pipeline.writers.thumbnail import Pixels

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font: TypeAlias = FreeTypeFont | ImageFont

MARGIN, GAP, LEADING = 32, 20, 18
TITLE, TEXT, HEADLINE = 24, 14, 38  # font sizes, and the room for the title, in pixels
PAPER, INK, FAINT, FRAME = (255, 255, 255), (24, 33, 47), (98, 108, 124), (203, 208, 216)
Colour: TypeAlias = tuple[int, int, int]
Line: TypeAlias = tuple[str, Colour]
REMEMBERED = 1024  # lines of text: drawing one anew costs more than a small thumbnail
KEPT = "…·°±"
SPELLED = {
    "\N{MICRO SIGN}": "u",
    "\N{GREEK SMALL LETTER MU}": "u",
    "\N{GREEK SMALL LETTER SIGMA}": "sigma",
    "\N{LATIN SMALL LETTER SHARP S}": "ss",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture and its caption: the name in ink, the notes below it in gray."""

    pixels: Pixels
    name: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Key:
    """One line of the legend: a bar of colours (h, w, 3) or (h, w), and what it means."""

    pixels: Pixels
    meaning: str


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above the tiles: a title, lines about it, the legend and a picture."""

    title: str
    about: tuple[str, ...]
    legend: tuple[Key, ...]
    picture: Pixels | None = None


def printable(text: str) -> str:
    r"""Spell text with the letters that the font has.

    >>> printable("Größe 3 µm, 山")
    'Grosse 3 um, \\u5c71'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spell(letter) for letter in text)


def _spell(letter: str) -> str:
    if letter in KEPT or " " <= letter <= "~":
        return letter
    if letter in SPELLED:
        return SPELLED[letter]
    parts = unicodedata.normalize("NFKD", letter)
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return plain.encode("unicode_escape").decode()


def shorten(text: str, width: float, font: Font) -> str:
    """Replace the middle of a text by an ellipsis until it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 1 and font.getlength(_ellipsis(text, kept)) > width:
        kept -= 1
    return _ellipsis(text, kept)


def _ellipsis(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def wrap(name: str, width: float, font: Font) -> tuple[str, ...]:
    """Break a response's name after a comma or bracket into at most two lines that fit."""
    if font.getlength(name) <= width:
        return (name,)
    breaks = [at + 1 for at, letter in enumerate(name[:-1]) if letter in ",(/ "]
    fitting = [at for at in breaks if font.getlength(name[:at]) <= width]
    if not fitting:
        return (shorten(name, width, font),)
    return name[: fitting[-1]].rstrip(), shorten(name[fitting[-1] :], width, font)


def page(head: Head, tiles: Sequence[Tile], footer: str, *, columns: int, side: int) -> Pixels:
    """Draw the head, the tiles row by row in cells `side` pixels wide, and the footer."""
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    captions = [[_caption(tile, side) for tile in row] for row in rows]
    pictures = [max(tile.pixels.shape[0] for tile in row) for row in rows]
    texts = [LEADING * max(map(len, row)) + 8 + GAP for row in captions]
    top = MARGIN + _head_height(head) + GAP
    height = top + sum(pictures) + sum(texts) + LEADING + MARGIN
    sheet = np.full(
        (height, 2 * MARGIN + columns * (side + GAP) - GAP, 3), PAPER[0], dtype=np.uint8
    )
    _draw_head(sheet, head)
    for row, lines, picture_height, text_height in zip(
        rows, captions, pictures, texts, strict=True
    ):
        for column, tile in enumerate(row):
            left, bottom = MARGIN + column * (side + GAP), top + picture_height
            _paste(sheet, (left, bottom - tile.pixels.shape[0]), tile.pixels)
            _write(sheet, (left, bottom + 6), lines[column])
        top += picture_height + text_height
    _text(sheet, (MARGIN, top), footer, FAINT)
    return sheet


def _caption(tile: Tile, side: int) -> list[Line]:
    name = [(line, INK) for line in _name(printable(tile.name), side)]
    return name + [(shorten(printable(note), side, _font(TEXT)), FAINT) for note in tile.notes]


@lru_cache(maxsize=REMEMBERED)
def _name(name: str, side: int) -> tuple[str, ...]:
    return wrap(name, side, _font(TEXT))


@lru_cache(maxsize=2)
def _font(size: int) -> Font:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _write(sheet: Pixels, at: tuple[int, int], lines: Sequence[Line]) -> None:
    left, top = at
    for line, (text, colour) in enumerate(lines):
        _text(sheet, (left, top + line * LEADING), text, colour)


def _text(
    sheet: Pixels,
    at: tuple[int, int],
    text: str,
    colour: Colour,
    size: int = TEXT,
    anchor: str = "la",
) -> None:
    drawn, right, down = _letters(text, colour, size, anchor)
    left, top = at[0] + right, at[1] + down
    room = sheet[top : top + drawn.shape[0], left : left + drawn.shape[1]]
    room[...] = drawn[:, : room.shape[1]]


@lru_cache(maxsize=REMEMBERED)
def _letters(text: str, colour: Colour, size: int, anchor: str) -> tuple[Pixels, int, int]:
    """A line of text on paper, (h, w, 3), and how far right and down of its place it begins."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = map(round, _font(size).getbbox(text, anchor=anchor))
    image = Image.new("RGB", (right - left, bottom - top), PAPER)
    ImageDraw.Draw(image).text((-left, -top), text, colour, _font(size), anchor=anchor)
    return np.asarray(image), left, top


def _paste(sheet: Pixels, at: tuple[int, int], pixels: Pixels) -> None:
    """Put pixels on the page inside a thin frame, so that white ones end somewhere."""
    left, top = at
    height, width = pixels.shape[:2]
    framed = sheet[top - 1 : top + height + 1, left - 1 : left + width + 1]
    framed[[0, -1]] = framed[:, [0, -1]] = FRAME
    room = framed[1:-1, 1:-1]
    if pixels.ndim == 3:
        room[...] = pixels
    else:
        for channel in range(3):  # five times as fast as to broadcast along the last, short axis
            room[..., channel] = pixels


def _head_height(head: Head) -> int:
    text = HEADLINE + LEADING * len(head.about) + 12 + (LEADING + 4) * len(head.legend)
    return max(text, 0 if head.picture is None else head.picture.shape[0])


def _draw_head(sheet: Pixels, head: Head) -> None:
    left, top = MARGIN, MARGIN
    if head.picture is not None:
        _paste(sheet, (left, top), head.picture)
        left += head.picture.shape[1] + GAP
    room = sheet.shape[1] - MARGIN - left
    title = shorten(printable(head.title), room, _font(TITLE))
    _text(sheet, (left, top - 4), title, INK, TITLE)
    about = [(shorten(printable(line), room, _font(TEXT)), FAINT) for line in head.about]
    _write(sheet, (left, top + HEADLINE), about)
    top += HEADLINE + LEADING * len(about) + 12
    for key in head.legend:
        height, width = key.pixels.shape[:2]
        _paste(sheet, (left, top), key.pixels)
        _text(sheet, (left + width + 10, top + height // 2), key.meaning, FAINT, anchor="lm")
        top += LEADING + 4

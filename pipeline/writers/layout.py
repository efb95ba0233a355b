"""A page of small pictures with captions: where each goes, and how its text is made to fit.

The font is the one inside Pillow, so that a page is the same on every machine. It has ASCII and
little more: other letters are spelled out, and the true name stays in the file's text chunks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from pipeline.writers.png import picture
from pipeline.writers.thumbnail import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font: TypeAlias = FreeTypeFont | ImageFont

MARGIN, GAP, LEADING = 32, 20, 18
TITLE, TEXT, HEADLINE = 24, 14, 38  # font sizes, and the room for the title, in pixels
PAPER, INK, FAINT, FRAME = (255, 255, 255), (24, 33, 47), (98, 108, 124), (203, 208, 216)
Colour: TypeAlias = tuple[int, int, int]
Line: TypeAlias = tuple[str, Colour]
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


def page(head: Head, tiles: Sequence[Tile], footer: str, *, columns: int, side: int) -> Image:
    """Draw the head, the tiles row by row in cells `side` pixels wide, and the footer."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(TEXT)
    rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
    captions = [[_caption(tile, side, font) for tile in row] for row in rows]
    pictures = [max(tile.pixels.shape[0] for tile in row) for row in rows]
    texts = [LEADING * max(map(len, row)) + 8 + GAP for row in captions]
    top = MARGIN + _head_height(head) + GAP
    height = top + sum(pictures) + sum(texts) + LEADING + MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + columns * (side + GAP) - GAP, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(sheet, draw, head)
    for row, lines, picture_height, text_height in zip(
        rows, captions, pictures, texts, strict=True
    ):
        for column, tile in enumerate(row):
            left, bottom = MARGIN + column * (side + GAP), top + picture_height
            _paste(sheet, draw, (left, bottom - tile.pixels.shape[0]), tile.pixels)
            _write(draw, (left, bottom + 6), lines[column], font)
        top += picture_height + text_height
    draw.text((MARGIN, top), footer, FAINT, font)
    return sheet


def _caption(tile: Tile, side: int, font: Font) -> list[Line]:
    name = [(line, INK) for line in wrap(printable(tile.name), side, font)]
    return name + [(shorten(printable(note), side, font), FAINT) for note in tile.notes]


def _write(draw: ImageDraw, at: tuple[int, int], lines: Sequence[Line], font: Font) -> None:
    left, top = at
    for line, (text, colour) in enumerate(lines):
        draw.text((left, top + line * LEADING), text, colour, font)


def _paste(sheet: Image, draw: ImageDraw, at: tuple[int, int], pixels: Pixels) -> None:
    """Put pixels on the page inside a thin frame, so that white ones end somewhere."""
    left, top = at
    height, width = pixels.shape[:2]
    draw.rectangle((left - 1, top - 1, left + width, top + height), outline=FRAME)
    sheet.paste(picture(pixels), at)


def _head_height(head: Head) -> int:
    text = HEADLINE + LEADING * len(head.about) + 12 + (LEADING + 4) * len(head.legend)
    return max(text, 0 if head.picture is None else head.picture.shape[0])


def _draw_head(sheet: Image, draw: ImageDraw, head: Head) -> None:
    from PIL import ImageFont

    title, font = ImageFont.load_default(TITLE), ImageFont.load_default(TEXT)
    left, top = MARGIN, MARGIN
    if head.picture is not None:
        _paste(sheet, draw, (left, top), head.picture)
        left += head.picture.shape[1] + GAP
    room = sheet.width - MARGIN - left
    draw.text((left, top - 4), shorten(printable(head.title), room, title), INK, title)
    about = [(shorten(printable(line), room, font), FAINT) for line in head.about]
    _write(draw, (left, top + HEADLINE), about, font)
    top += HEADLINE + LEADING * len(about) + 12
    for key in head.legend:
        height, width = key.pixels.shape[:2]
        _paste(sheet, draw, (left, top), key.pixels)
        draw.text((left + width + 10, top + height // 2), key.meaning, FAINT, font, anchor="lm")
        top += LEADING + 4

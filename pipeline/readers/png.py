"""PNG, decoded by libpng (imagecodecs); animated PNG, composited by Pillow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar
from zlib import crc32

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS
from pipeline.readers.decoding import decoding
from pipeline.readers.orientation import orientation, turned, upright
from pipeline.readers.picture import COLOUR, GRAY, Picture, describe, refuse_page
from pipeline.readers.pillow import frame, pillow_image
from pipeline.types import ImageInfo


@READERS.register("png")
class Png:
    """PNG: gray is band `1`; colour and palette are red, green, blue; uint8 or uint16 as stored.

    Gray of 1, 2 and 4 bits becomes uint8, scaled exactly to 0..255 (x255, x85, x17: PNG
    specification, 13.12 "Sample depth rescaling"). Alpha and tRNS are validity: 0 is invalid. EXIF
    orientation is applied where the eXIf chunk precedes the pixels. Animated PNG has a page per
    frame, composited; of an animation of 16 bits the default picture is the only page, because
    Pillow, which composites, would cut its samples to 8 bits.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".png", ".apng")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"\x89PNG\r\n\x1a\n")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture, or one per frame: (H, W) upright, uint8 or uint16."""
        with decoding(path, "PNG") as file:
            header = _header(file)
            return (header.info,) * header.frames

    def open(self, path: str, page: int) -> Picture:
        """Decode one picture whole, checking every chunk's CRC."""
        with decoding(path, "PNG") as file:
            header = _header(file)
            refuse_page(page, header.frames)
            file.seek(0)
            if page == 0:  # the first frame is the picture that a plain PNG decoder shows
                return _still(file.read(), header)
            _check_chunks(file)
            with pillow_image(file, "PNG") as image:
                return frame(image, page, header.info, header.turn)


@dataclass(frozen=True, slots=True)
class _Header:
    info: ImageInfo
    frames: int
    turn: int


def _header(file: BinaryIO) -> _Header:
    """Read what precedes the pixels. Bytes 24 and 25 are IHDR's bit depth and colour type."""
    head = file.read(26)
    with pillow_image(file, "PNG") as image:
        deep, colour = head[24] == 16, bool(head[25] & 2)
        turn = orientation(image.info.get("exif"))
        shape = turned(image.size[::-1], turn)
        dtype = np.dtype(np.uint16 if deep else np.uint8)
        info = describe(shape, COLOUR if colour else GRAY, dtype)
        return _Header(info, 1 if deep else getattr(image, "n_frames", 1), turn)


def _check_chunks(file: BinaryIO) -> None:
    """Compare every chunk with its CRC: Pillow does not those of later frames."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4]), head[4:]
        data, checksum = file.read(length), file.read(4)
        if len(data) < length or crc32(data, crc32(kind)) != int.from_bytes(checksum):
            message = f"damaged PNG file (chunk {kind!r} fails its checksum); copy it again"
            raise ReadError("corrupt", message)
        if kind == b"IEND":
            break
    file.seek(0)


def _still(data: bytes, header: _Header) -> Picture:
    from imagecodecs import png_decode

    pixels = np.atleast_3d(png_decode(data))
    samples = upright(np.moveaxis(pixels, -1, 0), header.turn)
    count = len(header.info.bands)
    mask = samples[count:] > 0 if len(samples) > count else None
    return Picture(header.info, samples[:count], mask)

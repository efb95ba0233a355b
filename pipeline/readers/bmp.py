"""BMP, decoded by Pillow, and by imagecodecs where Pillow misreads a two-colour palette."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO, ClassVar

import numpy as np

from pipeline.readers.base import READERS
from pipeline.readers.decoding import decoding
from pipeline.readers.picture import GRAY, Picture, refuse_page
from pipeline.readers.pillow import describe_image, frame, pillow_image
from pipeline.types import ImageInfo


@READERS.register("bmp")
class Bmp:
    """BMP: black and white, and palettes that are a gray ramp, are band `1`; the rest is red,
    green, blue; uint8. An alpha channel is validity.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".bmp", ".dib")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL
    )

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture, (H, W), uint8."""
        with decoding(path, "BMP") as file, pillow_image(file, "BMP") as image:
            return (describe_image(image),)

    def open(self, path: str, page: int) -> Picture:
        """Decode the picture whole."""
        refuse_page(page)
        with decoding(path, "BMP") as file, pillow_image(file, "BMP") as image:
            info = describe_image(image)
            stored = {"1": 1, "L": 8}.get(image.mode)
            if stored is not None and stored != _bits(file):
                return _indexed(file, info)
            return frame(image, 0, info)


def _bits(file: BinaryIO) -> int:
    """Bits per pixel: after two 16-bit sizes in an OS/2 core header, else after two of 32 bits."""
    file.seek(14)
    core = int.from_bytes(file.read(4), "little") == 12
    file.seek(24 if core else 28)
    return int.from_bytes(file.read(2), "little")


def _indexed(file: BinaryIO, info: ImageInfo) -> Picture:
    """Decode 4- or 8-bit indices into a gray palette.

    Pillow 12 takes the indices' bytes for pixels of 1 or 8 bits once the palette is gray.
    """
    from imagecodecs import bmp_decode

    file.seek(0)
    pixels = np.atleast_3d(bmp_decode(file.read(), asrgb=True))
    return Picture(info, np.moveaxis(pixels, -1, 0)[: len(GRAY)])

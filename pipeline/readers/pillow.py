"""JPEG, GIF and WebP, decoded by Pillow.

Pillow is told the one format that the file's signature names, so no other of its decoders ever
sees the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal, TypeAlias

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS, Mask, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.orientation import orientation, turned, upright
from pipeline.readers.picture import COLOUR, GRAY, Picture, describe, refuse_page
from pipeline.types import ImageInfo

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

Form: TypeAlias = Literal["BMP", "GIF", "JPEG", "PNG", "WEBP"]

# Pixels above which a GIF is refused: Pillow fills the canvas while it reads the header. (It raises
# at twice its limit, and warns, which we drop, at once.)
GIF_CANVAS = 2**28
GRAY_MODES = ("1", "L", "LA")
COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "CMYK")
# Start-of-frame markers of the processes that libjpeg has: baseline, extended, progressive,
# lossless, and extended and progressive with arithmetic coding (ITU-T T.81, table B.1).
JPEG_PROCESSES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA)


@READERS.register("jpeg")
class Jpeg:
    """JPEG of 8 bits: gray is band `1`; RGB, YCbCr, CMYK and YCCK are red, green, blue.

    EXIF orientation is applied. CMYK is converted as Pillow does, (255 - ink) * (255 - black) / 255
    per ink, Adobe's inverted values being turned round first. Of a multi-picture file (MPO) the
    first picture is read. JPEG of other than 8 bits is `unsupported`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"\xff\xd8\xff")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture, (H, W) upright, uint8."""
        return _probe(path, "JPEG")

    def open(self, path: str, page: int) -> Picture:
        """Decode the picture whole."""
        return _open(path, page, "JPEG")


@READERS.register("gif")
class Gif:
    """GIF: red, green, blue of uint8, one page per frame, composited as a viewer shows it.

    Every frame has the canvas of the first; what a later one draws beyond it is cut off.
    Transparent pixels are invalid.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".gif",)
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"GIF8[79]a")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture per frame, (H, W), uint8."""
        return _probe(path, "GIF")

    def open(self, path: str, page: int) -> Picture:
        """Decode one frame; those before it are decoded too, it is drawn over them."""
        return _open(path, page, "GIF")


@READERS.register("webp")
class Webp:
    """WebP: red, green, blue of uint8, one page per frame, composited. Alpha is validity.

    EXIF orientation is applied.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".webp",)
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"RIFF.{4}WEBP", re.DOTALL)

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture per frame, (H, W) upright, uint8."""
        return _probe(path, "WEBP")

    def open(self, path: str, page: int) -> Picture:
        """Decode one frame; those before it are decoded too, it is drawn over them."""
        return _open(path, page, "WEBP")


@contextmanager
def pillow_image(file: BinaryIO, form: Form) -> Iterator[ImageFile]:
    """Read a header with Pillow, allowing this one format, without Pillow's own pixel limit.

    The limit that the user can set is checked on the probed shape, by whoever called `probe`;
    what is decoded may not be larger than the header said.
    """
    from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 (enrols WebP)

    before = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = GIF_CANVAS // 2 if form == "GIF" else None
        with Image.open(file, formats=[form]) as image:
            # A GIF frame that lies beyond the canvas would make Pillow enlarge it without end.
            Image.MAX_IMAGE_PIXELS = max(prod(image.size), 1)
            yield image
    except UnidentifiedImageError as error:
        message = f"has no {form} header that can be read; copy it again from its source"
        raise ReadError("corrupt", message) from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def planes(image: Image, bands: tuple[str, ...]) -> tuple[Pixels, Mask | None]:
    """Pixels of a Pillow image as (C, H, W) uint8, and alpha > 0 as (1, H, W) or None."""
    target = "RGB" if bands == COLOUR else "L"
    if not image.has_transparency_data:
        samples = np.asarray(image.convert(target))
        return (samples[None] if target == "L" else np.moveaxis(samples, -1, 0)), None
    samples = np.moveaxis(np.asarray(image.convert(target + "A")), -1, 0)
    return samples[:-1], samples[-1:] > 0


def frame(image: ImageFile, page: int, info: ImageInfo, turn: int = 1) -> Picture:
    """Decode one frame of an open file as the header described it."""
    image.seek(page)
    image.load()
    height, width = turned(info.shape, turn)
    whole = image if image.size == (width, height) else image.crop((0, 0, width, height))
    values, mask = planes(whole, info.bands)
    return Picture(info, upright(values, turn), None if mask is None else upright(mask, turn))


def _probe(path: str, form: Form) -> Sequence[ImageInfo]:
    with decoding(path, form) as file:
        _refuse_process(file, form)
        with pillow_image(file, form) as image:
            count = 1 if form == "JPEG" else getattr(image, "n_frames", 1)
            return (describe_image(image),) * count


def _open(path: str, page: int, form: Form) -> Picture:
    with decoding(path, form) as file:
        if form == "JPEG":
            refuse_page(page)
        _refuse_process(file, form)
        with pillow_image(file, form) as image:
            return frame(image, page, describe_image(image), orientation(image.info.get("exif")))


def describe_image(image: ImageFile) -> ImageInfo:
    """The header of an open file: (H, W) upright, uint8; GIF is colour whatever its palette."""
    if image.mode not in GRAY_MODES + COLOUR_MODES:
        message = f"pixels of Pillow's mode {image.mode!r}; convert the file to gray or RGB"
        raise ReadError("unsupported", message)
    gray = image.mode in GRAY_MODES and image.format != "GIF"
    shape = turned(image.size[::-1], orientation(image.info.get("exif")))
    return describe(shape, GRAY if gray else COLOUR, np.dtype(np.uint8))


def _refuse_process(file: BinaryIO, form: Form) -> None:
    """Say what a JPEG is that libjpeg cannot decode: Pillow would call it damaged."""
    if form == "JPEG":
        marker, bits = jpeg_process(file)
        if marker is not None and (marker not in JPEG_PROCESSES or bits != 8):
            message = f"JPEG of {bits} bits, process SOF{marker - 0xC0}; convert it to PNG"
            raise ReadError("unsupported", message)


def jpeg_process(file: BinaryIO) -> tuple[int | None, int]:
    """The start-of-frame marker of a JPEG, None where there is none, and bits of a sample."""
    file.seek(2)
    found: tuple[int | None, int] = None, 0
    while (head := file.read(4))[:1] == b"\xff" and len(head) == 4:
        marker, length = head[1], int.from_bytes(head[2:])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            found = marker, file.read(1)[0]
            break
        file.seek(length - 2, 1)
    file.seek(0)
    return found

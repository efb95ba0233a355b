"""Which JPEG files nvJPEG decodes on a GPU: those of which it makes what libjpeg-turbo makes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import MissingDependency
from pipeline.readers.decoding import decoding
from pipeline.readers.orientation import orientation
from pipeline.readers.pillow import describe_image, jpeg_process, pillow_image
from pipeline.types import ImageInfo, Source

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

TOLERANCE = 4
"""Gray levels by which a sample may differ from libjpeg-turbo's: they round at other places.
nvImageCodec's own tests allow as many."""

_HUFFMAN = (0xC0, 0xC1, 0xC2)
"""Start-of-frame markers of the processes that both have (ITU-T T.81, table B.1)."""
_SEGMENTS = frozenset({*range(0xC0, 0xC5), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE})
"""Markers of what may stand in such a file, before a length: frames and Huffman codes, scans,
quantisation, restarts, applications, comments."""
_NEXT = re.compile(rb"\xff(?![\x00\xd0-\xd7\xff])")
_LUMA = ((1, 1), (2, 1), (2, 2))
"""Sampling factors of luma, (horizontal, vertical), where those of chroma are 1: 4:4:4, 4:2:2 and
4:2:0. Of others both interpolate chroma, but not alike."""


def file_of(source: Source) -> tuple[npt.NDArray[np.uint8], int] | None:
    """The file of a source that a GPU is to decode; None where pixels are to be read.

    So it is where some are invalid: only who reads them says which. Raises ReadError.
    """
    whole = source.layout == "page" and source.qa is None and source.header.nodata is None
    if source.reader != "jpeg" or not whole:
        return None
    return encoded(source.members[0].path, source.header)


def encoded(path: str, info: ImageInfo) -> tuple[npt.NDArray[np.uint8], int] | None:
    """The bytes of a JPEG file, and its EXIF orientation; None where a CPU is to decode it.

    info: what the file was listed as. So it is with other than gray and YCbCr of common sampling,
    with what may be damaged, as only libjpeg tells that reliably, and with what has changed. Raises
    ReadError.
    """
    with decoding(path, "JPEG") as file:
        marker, _ = jpeg_process(file)
        with pillow_image(file, "JPEG") as image:
            alike = marker in _HUFFMAN and _is_common(image) and describe_image(image) == info
            turn = orientation(image.info.get("exif"))
        file.seek(0)
        data = file.read() if alike else b""
    if not _is_whole(data):
        return None
    return np.frombuffer(bytearray(data), np.uint8), turn  # which torch may write to


def _is_whole(data: bytes) -> bool:
    """Whether markers lead from one segment to the next up to an end that is the file's."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2 == len(data)
        if marker == 0xFF:  # fills up
            at += 1
            continue
        if marker not in _SEGMENTS:
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xDA:  # coded data follow, up to a marker that is no part of them
            if (found := _NEXT.search(data, at)) is None:
                return False
            at = found.start()
    return False


def require() -> None:
    """Raise MissingDependency without nvImageCodec."""
    try:
        import nvidia.nvimgcodec  # noqa: F401
    except ImportError as error:
        message = "input.jpeg: nvjpeg needs nvImageCodec; pip install 'filterbank[cuda]'"
        raise MissingDependency(message) from error


def _is_common(image: ImageFile) -> bool:
    """Whether the samples are gray, or YCbCr, which libjpeg tells by the numbers of components."""
    layers = [tuple(layer[:3]) for layer in getattr(image, "layer", ())]
    if len(layers) == 1:
        return image.mode == "L" and layers[0][1:] == (1, 1)
    if len(layers) != 3 or image.mode != "RGB" or image.info.get("adobe_transform") == 0:
        return False
    return layers[0][1:] in _LUMA and layers[0][0] == 1 and layers[1:] == [(2, 1, 1), (3, 1, 1)]

"""PBM, PGM, PPM, PAM and PFM, decoded by netpbmfile."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS, Mask, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.picture import COLOUR, Picture, describe, label, refuse_page
from pipeline.types import ImageInfo

if TYPE_CHECKING:
    from netpbmfile import NetpbmFile

BLACK_AND_WHITE = "BLACKANDWHITE"

LAST_LINE = re.compile(r"[ \t]*(\r\n|\r|\n)")
"""What ends the header of a PFM."""


@READERS.register("pnm")
class Pnm:
    """Netpbm files: gray is band `1`, PPM and RGB PAM are red, green, blue.

    Samples are kept as stored whatever the maximum value in the header: uint8, uint16 or uint32,
    float32 in PFM, whose rows are stored from the bottom up. Bitmaps become uint8 with white = 255.
    The alpha of PAM is validity. A file of several pictures is `unsupported`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".pfm")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"P[1-7Ff]\s")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture, (H, W)."""
        with decoding(path, "PNM") as file:
            return (_info(_header(file)),)

    def open(self, path: str, page: int) -> Picture:
        """Decode the picture whole."""
        refuse_page(page)
        with decoding(path, "PNM") as file:
            header = _header(file)
            _refuse_more(file, header)
            values, mask = _planes(header)
            return Picture(_info(header), values, mask)


def _header(file: BinaryIO) -> NetpbmFile:
    from netpbmfile import NetpbmFile

    header = NetpbmFile(file)
    if header.magicnumber in ("PF", "Pf"):  # it takes first bytes of pixels for the header's last
        end = LAST_LINE.match(header.header, len(header.header.rstrip()))
        header.dataoffset -= len(header.header) - end.end() if end else 0
    if header.depth < 1 or (header.dtype.kind != "f" and header.maxval < 1):
        message = f"{header.depth} bands up to {header.maxval}; the header is damaged"
        raise ReadError("corrupt", message)
    return header


def _has_alpha(header: NetpbmFile) -> bool:
    return header.depth > 1 and header.tupltype.endswith("_ALPHA")


def _info(header: NetpbmFile) -> ImageInfo:
    named = COLOUR if header.tupltype.startswith("RGB") else ()
    bands = label(header.depth - _has_alpha(header), named)
    dtype = np.dtype(np.uint8) if header.dtype.kind == "b" else header.dtype.newbyteorder("=")
    return describe((header.height, header.width), bands, dtype)


def _refuse_more(file: BinaryIO, header: NetpbmFile) -> None:
    """Refuse a second picture behind the first: netpbmfile takes its header for pixels."""
    row = -(-header.width // 8) if header.magicnumber == "P4" else header.width * header.depth
    if header.magicnumber in ("P4", "P5", "P6", "P7"):
        file.seek(header.dataoffset + header.height * row * header.dtype.itemsize)
        if Pnm.signature.match(file.read(3)):
            message = "several pictures in one PNM file; split it, for instance with pamsplit"
            raise ReadError("unsupported", message)


def _planes(header: NetpbmFile) -> tuple[Pixels, Mask | None]:
    """Samples (C, H, W), and alpha > 0 as (1, H, W) or None."""
    stored = header.asarray().reshape(-1, header.height, header.width, header.depth)[0]
    samples = np.moveaxis(stored.astype(header.dtype.newbyteorder("="), copy=False), -1, 0)
    if header.magicnumber in ("Pf", "PF"):
        samples = samples[:, ::-1]
    values, mask = samples, None
    if _has_alpha(header):
        values, mask = samples[:-1], samples[-1:] > 0
    if header.dtype.kind == "b":  # in PBM a one is black
        values = np.where(values, 0, 255).astype(np.uint8)
    elif header.tupltype.startswith(BLACK_AND_WHITE):  # in PAM a one is white
        values = values * np.uint8(255)
    return values, mask

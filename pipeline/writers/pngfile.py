"""The PNG file format: pixels and text chunks as bytes.

Every row is stored as its difference from the row above (filter type Up). The differences of most
responses are noise to a search for matches: Huffman's code alone makes a file as small as libpng's
choice of a filter for every row, in a tenth of the time. What is flat is packed by libdeflate.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, COLOUR = 0, 2
UP = 2
"""Values that the PNG specification gives to colour types and to the filter of a row."""

FEW, FLAT = 4096, 0.5
"""Bytes that the table of a code is too long for; share of one byte from which matches are long."""
RUN, STEP, MANY, ALIKE = 64, 509, 1 << 18, 1.02
"""Of more bytes than MANY, RUN in every STEP tell how long codes should be, unless the result is
ALIKE times as large as they say. Images have patterns: a run sees all of a short one, and a STEP
that is prime keeps no step with rows."""
HEADER = 3 + 5 + 5 + 4 + 3 * 19 + 4 * 259
"""Bits before the first byte's code: kind of block, numbers of codes, their lengths."""


def encode(pixels: npt.NDArray[np.uint8 | np.uint16], text: Mapping[str, str]) -> bytes:
    """Store (H, W) or (H, W, 3) uint8, or (H, W) uint16, as a PNG file.

    `text` is stored in the order of its keys, each with `filterbank:` before it: Latin-1 text as a
    tEXt chunk, other text as an iTXt chunk.
    """
    height, width = pixels.shape[:2]
    colour = COLOUR if pixels.ndim == 3 else GRAY
    header = struct.pack(">2I5B", width, height, 8 * pixels.itemsize, colour, 0, 0, 0)
    parts = [SIGNATURE, *_chunk(b"IHDR", header)]
    for key in sorted(text):
        parts += _text(f"filterbank:{key}", text[key])
    packed = deflate(_differences(pixels).ravel())
    return b"".join([*parts, *_chunk(b"IDAT", packed), *_chunk(b"IEND", b"")])


def deflate(data: npt.NDArray[np.uint8]) -> bytes:
    """Pack bytes as a zlib stream (RFC 1950): without matches, unless few or one prevails."""
    from imagecodecs import deflate_adler32, deflate_encode

    from pipeline.writers.native import LONGEST, code_lengths, histogram, pack

    words = np.empty((HEADER + LONGEST * (len(data) + 1)) // 64 + 2, np.uint64)
    whole = (max(1, len(data)),) * 2
    for run, step in ((RUN, STEP), whole) if len(data) > MANY else (whole,):
        counts = np.ones(257, np.int64)  # of the bytes, and of the end of the block
        histogram(data, run, step, counts[:256])
        if len(data) < FEW or counts.max() * step > FLAT * run * len(data):
            return bytes(deflate_encode(data, level=1))  # type: ignore[arg-type] # any buffer
        counts += step > run  # so that a byte that is not in the sample has a code, too
        lengths = np.zeros(257, np.int64)
        code_lengths(counts, lengths)
        bits = pack(data, lengths, words)
        if bits * run <= ALIKE * step * (counts @ lengths):
            break
    stream = words[: -(-bits // 64)].astype("<u8", copy=False).view(np.uint8)[: -(-bits // 8)]
    check = int(deflate_adler32(data))  # type: ignore[arg-type] # any buffer
    return b"".join([b"\x78\x01", stream.data, check.to_bytes(4, "big")])


def _differences(pixels: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint8]:
    """Rows of bytes, most significant first, less the row above; before each its filter's type."""
    stored = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">"))
    rows = stored.view(np.uint8).reshape(len(pixels), -1)
    filtered = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _text(key: str, value: str) -> list[bytes]:
    name = key.encode("latin-1")
    try:
        return _chunk(b"tEXt", name + b"\0" + value.encode("latin-1"))
    except UnicodeEncodeError:
        # not compressed, in no named language, the key not translated
        return _chunk(b"iTXt", name + b"\0\0\0\0\0" + value.encode())


def _chunk(kind: bytes, data: bytes) -> list[bytes]:
    from imagecodecs import deflate_crc32

    check = int(deflate_crc32(data, zlib.crc32(kind)))
    return [struct.pack(">I", len(data)), kind, data, struct.pack(">I", check)]

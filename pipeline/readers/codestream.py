"""How large a JPEG, JPEG-LS or JPEG 2000 codestream says that it is, before anything decodes it."""

from __future__ import annotations

J2K = b"\xff\x4f\xff\x51"  # SOC, SIZ
JP2 = bytes.fromhex("0000000c 6a502020 0d0a870a")  # the box before all others, T.800 I.5.1
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF of T.81, T.87


def size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns, or None where no header says it.

    >>> size(bytes.fromhex("ffd8 ffe00002 ffc3000b 10 00a2 00a1 01 001100"))
    (162, 161)
    """
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    start = _behind_boxes(data) if data.startswith(JP2) else 0
    if data[start : start + 4] != J2K or len(data) < start + 24:
        return None
    right, bottom, left, top = (_number(data, start + 8 + 4 * i, 4) for i in range(4))
    return bottom - top, right - left


def _behind_boxes(data: bytes) -> int:
    """Where the codestream of a JP2 file begins: the contents of its first jp2c box."""
    at = 0
    while at + 8 <= len(data):
        length, start = _number(data, at, 4), at + 8
        if length == 1:
            length, start = _number(data, at + 8, 8), at + 16
        if data[at + 4 : at + 8] == b"jp2c":
            return start
        if length < start - at:  # the last box, or none
            break
        at += length
    return len(data)


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in FRAME_HEADERS:
            return _number(data, at + 5, 2), _number(data, at + 7, 2)
        at += 1 if data[at + 1] == 0xFF else 2 + max(2, _number(data, at + 2, 2))
    return None


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count])

"""How large a JPEG, JPEG-LS or JPEG 2000 codestream says that it is, before anything decodes it."""

from __future__ import annotations

J2K = b"\xff\x4f\xff\x51"  # SOC, SIZ
BOXES = 256  # bytes in which JPEG 2000 begins where boxes stand before it
FRAME_HEADERS = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # SOF of T.81, T.87


def size(data: bytes) -> tuple[int, int] | None:
    """Rows and columns, or None where no header says it.

    >>> size(bytes.fromhex("ffd8 ffe00002 ffc3000b 10 00a2 00a1 01 001100"))
    (162, 161)
    """
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    start = data.find(J2K, 0, BOXES)
    if start < 0:
        return None
    right, bottom, left, top = (_number(data, start + 8 + 4 * i, 4) for i in range(4))
    return bottom - top, right - left


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in FRAME_HEADERS:
            return _number(data, at + 5, 2), _number(data, at + 7, 2)
        at += 1 if data[at + 1] == 0xFF else 2 + max(2, _number(data, at + 2, 2))
    return None


def _number(data: bytes, at: int, count: int) -> int:
    return int.from_bytes(data[at : at + count])

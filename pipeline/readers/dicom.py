"""DICOM images: header and pixels by pydicom, one file at a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS
from pipeline.readers.codestream import size
from pipeline.readers.decoding import decoding
from pipeline.readers.dicom_header import Header, read_elements, understand
from pipeline.readers.photometric import Samples
from pipeline.readers.picture import COLOUR, Picture, refuse_page
from pipeline.types import ImageInfo

if TYPE_CHECKING:
    from pydicom import FileDataset

PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue")
    for part in ("Descriptor", "Data")
)
SAMPLES = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
KEPT = 1 << 28  # bytes of the last file
OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93, 201, 202, 203))


@READERS.register("dicom")
class Dicom:
    """DICOM images in files (PS3.10), plain or compressed as pydicom's plug-ins decode them.

    Values are stored * slope + intercept of the frame's header, in float32 where that is exact
    (16-bit CT), else in float64; where the header scales nothing they keep their type, 12 bits in
    16. Their unit is kept where the header names one: HU, BQML, GY. MONOCHROME1 is inverted
    unless its values have a unit. YBR and palettes become red, green, blue. Spacing is
    PixelSpacing in mm. Frames side by side at even steps are a (z, y, x) volume, ordered along
    their normal; other frames are pages. Files of one series become a volume at listing.
    Segmentations, whole slides, Modality LUTs and objects without an image are `unsupported`. No
    element that names a person is read, but for those in `input.metadata`, and no text of the file
    is ever quoted. Needs pydicom and its plug-ins: the extra `medical`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".dcm", ".dicom", ".ima")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb".{128}DICM", re.DOTALL)

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """The frames, or the volume they make; `geo` says where a slice lies."""
        with decoding(path, "DICOM", private=True) as file:
            return understand(read_elements(file)).pages

    def open(self, path: str, page: int) -> Picture:
        """Decode one frame, or all of a volume."""
        with decoding(path, "DICOM", private=True) as file:
            dataset, header = _kept(path) or _opened(file)
            refuse_page(page, len(header.pages))
            info = header.pages[page]
            if not header.order:
                return Picture(info, _frame(dataset, header, page))
            values = np.empty((len(info.bands), *info.shape), info.dtype)
            for i, frame in enumerate(header.order):
                values[:, i] = _frame(dataset, header, frame)
            return Picture(info, values)


def _opened(file: BinaryIO) -> tuple[FileDataset, Header]:
    dataset = read_elements(file, *SAMPLES, *OFFSETS, *PALETTE, pixels=True)
    if not any(name in dataset for name in SAMPLES):
        message = "has no pixels, or ends before they do; copy it again from its source"
        raise ReadError("corrupt", message)
    return dataset, understand(dataset)


def _kept(path: str) -> tuple[FileDataset, Header] | None:
    """What the file holds, unless it is large; the next frame is likely of the same file."""
    status = Path(path).stat()
    small = status.st_size <= KEPT
    return _remembered(path, status.st_size, status.st_mtime_ns) if small else None


@lru_cache(maxsize=1)
def _remembered(path: str, _size: int, _mtime: int) -> tuple[FileDataset, Header]:
    with Path(path).open("rb") as file:
        return _opened(file)


def _frame(dataset: FileDataset, header: Header, frame: int) -> Samples:
    """One frame as values, (C, rows, columns)."""
    from pydicom.pixels.processing import apply_color_lut

    decoded = decode(dataset, frame)
    if header.photometric == "PALETTE COLOR":
        decoded = apply_color_lut(decoded, dataset)[..., : len(COLOUR)]
    if decoded.ndim == 3:
        return np.moveaxis(decoded, -1, 0)
    if header.inverted and decoded.dtype.kind in "iu":
        decoded = _inverted(decoded, header.bits)
    scaling = header.scalings[frame]
    values: Samples = decoded.astype(header.pages[0].dtype, copy=False)[None]
    return values if scaling is None else values * scaling[0] + scaling[1]


def decode(dataset: FileDataset, frame: int) -> Samples:
    """What pydicom decodes, colours as RGB: (rows, columns) or (rows, columns, 3)."""
    from pydicom.pixels.decoders.base import get_decoder

    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    if not decoder.is_available:
        message = (
            f"{decoder.UID.name} needs a plug-in of pydicom; "
            "pip install 'filterbank[medical]' and run again"
        )
        raise ReadError("dependency", message)
    if decoder.is_encapsulated:
        _refuse_other_size(dataset, frame)
    elif dataset.BitsAllocated == 1 and decoder.UID.is_little_endian:
        return _bits(dataset, frame)
    try:
        pixels: Samples = decoder.as_array(dataset, index=frame)[0]
    except RuntimeError:
        message = f"no plug-in could decode frame {frame + 1} ({decoder.UID.name}); is it damaged?"
        raise ReadError("corrupt", message) from None
    return pixels


def _bits(dataset: FileDataset, frame: int) -> Samples:
    """One frame of single bits, (rows, columns): it may begin and end within a byte (PS3.5 8.1.1).

    pydicom 3.0 takes a byte too few of a frame that does.
    """
    shape = (int(dataset.Rows), int(dataset.Columns))
    start, within = divmod(frame * prod(shape), 8)
    count = -(-(within + prod(shape)) // 8)
    data = np.frombuffer(dataset.PixelData, np.uint8, count, start)
    bits = np.unpackbits(data, count=within + prod(shape), bitorder="little")
    return bits[within:].reshape(shape)


def _refuse_other_size(dataset: FileDataset, frame: int) -> None:
    """Refuse a codestream of another size than the header's, for which a plug-in finds memory."""
    from pydicom.encaps import get_frame

    count = int(dataset.get("NumberOfFrames") or 1)
    places = tuple(dataset[name].value for name in OFFSETS if name in dataset)
    found = size(
        get_frame(dataset.PixelData, frame, number_of_frames=count, extended_offsets=places or None)
    )
    if found is None and dataset.file_meta.TransferSyntaxUID in JPEG_2000:
        message = f"frame {frame + 1} does not begin as JPEG 2000 does; copy it again"
        raise ReadError("corrupt", message)
    if found is not None and found != (dataset.Rows, dataset.Columns):
        told = f"{dataset.Rows}x{dataset.Columns}"
        message = f"frame {frame + 1} is {found[0]}x{found[1]} where the header says {told}"
        raise ReadError("corrupt", message)


def _inverted(values: Samples, bits: int) -> Samples:
    """Make larger brighter, within the bits that are stored; signed values reflect about -1/2."""
    if values.dtype.kind == "i":
        return np.invert(values)
    return np.asarray(values.dtype.type(2**bits - 1) - values)

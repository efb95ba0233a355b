"""What a DICOM header says of its frames: their type, scale and unit, and where they lie.

Only the elements named here are ever read, so that nothing about a person gets any further; of the
weight and dose of PET only the factor they make.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.dicom_pet import ELEMENTS, uptake_of
from pipeline.readers.dicom_series import Plane, deepen, place, stack
from pipeline.readers.picture import BAND_LIMIT, COLOUR, GRAY, describe
from pipeline.types import Grid, ImageInfo

if TYPE_CHECKING:
    from pydicom import FileDataset

Scaling: TypeAlias = tuple[float, float] | None
"""Slope and intercept, or None where stored numbers are the values."""

_SPACE = ("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
_SCALE = ("RescaleSlope", "RescaleIntercept", "RescaleType")
HEADER = (
    *("SOPClassUID", "Modality", "SeriesInstanceUID", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ModalityLUTSequence", "Units", "DoseGridScaling", "DoseUnits", "GridFrameOffsetVector"),
    "FrameOfReferenceUID",
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RedPaletteColorLookupTableDescriptor", *_SPACE, *_SCALE, *ELEMENTS),
)
CT = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1")
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")

MOST_INFLATED = 1 << 30
CHUNK = 1 << 20

# The class that the meta information names first (PS3.10 7.1): directories, RT structures, plans
# and records, segmentations, reports, waveforms, presentation states, protocols, documents.
NO_IMAGE = re.compile(
    rb".{128}DICM.{0,99}?\x02\0\x02\0UI..1\.2\.840\.10008\.(?:1\.3\.10|5\.1\.4\.(?:"
    rb"1\.1\.481\.(?:[3-9]|1\d|2[0-2567])"
    rb"|1\.1\.(?:8|9|10|11|66|67|68|78|79|80|88|90|91|104|129|131|200|201)(?:\.[\d.]+)?"
    rb"|(?:38|39|43|44|45)\.1))(?![\d.])",
    re.DOTALL,
)

# PS3.3 C.11.1.1.2, C.8.9.1.1.3 and C.8.8.3.2. Other words are the writer's own: free text.
RESCALE_TYPES = ("HU", "OD", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
PET_UNITS = ("CNTS", "BQML", "GML", "CM2ML", "PROPCPS", "PROPCNTS", "STDDEV", "PCNT", "CPS")
DOSE_UNITS = ("GY", "RELATIVE")


@dataclass(frozen=True, slots=True)
class Header:
    """What the pages are, and how stored samples become values.

    scalings: one per frame; order: the frames of the only page, a volume, from its first slice;
    empty where each frame is a page.
    """

    pages: tuple[ImageInfo, ...]
    scalings: tuple[Scaling, ...]
    photometric: str
    bits: int
    order: tuple[int, ...] = ()

    @property
    def inverted(self) -> bool:
        """Whether large numbers are dark and mean nothing else, such as HU."""
        return self.photometric == "MONOCHROME1" and self.pages[0].value_unit is None


def read_elements(file: BinaryIO, *more: str, pixels: bool = False) -> FileDataset:
    """Read what HEADER names, and `more`; without pixels the file is read up to them."""
    try:
        from pydicom import dcmread
        from pydicom.errors import InvalidDicomError
    except ImportError as error:
        message = "DICOM needs pydicom; pip install 'filterbank[medical]' and run again"
        raise ReadError("dependency", message) from error
    try:
        _refuse_bomb(file)
        return dcmread(file, stop_before_pixels=not pixels, specific_tags=[*HEADER, *more])
    except InvalidDicomError:
        message = "has no DICOM header (DICM after 128 bytes); write it with its meta information"
        raise ReadError("unsupported", message) from None


def _refuse_bomb(file: BinaryIO) -> None:
    """Refuse a deflated file that would fill the memory: pydicom inflates the whole of it."""
    from pydicom import filereader, uid

    filereader.read_preamble(file, force=False)
    meta = filereader._read_file_meta_info(file)  # with the very code that will choose the encoding
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        filereader._read_command_set_elements(file)  # which leaves the file where that inflates
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not inflate.eof and (data := inflate.unconsumed_tail or file.read(CHUNK)):
            size += len(inflate.decompress(data, CHUNK))
            if size > MOST_INFLATED:
                message = f"inflates to more than {MOST_INFLATED} bytes; write it uncompressed"
                raise ReadError("limit", message)
    file.seek(0)


def understand(dataset: FileDataset) -> Header:
    """What a header says. Raises ReadError, or anything for values that cannot be."""
    _refuse(dataset)
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= count <= BAND_LIMIT:
        message = f"{count} frames in one file (1 to {BAND_LIMIT} are read)"
        raise ReadError("limit" if count > 1 else "corrupt", message)
    frames = range(count)
    photometric = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    bands, stored = _samples(dataset, photometric)
    gray = bands == GRAY
    scalings = tuple(_scaling(dataset, i) if gray else None for i in frames)
    base = describe(
        (int(dataset.Rows), int(dataset.Columns)), bands, _scaled_type(stored, scalings)
    )
    unit = _unit(dataset, 0) if gray else None
    uptake = uptake_of(dataset, unit) if gray and dataset.get("Modality") == "PT" else None
    base = replace(base, value_unit=unit, uptake=uptake)
    pages = tuple(replace(base, grid=grid_of(dataset, i), geo=plane_of(dataset, i)) for i in frames)
    bits = int(dataset.get("BitsStored") or 8 * stored.itemsize)
    header = Header(pages, scalings, photometric, bits)
    return _as_volume(header) or header


def _refuse(dataset: FileDataset) -> None:
    kind = str(dataset.get("SOPClassUID", ""))
    if kind in SEGMENTATIONS:
        message = "a DICOM segmentation: it labels another image, and is none; exclude it"
        raise ReadError("unsupported", message)
    if kind == WHOLE_SLIDE:
        message = "a whole-slide DICOM image, in tiles; convert it to a tiled TIFF"
        raise ReadError("unsupported", message)
    if dataset.get("Rows") is None or dataset.get("Columns") is None:
        message = "a DICOM object without an image (or cut off in its header); exclude it"
        raise ReadError("unsupported", message)
    if "ModalityLUTSequence" in dataset:
        message = "stored values have a table of meanings (Modality LUT); convert the file"
        raise ReadError("unsupported", message)


def _samples(dataset: FileDataset, photometric: str) -> tuple[tuple[str, ...], np.dtype[Any]]:
    """Band labels and type of what pydicom will decode, before it is scaled."""
    bits, signed = int(dataset.BitsAllocated), dataset.get("PixelRepresentation")
    if signed is None and bits in (32, 64):
        stored = np.dtype(f"f{bits // 8}")  # a parametric map
    elif bits in (1, 8, 16, 32, 64):
        stored = np.dtype(f"{'i' if signed else 'u'}{max(1, bits // 8)}")
    else:
        message = f"{bits} bits allocated for a sample (1, 8, 16, 32 or 64 are read)"
        raise ReadError("unsupported", message)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if photometric.startswith("MONOCHROME") and samples == 1:
        return GRAY, stored
    if photometric == "PALETTE COLOR" and samples == 1:
        entry = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        return COLOUR, np.dtype(np.uint8 if entry <= 8 else np.uint16)
    if (photometric == "RGB" or photometric.startswith("YBR_")) and samples == 3:
        return COLOUR, stored
    message = f"{samples} samples a pixel in a colour space that is not read; convert the file"
    raise ReadError("unsupported", message)


def find(dataset: FileDataset, frame: int, group: str, *keywords: str) -> list[Any]:
    """Values from one functional group: the frame's own, the shared one, or the plain elements."""
    holders = []
    for name, at in (("PerFrame", frame), ("Shared", 0)):
        items = dataset.get(f"{name}FunctionalGroupsSequence") or ()
        if at < len(items):
            holders += list(items[at].get(group) or ())[:1]
    found = ([holder.get(k) for k in keywords] for holder in (*holders, dataset))
    return next((v for v in found if any(one is not None for one in v)), [None] * len(keywords))


def _scaling(dataset: FileDataset, frame: int) -> Scaling:
    group = "PixelValueTransformationSequence"
    slope, intercept = find(dataset, frame, group, "RescaleSlope", "RescaleIntercept")
    if dataset.get("Modality") == "RTDOSE":
        slope, intercept = dataset.get("DoseGridScaling"), 0
        if slope is None:
            message = "a dose without DoseGridScaling: its unit is not known; export it again"
            raise ReadError("corrupt", message)
    scaling = (_number(slope, 1.0), _number(intercept, 0.0))
    if not all(map(isfinite, scaling)) or scaling[0] == 0:
        message = "stored values cannot be scaled (slope 0, or not a number); copy the file again"
        raise ReadError("corrupt", message)
    return None if scaling == (1.0, 0.0) else scaling


def _number(value: Any, default: float) -> float:
    return default if value is None else float(value)


def _scaled_type(stored: np.dtype[Any], scalings: Sequence[Scaling]) -> np.dtype[Any]:
    """The stored type, or float32 where it holds every value exactly, else float64."""
    known = [scaling for scaling in scalings if scaling is not None]
    if not known:
        return stored
    narrow = stored.kind in "iu" and stored.itemsize <= 2
    whole = all(float(part).is_integer() for scaling in known for part in scaling)
    largest = max(abs(slope) * 2**16 + abs(intercept) for slope, intercept in known)
    return np.dtype(np.float32 if narrow and whole and largest <= 2**24 else np.float64)


def _unit(dataset: FileDataset, frame: int) -> str | None:
    """The unit of the scaled values; a CT image that names none is in HU (PS3.3 C.8.2.1)."""
    modality = dataset.get("Modality")
    if modality == "PT":
        return _one_of(PET_UNITS, dataset.get("Units"))
    if modality == "RTDOSE":
        return _one_of(DOSE_UNITS, dataset.get("DoseUnits"))
    (kind,) = find(dataset, frame, "PixelValueTransformationSequence", "RescaleType")
    if kind is None and dataset.get("SOPClassUID") in CT and "RescaleIntercept" in dataset:
        return "HU"
    return _one_of(RESCALE_TYPES, kind)


def _one_of(known: Sequence[str], word: object) -> str | None:
    return str(word) if word in known else None


# ---------------------------------------------------------------- space
def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """So many finite numbers, or None."""
    if value is None or isinstance(value, str) or len(value) != count:
        return None
    numbers = tuple(float(part) for part in value)
    return numbers if all(map(isfinite, numbers)) else None


def grid_of(dataset: FileDataset, frame: int) -> Grid:
    """Millimetres between rows and between columns; 1 without a unit where there is no such word.

    A detector's own spacing (ImagerPixelSpacing) is not the spacing in the patient, nor is it used.
    """
    (given,) = find(dataset, frame, "PixelMeasuresSequence", "PixelSpacing")
    spacing = _numbers(given, 2)
    if spacing is None or min(spacing) <= 0:
        return Grid((1.0, 1.0))
    return Grid(spacing, "mm")


def plane_of(dataset: FileDataset, frame: int) -> Plane | None:
    """Where a frame lies, None where the header does not say."""
    (turn,) = find(dataset, frame, "PlaneOrientationSequence", "ImageOrientationPatient")
    (corner,) = find(dataset, frame, "PlanePositionSequence", "ImagePositionPatient")
    orientation, position = _numbers(turn, 6), _numbers(corner, 3)
    if orientation is None or position is None:
        return None
    series, reference = (
        dataset.get(f"{name}UID") for name in ("SeriesInstance", "FrameOfReference")
    )
    plane = Plane(str(series or ""), orientation, position, str(reference or ""))
    if not plane.is_orthonormal:
        return None
    offsets = dataset.get("GridFrameOffsetVector")  # of a dose: the other frames have no words
    if offsets is None:
        return plane
    return plane.moved(float(offsets[frame]) - float(offsets[0]))


def _as_volume(header: Header) -> Header | None:
    """One page of all frames, where they lie side by side at even steps."""
    planes = [page.geo for page in header.pages if isinstance(page.geo, Plane)]
    first = header.pages[0]
    if len(planes) < max(2, len(header.pages)) or len({page.grid for page in header.pages}) > 1:
        return None
    try:
        order, step = stack(planes, first.grid)
    except ReadError:
        return None
    shape, grid = (len(order), *first.shape), deepen(first.grid, step)
    geo = place([planes[i] for i in order], first.grid)
    page = replace(first, shape=shape, grid=grid, geo=geo)
    return replace(header, pages=(page,), order=order)

"""DICOM files for tests, written by pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

SERIES = UID("1.2.826.0.1.3680043.8.498.1")
CT, MR = UID("1.2.840.10008.5.1.4.1.1.2"), UID("1.2.840.10008.5.1.4.1.1.4")
FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def dataset(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """An image of (rows, columns[, 3]) or frames of them; `elements` may replace everything."""
    meta = FileMetaDataset()
    found = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    colour = pixels.shape[-1] == 3
    shape = pixels.shape[:-1] if colour else pixels.shape
    found.SOPClassUID, found.SOPInstanceUID = MR, generate_uid()
    found.Modality, found.SeriesInstanceUID = "MR", SERIES
    found.Rows, found.Columns = shape[-2:]
    if len(shape) == 3:
        found.NumberOfFrames = shape[0]
    found.SamplesPerPixel = 3 if colour else 1
    found.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        found.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, bits, bits - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.astype(pixels.dtype.newbyteorder("<" if syntax.is_little_endian else ">"))
    found.PixelData = data.tobytes() + bytes(data.nbytes % 2)
    found["PixelData"].VR = "OW"
    meta.TransferSyntaxUID = syntax
    for name, value in elements.items():
        setattr(found, name, value)
    meta.MediaStorageSOPClassUID = found.SOPClassUID
    meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    return found


def write(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(pixels, **elements).save_as(path, enforce_file_format=True)
    return path


def place(z: float, orientation: Sequence[float] = FLAT, spacing: float = 0.5) -> dict[str, Any]:
    """The elements of a slice `z` mm along the normal of its orientation."""
    row, column = np.reshape(orientation, (2, 3))
    return {
        "PixelSpacing": [spacing, spacing],
        "ImageOrientationPatient": list(orientation),
        "ImagePositionPatient": [round(v, 6) for v in (np.cross(row, column) * z).tolist()],
    }


def frames_at(heights: Sequence[float]) -> dict[str, Any]:
    """The functional groups of frames, each so many mm along the normal."""

    def group(**macros: dict[str, Any]) -> Dataset:
        item = Dataset()
        for name, elements in macros.items():
            inner = Dataset()
            for keyword, value in elements.items():
                setattr(inner, keyword, value)
            setattr(item, name, [inner])
        return item

    shared = group(
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.25]},
        PlaneOrientationSequence={"ImageOrientationPatient": list(FLAT)},
    )
    each = [
        group(PlanePositionSequence={"ImagePositionPatient": [0.0, 0.0, float(z)]}) for z in heights
    ]
    return {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": each}

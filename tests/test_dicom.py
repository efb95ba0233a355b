"""One DICOM file: values, units, spacing, frames, encodings, damage; real files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels.decoders import base
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from slices import CT, dataset, frames_at, place, write

from pipeline.errors import ReadError
from pipeline.readers import codestream, dicom, dicom_header
from pipeline.readers.base import READERS
from pipeline.types import Grid, ImageInfo, Region

DICOM = READERS["dicom"]()
RNG = np.random.default_rng(7)
PLANE = RNG.integers(0, 4096, (9, 7), dtype=np.uint16)
SIGNED = RNG.integers(-2000, 2000, (9, 7)).astype(np.int16)
SLICES = RNG.integers(0, 4096, (5, 9, 7), dtype=np.uint16)
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"


def probe(path: Path) -> ImageInfo:
    (info,) = DICOM.probe(str(path))
    return info


def whole(path: Path, page: int = 0) -> np.ndarray:
    with DICOM.open(str(path), page) as window:
        return window.read(Region.whole(window.info.shape))


def refusal(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        whole(path)
    assert str(path.parent) not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- one file
@pytest.mark.parametrize(
    ("elements", "want", "dtype"),
    [
        ({}, PLANE, "uint16"),
        ({"RescaleSlope": 1, "RescaleIntercept": 0}, PLANE, "uint16"),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, PLANE - 1024.0, "float32"),
        ({"RescaleSlope": "2.0"}, PLANE * 2.0, "float32"),
        ({"RescaleSlope": "0.3", "RescaleIntercept": "-7.1"}, PLANE * 0.3 - 7.1, "float64"),
        ({"RescaleSlope": 999, "RescaleIntercept": 0}, PLANE * 999.0, "float64"),
    ],
)
def test_values_are_stored_times_slope_plus_intercept(
    tmp_path: Path, elements: dict[str, Any], want: np.ndarray, dtype: str
) -> None:
    path = write(tmp_path / "a.dcm", PLANE, **elements)
    assert (probe(path).dtype, probe(path).bands) == (dtype, ("1",))
    np.testing.assert_array_equal(whole(path)[0], want)


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({"RescaleType": "HU"}, "HU"),
        ({"RescaleType": "US"}, None),
        ({"RescaleType": "Miller^Ann"}, None),
        ({"SOPClassUID": CT, "RescaleIntercept": -1024}, "HU"),
        ({"SOPClassUID": CT, "RescaleIntercept": -1024, "RescaleType": "US"}, None),
        ({"RescaleIntercept": -1024}, None),
        ({"Modality": "PT", "Units": "BQML"}, "BQML"),
        ({"Modality": "PT", "Units": "Miller^Ann"}, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_a_unit_is_one_that_the_standard_knows(
    tmp_path: Path, elements: dict[str, Any], unit: str | None
) -> None:
    assert probe(write(tmp_path / "a.dcm", PLANE, **elements)).value_unit == unit


@pytest.mark.parametrize(
    ("pixels", "elements", "want"),
    [
        (PLANE, {"BitsStored": 12}, 4095 - PLANE),
        (PLANE, {}, 65535 - PLANE),
        (SIGNED, {}, -1 - SIGNED),
        (PLANE, {"BitsStored": 12, "RescaleIntercept": -10}, 4085.0 - PLANE),
        (PLANE, {"RescaleType": "OD"}, PLANE),
    ],
    ids=["12 bits", "16 bits", "signed", "then scaled", "not a unit's values"],
)
def test_white_is_made_large(
    tmp_path: Path, pixels: np.ndarray, elements: dict[str, Any], want: np.ndarray
) -> None:
    given = {"PhotometricInterpretation": "MONOCHROME1", **elements}
    path = write(tmp_path / "a.dcm", pixels, **given)
    np.testing.assert_array_equal(whole(path)[0], want)


def test_bits_beyond_those_told_are_no_values(tmp_path: Path) -> None:
    """Such as the overlays of old files."""
    given = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 8}
    path = write(tmp_path / "a.dcm", PLANE, **given)
    np.testing.assert_array_equal(whole(path)[0], 255 - PLANE % 256)


@pytest.mark.parametrize(
    ("elements", "grid"),
    [
        ({"PixelSpacing": [0.7, 0.8]}, Grid((0.7, 0.8), "mm")),  # between rows, between columns
        ({"PixelSpacing": ["0.000", "0.000"]}, Grid((1.0, 1.0))),
        ({"PixelSpacing": None}, Grid((1.0, 1.0))),
        ({"ImagerPixelSpacing": [0.1, 0.1]}, Grid((1.0, 1.0))),
    ],
)
def test_spacing_is_never_made_up(tmp_path: Path, elements: dict[str, Any], grid: Grid) -> None:
    assert probe(write(tmp_path / "a.dcm", PLANE, **elements)).grid == grid


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    path = write(tmp_path / "a.dcm", rgb)
    assert probe(path).bands == ("red", "green", "blue")
    np.testing.assert_array_equal(whole(path), np.moveaxis(rgb, -1, 0))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    index, table = (RNG.integers(0, 256, shape, dtype=np.uint8) for shape in ((6, 8), (3, 256)))
    elements = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True)
        for part, value in (("Descriptor", [256, 0, 8]), ("Data", entries.tobytes()))
    }
    path = write(tmp_path / "a.dcm", index, PhotometricInterpretation="PALETTE COLOR", **elements)
    assert (probe(path).bands, probe(path).dtype) == (("red", "green", "blue"), "uint8")
    np.testing.assert_array_equal(whole(path), table[:, index])


def test_floats_stay_floats(tmp_path: Path) -> None:
    values = RNG.normal(size=(4, 6)).astype(np.float32)
    made = dataset(PLANE[:4, :6], SOPClassUID=PARAMETRIC_MAP, BitsAllocated=32)
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, name)
    made.FloatPixelData = values.tobytes()
    made.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(whole(tmp_path / "a.dcm")[0], values)


def packed(path: Path, syntax: UID) -> np.ndarray:
    """Write two frames of 12 bits in this encoding."""
    frames = RNG.integers(0, 4096, (2, 64, 40), dtype=np.uint16)
    made = dataset(frames, BitsStored=12, HighBit=11)
    if syntax.is_encapsulated:
        made.compress(syntax)
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path)
    return frames


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_every_lossless_encoding_gives_the_same_pixels(tmp_path: Path, syntax: UID) -> None:
    frames = packed(tmp_path / "a.dcm", syntax)
    for page in range(2):
        np.testing.assert_array_equal(whole(tmp_path / "a.dcm", page)[0], frames[page])


def test_the_header_is_read_without_the_pixels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dcm", PLANE)
    path.write_bytes(path.read_bytes()[:-50])
    assert probe(path).shape == PLANE.shape
    assert refusal(path).kind == "corrupt"


# ---------------------------------------------------------------- frames
def test_frames_at_even_steps_are_a_volume(tmp_path: Path) -> None:
    """In the order of their places, each with its own scale."""
    groups = frames_at([6, 0, 3, 12, 9])
    for i, item in enumerate(groups["PerFrameFunctionalGroupsSequence"]):
        scale = pydicom.Dataset()
        scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = i + 1, 0, "HU"
        item.PixelValueTransformationSequence = [scale]
    path = write(tmp_path / "a.dcm", SLICES, **groups)
    info = probe(path)
    assert (info.shape, info.dtype, info.value_unit) == ((5, 9, 7), "float32", "HU")
    assert info.grid == Grid((3.0, 0.5, 0.25), "mm")
    scaled = SLICES * np.arange(1, 6)[:, None, None]
    np.testing.assert_array_equal(whole(path)[0], scaled[[1, 2, 0, 4, 3]])


@pytest.mark.parametrize("heights", [[0, 1, 2, 3, 9], [0, 0, 1, 1, 2]], ids=["gap", "times"])
def test_other_frames_are_pages(tmp_path: Path, heights: list[float]) -> None:
    path = write(tmp_path / "a.dcm", SLICES, **frames_at(heights))
    assert [info.shape for info in DICOM.probe(str(path))] == [(9, 7)] * 5
    for page in range(5):
        np.testing.assert_array_equal(whole(path, page)[0], SLICES[page])


@pytest.mark.parametrize(("kept", "times"), [(1 << 28, 1), (0, 5)], ids=["kept", "large"])
def test_frames_of_a_file_are_read_at_once_unless_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, times: int
) -> None:
    calls = []
    opened = dicom._opened
    monkeypatch.setattr(dicom, "KEPT", kept)
    monkeypatch.setattr(dicom, "_opened", lambda file: calls.append(1) or opened(file))
    path = write(tmp_path / "a.dcm", SLICES)
    for page in range(5):
        np.testing.assert_array_equal(whole(path, page)[0], SLICES[page])
    assert len(calls) == times
    write(path, SLICES[::-1])
    np.testing.assert_array_equal(whole(path, 0)[0], SLICES[4])


def test_a_dose_has_its_offsets_and_scale(tmp_path: Path) -> None:
    dose = {"Modality": "RTDOSE", "DoseGridScaling": "0.25", "DoseUnits": "GY"}
    given = {**place(7), **dose, "GridFrameOffsetVector": [0, 2, 4, 6, 8]}
    path = write(tmp_path / "a.dcm", SLICES, **given)
    assert (probe(path).grid, probe(path).value_unit) == (Grid((2.0, 0.5, 0.5), "mm"), "GY")
    np.testing.assert_array_equal(whole(path)[0], SLICES * 0.25)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        ({"Rows": None}, "unsupported"),
        ({"Rows": 0}, "corrupt"),
        ({"Rows": 60000, "Columns": 60000}, "corrupt"),
        ({"NumberOfFrames": -3}, "corrupt"),
        ({"NumberOfFrames": 10**6}, "limit"),
        ({"BitsAllocated": 12}, "unsupported"),
        ({"PhotometricInterpretation": "HSV"}, "unsupported"),
        ({"SamplesPerPixel": 4}, "unsupported"),
        ({"RescaleSlope": 0}, "corrupt"),
        ({"RescaleSlope": "1e400"}, "corrupt"),
        ({"Modality": "RTDOSE", "DoseUnits": "GY"}, "corrupt"),
        ({"ModalityLUTSequence": [pydicom.Dataset()]}, "unsupported"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "unsupported"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6"}, "unsupported"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_has_a_reason(
    tmp_path: Path, elements: dict[str, Any], kind: str
) -> None:
    assert refusal(write(tmp_path / "a.dcm", PLANE, **elements)).kind == kind


def test_a_missing_plug_in_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "a.dcm", JPEG2000Lossless)
    monkeypatch.setattr(base.get_decoder(JPEG2000Lossless), "_available", {})
    error = refusal(tmp_path / "a.dcm")
    assert error.kind == "dependency"
    assert "JPEG 2000" in str(error)
    assert "filterbank[medical]" in str(error)


def test_a_codestream_of_another_size_is_not_decoded(tmp_path: Path) -> None:
    """It would be given the memory that it asks for: here 16 GiB."""
    path = tmp_path / "a.dcm"
    packed(path, JPEG2000Lossless)
    data = path.read_bytes()
    at = data.index(b"\xff\x4f\xff\x51") + 8
    assert data[at : at + 8] == (40).to_bytes(4) + (64).to_bytes(4)
    path.write_bytes(data[:at] + (1 << 16).to_bytes(4) * 2 + data[at + 8 :])
    error = refusal(path)
    assert (error.kind, "65536x65536" in str(error)) == ("corrupt", True)


def box(kind: bytes, data: bytes) -> bytes:
    return (len(data) + 8).to_bytes(4) + kind + data


@pytest.mark.parametrize("size", [(64, 40), (1 << 16, 1 << 16)], ids=["told", "large"])
@pytest.mark.parametrize("before", [b"", bytes(400), bytes.fromhex("ff4fff51") + bytes(40)])
def test_boxes_hide_no_codestream(before: bytes, size: tuple[int, int]) -> None:
    """Neither far behind, nor behind what looks like one."""
    numbers = (size[1], size[0], 0, 0)
    stream = b"\xff\x4f\xff\x51" + bytes([0, 47, 0, 0])
    stream += b"".join(number.to_bytes(4) for number in numbers)
    boxes = box(b"jP  ", b"\r\n\x87\n") + box(b"free", before)
    long = (1).to_bytes(4) + b"jp2c" + (len(stream) + 16).to_bytes(8) + stream
    assert codestream.size(stream) == size
    for last in (box(b"jp2c", stream), bytes(4) + b"jp2c" + stream, long):
        assert codestream.size(boxes + last) == size
    assert codestream.size(boxes) is None
    assert codestream.size(bytes(9) + stream) is None


def test_a_frame_that_does_not_begin_as_jpeg_2000_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    packed(path, JPEG2000Lossless)
    path.write_bytes(path.read_bytes().replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x64"))
    assert "does not begin as JPEG 2000" in str(refusal(path))


def test_a_deflated_file_is_read_unless_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (
        write(tmp_path / name, SIGNED, syntax=DeflatedExplicitVRLittleEndian)
        for name in ("small.dcm", "large.dcm")
    )
    np.testing.assert_array_equal(whole(small)[0], SIGNED)
    monkeypatch.setattr(dicom_header, "MOST_INFLATED", 99)
    assert refusal(large).kind == "limit"


SYNTAX = b"\x02\0\x10\0UI"
PRIVATE = b"\x02\0\x02\x01OB\0\0" + (5000).to_bytes(4, "little") + bytes(5000)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:140] + bytes(4) + data[144:],
        lambda data: data[:132] + data[144:],
        lambda data: data.replace(SYNTAX, PRIVATE + SYNTAX),
    ],
    ids=["length 0", "no length", "far behind"],
)
def test_no_meta_information_hides_a_deflated_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "a.dcm", SIGNED, syntax=DeflatedExplicitVRLittleEndian)
    path.write_bytes(change(path.read_bytes()))
    np.testing.assert_array_equal(whole(path)[0], SIGNED)
    monkeypatch.setattr(dicom_header, "MOST_INFLATED", 99)
    with pytest.raises(ReadError, match="inflates to more") as caught:
        probe(path)
    assert caught.value.kind == "limit"


def test_no_byte_that_flips_is_more_than_a_refusal(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a.dcm", PLANE, **place(1)).read_bytes())
    for at in RNG.integers(128, len(data), 60):
        broken = bytearray(data)
        broken[at] ^= 1 << int(at % 8)
        (tmp_path / "b.dcm").write_bytes(broken)
        with suppress(ReadError):
            whole(tmp_path / "b.dcm")


# ---------------------------------------------------------------- real files
def plain(found: pydicom.Dataset) -> bool:
    return found.SamplesPerPixel == 1 and found.PhotometricInterpretation.startswith("MONO")


def test_real_files_are_pydicoms_by_hand(shared: Path) -> None:
    """Decoded, scaled, white made large."""
    radiograph = shared / "data" / "xray" / "pydicom_RG3_J2KR.dcm"
    for path in (*sorted((shared / "data" / "dicom_variants").glob("*.dcm")), radiograph):
        if path.name in REFUSED or not plain(found := pydicom.dcmread(path)):
            continue
        pages = DICOM.probe(str(path))
        want = found.pixel_array.reshape(len(pages), *pages[0].shape)
        if found.PhotometricInterpretation == "MONOCHROME1":
            want = 2**found.BitsStored - 1 - want
        if "RescaleSlope" in found:
            want = want * float(found.RescaleSlope) + float(found.RescaleIntercept)
        for page in range(len(pages)):
            np.testing.assert_array_equal(whole(path, page)[0], want[page])


REFUSED = {
    "ibsi_STS_002_CT_RS.dcm": "unsupported: a DICOM object without an image",
    "liver.dcm": "unsupported: a DICOM segmentation",
    "no_meta.dcm": "unsupported: has no DICOM header",
}


def test_every_real_file_is_read_or_refused_for_its_own_reason(shared: Path) -> None:
    for path in sorted((shared / "data" / "dicom_variants").glob("*.dcm")):
        if path.name in REFUSED:
            with pytest.raises(ReadError) as caught:
                DICOM.probe(str(path))
            assert f"{caught.value.kind}: {caught.value}".startswith(REFUSED[path.name])
        else:
            assert whole(path).size


def test_the_encodings_of_one_image_agree(shared: Path) -> None:
    data, hostile = shared / "data" / "dicom_variants", shared / "hostile" / "dev"
    others = [
        ("MR_small.dcm", [*hostile.glob("*/*__MR_small*.dcm")]),
        ("emri_small.dcm", [data / "emri_small_RLE.dcm", *hostile.glob("*/*emri_small_big*.dcm")]),
    ]
    for name, paths in others:
        for path in paths:
            for page in range(len(DICOM.probe(str(data / name)))):
                np.testing.assert_array_equal(whole(path, page), whole(data / name, page))


def test_broken_and_odd_files_are_read_or_refused(shared: Path) -> None:
    paths = [p for p in sorted((shared / "hostile" / "dev").glob("*dicom*/*")) if p.is_file()]
    assert len(paths) > 50
    for path in paths:
        with suppress(ReadError):
            for page in range(len(DICOM.probe(str(path)))):
                assert whole(path, page).size

"""What all readers share: who reads a file, how failures are named, what a window promises."""

from __future__ import annotations

import logging
import pickle
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ReadError
from pipeline.readers import identify, known_suffixes, named_reader
from pipeline.readers.base import READERS
from pipeline.readers.decoding import decoding
from pipeline.readers.orientation import upright
from pipeline.readers.picture import Picture, describe
from pipeline.types import Region

RNG = np.random.default_rng(0)
SAVED = {
    "png": ("a.png", {}),
    "jpeg": ("a.jpg", {}),
    "gif": ("a.gif", {}),
    "bmp": ("a.bmp", {}),
    "webp": ("a.webp", {}),
    "tiff": ("a.tif", {}),
    "pnm": ("a.ppm", {}),
}


@pytest.fixture(params=SAVED, ids=SAVED)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A colour picture of 23 x 37 in one format."""
    path = tmp_path / SAVED[request.param][0]
    Image.fromarray(RNG.integers(0, 256, (23, 37, 3), dtype=np.uint8)).save(path)
    return request.param, path


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "bmp"),
        (b"RIFF\n\n\n\nWEBPVP8 ", "webp"),
        (b"II*\0", "tiff"),
        (b"MM\0*", "tiff"),
        (b"II+\0\x08\0\0\0", "tiff"),
        (b"MM\0+\0\x08\0\0", "tiff"),
        *[(b"P%c\n1 1" % kind, "pnm") for kind in b"1234567Ff"],
        (b"\x93NUMPY", "npy"),
        (b"BMW is a car, not a bitmap", None),
        (b"P9\n", None),
        (b"RIFF....WAVE", None),
        (b"", None),
    ],
)
def test_the_signature_names_the_reader(tmp_path: Path, head: bytes, name: str | None) -> None:
    path = tmp_path / "no_suffix"
    path.write_bytes(head)
    assert identify(str(path)) == name


def test_a_signature_beats_a_suffix(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    Image.new("L", (3, 2), 7).save(path, format="PNG")
    assert identify(str(path)) == "png"


@pytest.mark.parametrize("name", ["empty.png", "TEXT.JPG", "x.tiff", "x.NPY", "x.pgm", "x.bmp"])
def test_a_known_suffix_without_a_signature_is_a_corrupt_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    reader = identify(str(path))
    assert reader is not None
    with pytest.raises(ReadError) as caught:
        READERS[reader]().probe(str(path))
    assert caught.value.kind == "corrupt"
    assert str(tmp_path) not in str(caught.value)


def test_known_suffixes_are_lower_case() -> None:
    assert {".png", ".jpg", ".tif", ".npy", ".pgm", ".webp", ".gif", ".bmp"} <= known_suffixes()
    assert all(s.startswith(".") and s == s.lower() for s in known_suffixes())


@pytest.mark.parametrize("name", READERS)
def test_readers_are_stateless_and_picklable(name: str) -> None:
    reader = pickle.loads(pickle.dumps(READERS[name]()))
    assert type(reader) is READERS[name]
    assert not vars(reader)


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_io(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / ("gone" + READERS[name].suffixes[0]))
    for call in (lambda: READERS[name]().probe(path), lambda: READERS[name]().open(path, 0)):
        with pytest.raises(ReadError, match="No such file") as caught:
            call()
        assert caught.value.kind == "io"


def test_a_folder_called_like_a_picture_is_io(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    assert named_reader(str(tmp_path / "x.png")) == "png"
    for look in (identify, READERS["png"]().probe):
        with pytest.raises(ReadError, match="directory") as caught:
            look(str(tmp_path / "x.png"))
        assert caught.value.kind == "io"


def test_probe_equals_read_and_windows_are_crops(sample: tuple[str, Path]) -> None:
    name, path = sample
    assert identify(str(path)) == name
    (info,) = READERS[name]().probe(str(path))
    assert info.shape == (23, 37)
    assert info.bands == ("red", "green", "blue")
    assert pickle.loads(pickle.dumps(info)) == info
    with READERS[name]().open(str(path), 0) as window:
        assert window.info == info
        whole = window.read(Region.whole(info.shape))
        part = window.read(Region((3, 5), (9, 30)))
        assert window.valid(Region((3, 5), (9, 30))) is None
    assert whole.dtype == np.uint8
    assert whole.flags.c_contiguous
    assert whole.flags.writeable
    np.testing.assert_array_equal(part, whole[:, 3:9, 5:30])


def test_pixels_equal_pillows(sample: tuple[str, Path]) -> None:
    name, path = sample
    with READERS[name]().open(str(path), 0) as window:
        values = window.read(Region.whole(window.info.shape))
    with Image.open(path) as image:
        expected = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_corrupt(sample: tuple[str, Path], share: float) -> None:
    name, path = sample
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ReadError) as caught:
        READERS[name]().open(str(path), 0)
    assert caught.value.kind in ("corrupt", "unsupported")
    assert str(path.parent) not in str(caught.value)


def test_a_page_that_is_not_there_is_refused(sample: tuple[str, Path]) -> None:
    name, path = sample
    with pytest.raises(ReadError):
        READERS[name]().open(str(path), 1)


def outcome(name: str, path: Path) -> ReadError | None:
    """Probe and, unless the damage made it huge, open; any exception but ReadError is an error."""
    try:
        infos = READERS[name]().probe(str(path))
        if np.prod(infos[0].shape) < 2**22:
            READERS[name]().open(str(path), 0)
    except ReadError as error:
        return error
    return None


def test_random_damage_raises_nothing_but_read_errors(sample: tuple[str, Path]) -> None:
    name, path = sample
    good = path.read_bytes()
    for _ in range(60):
        data = bytearray(good)
        for at in RNG.integers(0, len(data), 4):
            data[at] = RNG.integers(0, 256)
        path.write_bytes(bytes(data))
        failure = outcome(name, path)
        if failure is not None:
            assert failure.kind in ("corrupt", "unsupported", "limit")
            assert str(path.parent) not in str(failure)


def test_pillows_own_limit_is_left_as_it_was(sample: tuple[str, Path]) -> None:
    before = Image.MAX_IMAGE_PIXELS
    READERS[sample[0]]().open(str(sample[1]), 0)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError(13, "Permission denied"), "io"),
        (OSError(5, "Input/output error"), "io"),
        (OSError(22, "Invalid argument"), "corrupt"),
        (OSError("image file is truncated"), "corrupt"),
        (MemoryError(), "limit"),
        (ValueError("65535 is not a known COMPRESSION"), "unsupported"),
        (NotImplementedError("subsampling"), "unsupported"),
        (ValueError("<X object at 0x7f0012345678> is odd"), "corrupt"),
    ],
)
def test_what_a_decoder_raises_is_wrapped_once(tmp_path: Path, error: Exception, kind: str) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(b"x")
    with pytest.raises(ReadError) as caught, decoding(str(path), "TIFF"):
        raise error
    assert caught.value.kind == kind
    assert caught.value.__cause__ is error
    assert "0x7f" not in str(caught.value)


@pytest.mark.parametrize(
    ("note", "fatal"),
    [
        ("Truncated File Read", True),
        ("tifffile.read_segments: expected 3 segments, got 2", True),
        ("<TiffTag.fromfile> raised TiffFileError('<tifffile.TiffTag 278 @3126> invalid", True),
        ("<TiffTag.fromfile> raised TiffFileError('<tifffile.TiffTag 33550 @31> invalid", False),
        ("Corrupt EXIF data.  Expecting to read 12 bytes but only got 8.", False),
    ],
)
def test_notes_that_put_pixels_in_doubt_are_errors_and_others_are_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, note: str, fatal: bool
) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(b"x")
    for tell in (warnings.warn, logging.getLogger("tifffile").warning):
        expected = pytest.raises(ReadError, match="damaged TIFF") if fatal else nullcontext()
        with expected, decoding(str(path), "TIFF"):
            tell(note)
    assert not caplog.records


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientations_are_pillows(turn: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    stored = RNG.integers(0, 256, (4, 7), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = turn
    for suffix in ("png", "webp"):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(stored).convert("RGB").save(path, exif=exif, lossless=True)
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))[..., 0]
        (info,) = READERS[suffix]().probe(str(path))
        with READERS[suffix]().open(str(path), 0) as window:
            assert window.info == info
            values = window.read(Region.whole(info.shape))
        np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(upright(stored, turn), expected)


def test_a_picture_that_is_not_what_its_header_said_is_corrupt() -> None:
    info = describe((2, 3), ("1",), np.dtype(np.uint8))
    with pytest.raises(ReadError, match="decodes to 1x3x3 uint8 where the header says 1x2x3"):
        Picture(info, np.zeros((1, 3, 3), np.uint8))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_a_picture_without_pixels_is_corrupt(shape: tuple[int, int]) -> None:
    with pytest.raises(ReadError, match="pixels") as caught:
        describe(shape, ("1",), np.dtype(np.uint8))
    assert caught.value.kind == "corrupt"

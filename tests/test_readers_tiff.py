"""TIFF of every layout against what was written into it, and against libtiff.

Longer than most: TIFF has many layouts, and each has a short test.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from pipeline import ranges
from pipeline.errors import ReadError
from pipeline.readers.base import READERS
from pipeline.readers.photometric import cmyk_to_rgb
from pipeline.readers.recognise import identify, look
from pipeline.readers.segments import part
from pipeline.storage import object_at
from pipeline.types import ImageInfo, Member, Region

RNG = np.random.default_rng(2)
COLOUR = ("red", "green", "blue")
Array = npt.NDArray[np.generic]
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


def read(path: Path, page: int = 0) -> tuple[ImageInfo, Array, Array | None]:
    """Probe and open one page; the two must agree."""
    info = READERS["tiff"]().probe(str(path))[page]
    with READERS["tiff"]().open(str(path), page) as window:
        assert window.info == info
        whole = Region.whole(info.shape)
        values, mask = window.read(whole), window.valid(whole)
    assert values.dtype.isnative
    return info, values, mask


def draw(dtype: str, *shape: int) -> Array:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return RNG.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return RNG.integers(limits.min, limits.max, shape, kind, endpoint=True)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_every_sample_type_is_kept(tmp_path: Path, dtype: str, order: Any, big: bool) -> None:
    samples, path = draw(dtype, 17, 33), tmp_path / "x.tif"
    tifffile.imwrite(path, samples, byteorder=order, bigtiff=big, photometric="minisblack")
    info, values, mask = read(path)
    assert (info.shape, info.bands, info.dtype) == ((17, 33), ("1",), samples.dtype.name)
    assert mask is None
    np.testing.assert_array_equal(values[0], samples)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize(
    "compression", [None, "lzw", "deflate", "packbits", "zstd", "lzma", "lerc", "jpegxl"]
)
def test_layouts_and_compressions(
    tmp_path: Path, planar: Any, tile: Any, compression: str | None
) -> None:
    samples, path = draw("u2", 37, 53, 3), tmp_path / "x.tif"
    stored = samples if planar == "contig" else np.moveaxis(samples, -1, 0)
    options: dict[str, Any] = {"rowsperstrip": 5} if tile is None else {"tile": tile}
    if compression == "jpegxl":
        options["compressionargs"] = {"lossless": True}
    tifffile.imwrite(
        path, stored, photometric="rgb", planarconfig=planar, compression=compression, **options
    )
    info, values, _ = read(path)
    assert info.bands == COLOUR
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0))


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_predictors(tmp_path: Path, dtype: str) -> None:
    samples, path = draw(dtype, 20, 30), tmp_path / "x.tif"
    tifffile.imwrite(path, samples, compression="deflate", predictor=True)
    np.testing.assert_array_equal(read(path)[1][0], samples)


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_jpeg_in_tiff_is_what_libtiff_decodes(tmp_path: Path, photometric: Any) -> None:
    smooth = np.linspace(0, 255, 64 * 48 * 3).reshape(64, 48, 3).astype(np.uint8)
    samples = smooth if photometric == "rgb" else smooth[..., 0]
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, samples, photometric=photometric, compression="jpeg", tile=(16, 16))
    with Image.open(path) as image:
        expected = np.atleast_3d(np.asarray(image))
    values = np.moveaxis(read(path)[1], 0, -1)
    assert np.abs(values.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_samples_below_8_bits_are_scaled(tmp_path: Path, bits: int, photometric: Any) -> None:
    samples = RNG.integers(0, 2**bits, (9, 11)).astype(np.uint8)
    path = tmp_path / "x.tif"
    stored = samples.astype(bool) if bits == 1 else samples
    options = {} if bits == 1 else {"bitspersample": bits}
    tifffile.imwrite(path, stored, photometric=photometric, **options)
    info, values, _ = read(path)
    bright = samples if photometric == "minisblack" else 2**bits - 1 - samples
    assert info.dtype == "uint8"
    np.testing.assert_array_equal(values[0], np.round(bright * (255 / (2**bits - 1))))


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_samples_between_8_and_16_bits_are_kept(
    tmp_path: Path, bits: int, photometric: Any
) -> None:
    samples = RNG.integers(0, 2**bits, (9, 12)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric=photometric, bitspersample=bits)
    expected = samples if photometric == "minisblack" else 2**bits - 1 - samples
    np.testing.assert_array_equal(read(tmp_path / "x.tif")[1][0], expected, strict=False)


@pytest.mark.parametrize(("dtype", "top"), [("u1", 255), ("u2", 65535), ("i2", -1), ("f4", None)])
def test_where_white_is_zero_larger_becomes_brighter(
    tmp_path: Path, dtype: str, top: int | None
) -> None:
    samples = draw(dtype, 6, 5)
    tifffile.imwrite(tmp_path / "x.tif", samples, photometric="miniswhite")
    expected = samples if top is None else top - samples.astype(np.int64)
    np.testing.assert_array_equal(read(tmp_path / "x.tif")[1][0], expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_what_pillow_writes_is_what_pillow_shows(tmp_path: Path, mode: str) -> None:
    rgba = Image.fromarray(RNG.integers(1, 256, (12, 9, 4), dtype=np.uint8), "RGBA")
    image = rgba.convert("I").convert(mode) if mode in ("I;16", "F") else rgba.convert(mode)
    image.save(tmp_path / "x.tif")
    info, values, _ = read(tmp_path / "x.tif")
    shown = image if mode in ("I;16", "F") else image.convert("L" if mode in "1L" else "RGB")
    expected = np.moveaxis(np.atleast_3d(np.asarray(shown)), -1, 0)
    np.testing.assert_array_equal(values, expected)
    assert info.bands == (COLOUR if len(expected) == 3 else ("1",))


def test_lab_is_converted_to_srgb(tmp_path: Path) -> None:
    from PIL import ImageCms

    rgb = Image.new("RGB", (4, 3), (200, 60, 30))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    turn = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = ImageCms.applyTransform(rgb, turn)
    assert lab is not None
    lab.save(tmp_path / "x.tif")
    info, values, _ = read(tmp_path / "x.tif")
    assert info.bands == COLOUR
    assert np.abs(values[:, 0, 0].astype(int) - (200, 60, 30)).max() <= 3


def test_palette_is_the_high_byte_of_its_entries(tmp_path: Path) -> None:
    index = RNG.integers(0, 256, (8, 9), dtype=np.uint8)
    table = RNG.integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", index, photometric="palette", colormap=table)
    info, values, _ = read(tmp_path / "x.tif")
    assert info.bands == COLOUR
    np.testing.assert_array_equal(values, (table >> 8)[:, index])


def test_every_cmyk_pair_is_converted_as_pillow_does() -> None:
    ink, black = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    planes = np.stack([ink, 255 - ink, np.roll(ink, 7), black])
    image = Image.frombytes("CMYK", (256, 256), np.moveaxis(planes, 0, -1).tobytes())
    expected = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    np.testing.assert_array_equal(cmyk_to_rgb(planes, 8), expected)
    exact = cmyk_to_rgb(planes / 255.0, 64)
    assert np.abs(exact * 255 - cmyk_to_rgb(planes, 8)).max() <= 0.5 + 1e-9
    wide = cmyk_to_rgb(planes.astype(np.uint16) * 257, 16)
    assert np.abs(wide / 257 - exact * 255).max() <= 0.5 / 257 + 1e-9


@pytest.mark.parametrize("alpha", ["assocalpha", "unassalpha"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_is_validity(tmp_path: Path, alpha: Any, planar: Any) -> None:
    samples = draw("u2", 6, 7, 4)
    samples[1:3, 2:4, 3] = 0
    stored = samples if planar == "contig" else np.moveaxis(samples, -1, 0)
    tifffile.imwrite(
        tmp_path / "x.tif", stored, photometric="rgb", planarconfig=planar, extrasamples=[alpha]
    )
    info, values, mask = read(tmp_path / "x.tif")
    assert info.bands == COLOUR
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0)[:3])
    assert mask is not None
    assert mask.shape == values.shape
    np.testing.assert_array_equal(mask[1], samples[..., 3] > 0)


def test_gdals_metadata_says_that_the_near_infrared_is_not_alpha(tmp_path: Path) -> None:
    samples, item = draw("u1", 6, 7, 4), '<Item name="COLORINTERP" sample="%d" role="colorinterp">'
    for role, bands in (("Undefined", (*COLOUR, "4")), ("Alpha", COLOUR)):
        text = f"<GDALMetadata>{item % 3}{role}</Item></GDALMetadata>"
        tifffile.imwrite(
            tmp_path / "x.tif",
            samples,
            photometric="rgb",
            extrasamples=["unassalpha"],
            extratags=[(42112, "s", 0, text, True)],
        )
        assert read(tmp_path / "x.tif")[0].bands == bands


def test_samples_of_no_declared_meaning_are_numbered_bands(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw("u1", 5, 6, 5), photometric="rgb", extrasamples=[0, 0])
    assert read(path)[0].bands == (*COLOUR, "4", "5")
    tifffile.imwrite(path, draw("f4", 7, 5, 6), photometric="minisblack", planarconfig="separate")
    assert read(path)[0].bands == tuple("1234567")


NODATA: list[tuple[str, str, float | None]] = [
    ("u1", "0", 0.0),
    ("i2", "-9999", -9999.0),
    ("f4", "-3.40282346638528859811704183484516925e+38", -3.4028234663852886e38),
    ("f4", "-3.39999999999999996e+38", -3.4e38),
    ("f4", "-1.#INF", float("-inf")),
    ("u1", "-9999", None),
    ("u1", "1.5", None),
    ("f4", "nan", None),
    ("f4", "none", None),
]


@pytest.mark.parametrize(("dtype", "text", "value"), NODATA)
def test_gdal_nodata(tmp_path: Path, dtype: str, text: str, value: float | None) -> None:
    samples = RNG.integers(1, 100, (5, 6)).astype(dtype)
    if value is not None:
        samples[2, 3] = value
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, samples, extratags=[(42113, "s", 0, text, True)])
    info, _, mask = read(path)
    assert info.nodata == value
    if value is None:
        assert mask is None
    else:
        assert mask is not None
        assert np.argwhere(~mask[0]).tolist() == [[2, 3]]


def test_pages_may_differ_and_thumbnails_and_masks_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    first, second = draw("u1", 20, 30), draw("f4", 5, 6, 2)
    with tifffile.TiffWriter(path) as writer:
        writer.write(first, photometric="minisblack")
        writer.write(first[::4, ::4], photometric="minisblack", subfiletype=1)
        writer.write(first[::4, ::4] > 9, photometric="minisblack", subfiletype=5)
        writer.write(first > 9, photometric="minisblack", subfiletype=4)
        writer.write(second, photometric="minisblack", planarconfig="contig")
    infos = READERS["tiff"]().probe(str(path))
    assert [(info.shape, info.dtype) for info in infos] == [
        ((20, 30), "uint8"),
        ((5, 6), "float32"),
    ]
    _, values, mask = read(path, 0)
    np.testing.assert_array_equal(values[0], first)
    assert mask is not None
    np.testing.assert_array_equal(mask[0], first > 9)
    assert read(path, 1)[2] is None
    np.testing.assert_array_equal(read(path, 1)[1], np.moveaxis(second, -1, 0))
    with pytest.raises(ReadError, match="no page 3"):
        READERS["tiff"]().open(str(path), 2)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_truncated_pixels_are_never_zeros(
    tmp_path: Path, compression: str | None, tile: Any
) -> None:
    samples, path = draw("u1", 64, 48), tmp_path / "x.tif"
    options: dict[str, Any] = {"rowsperstrip": 8} if tile is None else {"tile": tile}
    tifffile.imwrite(path, samples, compression=compression, **options)
    data = path.read_bytes()
    for keep in (len(data) - 1, len(data) - 400, len(data) // 2):
        path.write_bytes(data[:keep])
        with pytest.raises(ReadError) as caught:
            READERS["tiff"]().open(str(path), 0)
        assert caught.value.kind == "corrupt"


@pytest.mark.parametrize("near", [True, False])
def test_the_only_row_that_is_left_is_not_repeated(tmp_path: Path, near: bool) -> None:
    """Numpy would put one row into all of them."""
    samples, path = draw("u1", 64, 48), tmp_path / "x.tif"
    tifffile.imwrite(path, samples)
    data = path.read_bytes()[: -63 * 48]
    path.write_bytes(data)
    place = str(path) if near else shelve(data)
    with pytest.raises(ReadError, match="samples end early") as caught:
        READERS["tiff"]().open(place, 0)
    assert caught.value.kind == "corrupt"


def test_an_object_is_not_taken_for_one_that_was_open_before(tmp_path: Path) -> None:
    """Blocks of a file are kept by what tells it from others, which addresses do not."""
    stamps = set()
    for i in range(20):
        samples, path = np.full((64, 64), i, np.uint8), tmp_path / "x.tif"
        tifffile.imwrite(path, samples, tile=(32, 32), compression="zlib")
        url = shelve(path.read_bytes())
        stamps.add(ranges.stamp(url))
        with tifffile.TiffFile(path) as tiff:
            top = part(url, tiff.pages.first, Region((0, 0), (32, 64)))
        assert (top == i).all()
    assert len(stamps) == 20


def shelve(data: bytes) -> str:
    """Put an object, and open it instead of those that are open; its URL."""
    url = "memory://test-readers-tiff/x.tif"
    place = object_at(url)
    place.write_bytes(data)
    status = place.stat()
    ranges.keep_only(())
    ranges.take(Member(url, "x.tif", status.st_size, status.st_mtime_ns))
    return url


def test_a_strip_without_a_size_is_corrupt_and_one_left_out_is_invalid(tmp_path: Path) -> None:
    samples, path = draw("u1", 64, 48), tmp_path / "x.tif"
    tifffile.imwrite(path, samples, tile=(16, 16))
    with tifffile.TiffFile(path) as tiff:
        offsets, sizes = tiff.pages.first.tags[324], tiff.pages.first.tags[325]
    data = bytearray(path.read_bytes())
    width = {3: 2, 4: 4}[int(sizes.dtype)]
    data[sizes.valueoffset + 4 * width : sizes.valueoffset + 5 * width] = bytes(width)
    path.write_bytes(bytes(data))
    with pytest.raises(ReadError, match="tile 5 of 12"):
        READERS["tiff"]().open(str(path), 0)
    data[offsets.valueoffset + 16 : offsets.valueoffset + 20] = bytes(4)
    path.write_bytes(bytes(data))
    _, values, mask = read(path)
    missing = np.zeros((64, 48), bool)
    missing[16:32, 16:32] = True
    assert mask is not None
    np.testing.assert_array_equal(mask[0], ~missing)
    np.testing.assert_array_equal(values[0][~missing], samples[~missing])


@pytest.mark.parametrize("loop", [False, True])
def test_a_chain_of_pages_that_leads_nowhere_is_corrupt(tmp_path: Path, loop: bool) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw("u1", 2, 8, 8), photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        first, last = (page.offset for page in tiff.pages)
    data = bytearray(path.read_bytes())
    count = struct.unpack_from("<H", data, last)[0]
    struct.pack_into("<I", data, last + 2 + 12 * count, first if loop else 2**31)
    path.write_bytes(bytes(data))
    with pytest.raises(ReadError, match="leads back" if loop else "invalid page") as caught:
        READERS["tiff"]().probe(str(path))
    assert caught.value.kind == "corrupt"


def test_a_width_of_many_numbers_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw("u1", 8, 8))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[256].overwrite((8, 8))
    with pytest.raises(ReadError) as caught:
        READERS["tiff"]().probe(str(path))
    assert caught.value.kind == "corrupt"


def test_complex_samples_and_unknown_compressions_are_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.complex64))
    with pytest.raises(ReadError, match="complex64") as caught:
        READERS["tiff"]().probe(str(path))
    assert caught.value.kind == "unsupported"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags[259].overwrite(65535)
    with pytest.raises(ReadError, match="65535") as caught:
        READERS["tiff"]().open(str(path), 0)
    assert caught.value.kind == "unsupported"


def test_an_imagej_stack_behind_one_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw("u1", 5, 8, 8), imagej=True)
    assert len(READERS["tiff"]().probe(str(path))) == 5
    with tifffile.TiffFile(path) as tiff:  # as ImageJ writes stacks beyond 4 GiB: one directory
        start = tiff.pages.first.offset
    data = bytearray(path.read_bytes())
    count = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * count, 0)
    path.write_bytes(bytes(data))
    with pytest.raises(ReadError, match="5 pictures behind one TIFF directory"):
        READERS["tiff"]().probe(str(path))


def test_a_volume_in_one_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw("u1", 4, 16, 16), photometric="minisblack", tile=(4, 16, 16))
    with pytest.raises(ReadError, match="volume within one TIFF page"):
        READERS["tiff"]().probe(str(path))


@pytest.mark.parametrize(("description", "times"), [("a cell", 1), ("ImageJ=1.54f\nimages=1", 2)])
def test_a_plain_file_is_parsed_once_to_be_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, description: str, times: int
) -> None:
    """Only what speaks of planes is looked at again."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, draw("u1", 4, 5), description=description, metadata=None)
    parsed: list[object] = []
    begin = tifffile.TiffFile.__init__

    def counted(self: tifffile.TiffFile, *args: Any, **kwargs: Any) -> None:
        parsed.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counted)
    assert identify(str(path)) in ("tiff", "hyperstack")
    assert len(parsed) == times


@pytest.mark.parametrize("pages", [1, 3])
def test_what_is_parsed_to_recognise_a_file_is_what_a_probe_finds(
    tmp_path: Path, pages: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((pages, 8, 9), np.uint16), photometric="minisblack")
    name, known = look(str(path))
    found = READERS["tiff"]().probe(str(path))
    assert (name, len(found)) == ("tiff", pages)
    assert known == (found if pages == 1 else None)

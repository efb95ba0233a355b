"""Every kind of PNG, JPEG, BMP, GIF, WebP, PNM and npy against what was written into it.

Longer than most: one short test per variant of seven formats, which share their helpers.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from pipeline.errors import ReadError
from pipeline.readers.base import READERS
from pipeline.types import ImageInfo, Region

RNG = np.random.default_rng(1)
COLOUR = ("red", "green", "blue")
Array = npt.NDArray[np.generic]


def read(name: str, path: Path, page: int = 0) -> tuple[ImageInfo, Array, Array | None]:
    """Probe and open one page; the two must agree."""
    info = READERS[name]().probe(str(path))[page]
    with READERS[name]().open(str(path), page) as window:
        assert window.info == info
        whole = Region.whole(info.shape)
        values, mask = window.read(whole), window.valid(whole)
    assert values.shape == (len(info.bands), *info.shape)
    assert values.dtype.name == info.dtype
    assert values.dtype.isnative
    assert mask is None or (mask.shape == values.shape and mask.dtype == np.bool_)
    return info, values, mask


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: Array, bits: int, colour: int, *extra: bytes) -> bytes:
    """Write (H, W, S) samples as PNG of any depth, row by row, unfiltered."""
    height, width = samples.shape[:2]
    rows = []
    for row in samples.reshape(height, -1):
        if bits == 16:
            rows.append(b"\0" + row.astype(">u2").tobytes())
        else:
            planes = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
            rows.append(b"\0" + np.packbits(planes.astype(np.uint8).ravel()).tobytes())
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + body + chunk(b"IEND", b"")
    )


def draw(bits: int, samples: int) -> Array:
    return RNG.integers(0, 2**bits, (11, 13, samples)).astype(np.uint16)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_gray_png_of_every_depth(tmp_path: Path, bits: int) -> None:
    samples, path = draw(bits, 1), tmp_path / "x.png"
    path.write_bytes(png(samples, bits, 0))
    info, values, mask = read("png", path)
    assert info.bands == ("1",)
    assert mask is None
    assert info.dtype == ("uint16" if bits == 16 else "uint8")
    scale = {1: 255, 2: 85, 4: 17}.get(bits, 1)
    np.testing.assert_array_equal(values[0], samples[..., 0] * scale)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_gray_of_a_png_is_invalid(tmp_path: Path, bits: int) -> None:
    samples, path = draw(bits, 1), tmp_path / "x.png"
    key = int(samples[3, 4, 0])
    path.write_bytes(png(samples, bits, 0, chunk(b"tRNS", struct.pack(">H", key))))
    _, values, mask = read("png", path)
    assert mask is not None
    np.testing.assert_array_equal(mask[0], samples[..., 0] != key)
    assert values.shape[0] == 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour", [2, 4, 6])
def test_colour_and_alpha_png(tmp_path: Path, bits: int, colour: int) -> None:
    count = {2: 3, 4: 2, 6: 4}[colour]
    samples, path = draw(bits, count), tmp_path / "x.png"
    samples[2:5, 2:5, -1] = 0
    samples[6, 6, -1] = 1
    path.write_bytes(png(samples, bits, colour))
    info, values, mask = read("png", path)
    assert info.bands == (("1",) if colour == 4 else COLOUR)
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0)[: len(info.bands)])
    if colour == 2:
        assert mask is None
    else:
        assert mask is not None
        np.testing.assert_array_equal(mask[-1], samples[..., -1] > 0)


def test_the_transparent_colour_of_a_16_bit_png_is_compared_in_16_bits(tmp_path: Path) -> None:
    samples, path = draw(16, 3), tmp_path / "x.png"
    samples[0, 0] = (256, 512, 768)
    samples[0, 1] = (257, 512, 768)
    path.write_bytes(png(samples, 16, 2, chunk(b"tRNS", struct.pack(">HHH", 256, 512, 768))))
    _, values, mask = read("png", path)
    assert mask is not None
    assert not mask[:, 0, 0].any()
    assert mask[:, 0, 1].all()
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palette_png_is_red_green_blue(tmp_path: Path, bits: int, transparent: bool) -> None:
    samples, path = draw(bits, 1), tmp_path / "x.png"
    table = RNG.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    extra = [chunk(b"PLTE", table.tobytes())]
    if transparent:
        extra.append(chunk(b"tRNS", b"\x01\x00"))
    path.write_bytes(png(samples, bits, 3, *extra))
    info, values, mask = read("png", path)
    assert info.bands == COLOUR
    np.testing.assert_array_equal(values, np.moveaxis(table[samples[..., 0]], -1, 0))
    assert (mask is not None) == transparent
    if mask is not None:
        np.testing.assert_array_equal(mask[1], samples[..., 0] != 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_equals_another_encoder_and_pillow(tmp_path: Path, dtype: type) -> None:
    samples = RNG.integers(0, np.iinfo(dtype).max + 1, (9, 8, 3)).astype(dtype)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(samples))
    np.testing.assert_array_equal(
        read("png", tmp_path / "x.png")[1], np.moveaxis(samples, -1, 0), strict=True
    )


def test_interlaced_png_is_read_as_pillow_reads_it(shared: Path) -> None:
    for path in sorted((shared / "hostile/dev/png_plain").glob("*basi*.png")):
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGBA"))
        info, values, _ = read("png", path)
        np.testing.assert_array_equal(values[0], expected[..., 0], err_msg=path.name)
        assert info.dtype == "uint8"


@pytest.mark.parametrize("place", ["IHDR", "IDAT"])
def test_a_wrong_crc_is_corrupt(tmp_path: Path, place: str) -> None:
    for bits in (8, 16):
        data = bytearray(png(draw(bits, 1), bits, 0))
        at = data.index(place.encode())
        length = int.from_bytes(data[at - 4 : at], "big")
        data[at + 4 + length] ^= 1
        (tmp_path / "x.png").write_bytes(bytes(data))
        with pytest.raises(ReadError) as caught:
            READERS["png"]().open(str(tmp_path / "x.png"), 0)
        assert caught.value.kind == "corrupt"


def test_animated_png_has_a_page_per_frame(tmp_path: Path) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)) for _ in range(3)]
    path = tmp_path / "x.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], blend=0)
    assert len(READERS["png"]().probe(str(path))) == 3
    for page, one in enumerate(frames):
        _, values, mask = read("png", path, page)
        np.testing.assert_array_equal(values, np.moveaxis(np.asarray(one), -1, 0)[:3])
        assert mask is not None
        np.testing.assert_array_equal(mask[0], np.asarray(one)[..., 3] > 0)


def test_a_flipped_bit_in_any_frame_of_an_animated_png_is_damage(tmp_path: Path) -> None:
    frames = [Image.fromarray(RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(3)]
    path = tmp_path / "x.png"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = path.read_bytes()
    for at in range(data.index(b"fdAT"), len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ReadError) as caught:
            READERS["png"]().open(str(path), 2)
        assert caught.value.kind == "corrupt"
        assert "x.png" not in str(caught.value)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_modes(tmp_path: Path, mode: str) -> None:
    smooth = np.linspace(0, 255, 40 * 30 * 4).reshape(40, 30, 4).astype(np.uint8)
    image = Image.fromarray(smooth, "RGBA").convert("RGB").convert(mode)
    image.save(tmp_path / "x.jpg", quality=95)
    info, values, mask = read("jpeg", tmp_path / "x.jpg")
    assert mask is None
    assert info.bands == (("1",) if mode == "L" else COLOUR)
    ours = imagecodecs.jpeg8_decode((tmp_path / "x.jpg").read_bytes())
    if mode != "CMYK":
        np.testing.assert_array_equal(values, np.moveaxis(np.atleast_3d(ours), -1, 0))
    else:  # Pillow writes Adobe's inverted CMYK: what is read must look like what was written
        with Image.open(tmp_path / "x.jpg") as again:
            expected = np.moveaxis(np.asarray(again.convert("RGB")), -1, 0)
        np.testing.assert_array_equal(values, expected)
        near = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
        assert np.abs(values.astype(int) - near).mean() < 8


@pytest.mark.parametrize("turn", range(1, 9))
def test_jpeg_is_turned_upright(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[274] = turn
    stored = Image.fromarray(RNG.integers(0, 256, (8, 24, 3), dtype=np.uint8))
    stored.save(tmp_path / "x.jpg", exif=exif)
    with Image.open(tmp_path / "x.jpg") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    info, values, _ = read("jpeg", tmp_path / "x.jpg")
    assert info.shape == ((24, 8) if turn >= 5 else (8, 24))
    np.testing.assert_array_equal(np.moveaxis(values, 0, -1), expected)


def test_damaged_exif_leaves_a_jpeg_as_stored(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\x01")
    assert read("jpeg", tmp_path / "x.jpg")[0].shape == (4, 8)


def test_of_a_multi_picture_jpeg_the_first_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.mpo", save_all=True, append_images=frames[1:])
    assert len(READERS["jpeg"]().probe(str(tmp_path / "x.mpo"))) == 1
    assert read("jpeg", tmp_path / "x.mpo")[1][0].min() > 200


@pytest.mark.parametrize(("bits", "lossless"), [(12, False), (16, True)])
def test_jpeg_of_more_than_8_bits_is_unsupported(tmp_path: Path, bits: int, lossless: bool) -> None:
    samples = RNG.integers(0, 2**bits, (16, 16)).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(samples, bitspersample=bits, lossless=lossless)
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(ReadError, match=f"JPEG of {bits} bits, process SOF") as caught:
        READERS["jpeg"]().probe(str(tmp_path / "x.jpg"))
    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp_modes(tmp_path: Path, mode: str) -> None:
    rgba = Image.fromarray(RNG.integers(0, 256, (7, 10, 4), dtype=np.uint8), "RGBA")
    image = rgba.convert("RGB").convert(mode) if mode != "RGBA" else rgba
    image.save(tmp_path / "x.bmp")
    info, values, _ = read("bmp", tmp_path / "x.bmp")
    assert info.bands == (("1",) if mode in "1L" else COLOUR)
    expected = np.atleast_3d(np.asarray(image.convert("L" if mode in "1L" else "RGB")))
    np.testing.assert_array_equal(values, np.moveaxis(expected, -1, 0))


def test_black_and_white_bmp_of_8_bits(tmp_path: Path) -> None:
    """Pillow takes its bytes for bits, without a word."""
    pixels = RNG.integers(0, 2, (6, 8), dtype=np.uint8)
    head = struct.pack("<IiiHHIIiiII", 40, 8, 6, 1, 8, 0, 48, 0, 0, 2, 0)
    palette = b"\0\0\0\0\xff\xff\xff\0"
    start = 14 + len(head) + len(palette)
    file = b"BM" + struct.pack("<IHHI", start + 48, 0, 0, start)
    (tmp_path / "x.bmp").write_bytes(file + head + palette + pixels[::-1].tobytes())
    np.testing.assert_array_equal(read("bmp", tmp_path / "x.bmp")[1][0], pixels * 255)


@pytest.mark.parametrize("name", ["gif", "webp"])
def test_animations_have_a_page_per_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"x.{name}"
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert len(READERS[name]().probe(str(path))) == 3
    for page in range(3):
        info, values, mask = read(name, path, page)
        assert info.bands == COLOUR
        assert values[:, 3, 3].tolist() == [255 * (page == band) for band in range(3)]
        assert mask is None


def test_gray_gif_is_colour_too(tmp_path: Path) -> None:
    gray = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    gray.save(tmp_path / "x.gif")
    info, values, _ = read("gif", tmp_path / "x.gif")
    assert info.bands == COLOUR
    np.testing.assert_array_equal(values, np.broadcast_to(np.asarray(gray), (3, 16, 16)))


def test_transparent_gif_pixels_are_invalid(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4), "P")
    image.putpalette(RNG.integers(0, 256, 48, dtype=np.uint8).tobytes())
    image.save(tmp_path / "x.gif", transparency=5)
    _, _, mask = read("gif", tmp_path / "x.gif")
    assert mask is not None
    assert np.argwhere(~mask[0]).tolist() == [[1, 1]]


def test_a_gif_frame_far_beyond_the_canvas_is_refused_quickly(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    data = bytearray((tmp_path / "x.gif").read_bytes())
    at = data.rindex(b"," + struct.pack("<HHHH", 0, 0, 4, 4))
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "x.gif").write_bytes(bytes(data))
    with pytest.raises(ReadError) as caught:
        READERS["gif"]().open(str(tmp_path / "x.gif"), 1)
    assert caught.value.kind == "limit"


def test_a_huge_gif_canvas_is_refused_from_the_header(tmp_path: Path) -> None:
    Image.new("P", (4, 4)).save(tmp_path / "x.gif")
    data = bytearray((tmp_path / "x.gif").read_bytes())
    data[6:10] = b"\xff\xff\xff\xff"
    (tmp_path / "x.gif").write_bytes(bytes(data))
    with pytest.raises(ReadError) as caught:
        READERS["gif"]().probe(str(tmp_path / "x.gif"))
    assert caught.value.kind == "limit"


def test_a_header_with_millions_of_bands_is_refused(tmp_path: Path) -> None:
    head = "P7\nWIDTH 4\nHEIGHT 3\nDEPTH 90000000\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
    (tmp_path / "x.pam").write_bytes(head.encode())
    with pytest.raises(ReadError, match="90000000 bands") as caught:
        READERS["pnm"]().probe(str(tmp_path / "x.pam"))
    assert caught.value.kind == "limit"


def test_webp_alpha_is_validity(tmp_path: Path) -> None:
    samples = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    samples[1:3, 1:3, 3] = 0
    Image.fromarray(samples).save(tmp_path / "x.webp", lossless=True, exact=True)
    _, values, mask = read("webp", tmp_path / "x.webp")
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0)[:3])
    assert mask is not None
    np.testing.assert_array_equal(mask[2], samples[..., 3] > 0)


@pytest.mark.parametrize("maxval", [1, 15, 255, 1023, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pnm_keeps_its_samples(tmp_path: Path, kind: str, maxval: int) -> None:
    depth = 3 if kind in ("P3", "P6") else 1
    samples = RNG.integers(0, maxval + 1, (5, 4, depth))
    body: bytes = " ".join(map(str, samples.ravel())).encode()
    if kind in ("P5", "P6"):
        body = samples.astype(">u2" if maxval > 255 else "u1").tobytes()
    (tmp_path / "x.pnm").write_bytes(f"{kind}\n# note\n4 5\n{maxval}\n".encode() + body)
    info, values, _ = read("pnm", tmp_path / "x.pnm")
    assert info.bands == (COLOUR if depth == 3 else ("1",))
    assert info.dtype == ("uint16" if maxval > 255 else "uint8")
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0))


@pytest.mark.parametrize("kind", ["P1", "P4"])
def test_in_a_bitmap_white_is_255(tmp_path: Path, kind: str) -> None:
    black = RNG.integers(0, 2, (5, 11), dtype=np.uint8)
    body = " ".join(map(str, black.ravel())).encode()
    if kind == "P4":
        body = np.packbits(black, axis=1).tobytes()
    (tmp_path / "x.pbm").write_bytes(f"{kind}\n11 5\n".encode() + body)
    np.testing.assert_array_equal(read("pnm", tmp_path / "x.pbm")[1][0], 255 * (1 - black))


@pytest.mark.parametrize(
    ("kind", "depth", "maxval", "bands"),
    [
        ("BLACKANDWHITE", 1, 1, ("1",)),
        ("BLACKANDWHITE_ALPHA", 2, 1, ("1",)),
        ("GRAYSCALE", 1, 65535, ("1",)),
        ("GRAYSCALE_ALPHA", 2, 255, ("1",)),
        ("RGB", 3, 1023, COLOUR),
        ("RGB_ALPHA", 4, 65535, COLOUR),
        ("SPECTRUM", 5, 255, ("1", "2", "3", "4", "5")),
    ],
)
def test_pam(tmp_path: Path, kind: str, depth: int, maxval: int, bands: tuple[str, ...]) -> None:
    samples = RNG.integers(0, maxval + 1, (3, 4, depth))
    head = f"P7\nWIDTH 4\nHEIGHT 3\nDEPTH {depth}\nMAXVAL {maxval}\nTUPLTYPE {kind}\nENDHDR\n"
    body = samples.astype(">u2" if maxval > 255 else "u1").tobytes()
    (tmp_path / "x.pam").write_bytes(head.encode() + body)
    info, values, mask = read("pnm", tmp_path / "x.pam")
    assert info.bands == bands
    scale = 255 if kind.startswith("BLACK") else 1
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0)[: len(bands)] * scale)
    assert (mask is not None) == kind.endswith("ALPHA")
    if mask is not None:
        np.testing.assert_array_equal(mask[0], samples[..., -1] > 0)


@pytest.mark.parametrize(("kind", "depth"), [("Pf", 1), ("PF", 3)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_pfm_rows_run_from_the_bottom_up(tmp_path: Path, kind: str, depth: int, order: str) -> None:
    samples = RNG.normal(size=(3, 4, depth)).astype(np.float32)
    scale = "-1.0" if order == "<" else "1.0"
    body = samples[::-1].astype(f"{order}f4").tobytes()
    body = b"\n \r\n" + body[4:]  # pixels that could be taken for the header's end
    samples[-1].flat[0] = np.frombuffer(body, f"{order}f4", 1)[0]
    (tmp_path / "x.pfm").write_bytes(f"{kind}\n4 3\n{scale}\n".encode() + body)
    info, values, _ = read("pnm", tmp_path / "x.pfm")
    assert info.dtype == "float32"
    np.testing.assert_array_equal(values, np.moveaxis(samples, -1, 0))


@pytest.mark.parametrize("more", [b"P5 2 2 255 abcd", b"P6 1 1 255 abc"])
def test_several_pictures_in_one_pnm_are_refused(tmp_path: Path, more: bytes) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 2 2 255 abcd" + more)
    with pytest.raises(ReadError, match="several pictures") as caught:
        READERS["pnm"]().open(str(tmp_path / "x.pgm"), 0)
    assert caught.value.kind == "unsupported"


def test_bytes_behind_a_pnm_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 2 2 255 abcd" + b"\n" + bytes(9))
    assert read("pnm", tmp_path / "x.pgm")[1].tolist() == [[[97, 98], [99, 100]]]


TYPES = ["u1", "i1", "<u2", ">u2", "<i4", ">i4", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_read_as_numpy_wrote_it(
    tmp_path: Path, dtype: str, shape: tuple[int, ...], order: str
) -> None:
    array = np.asarray(RNG.integers(0, 100, shape), dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "x.npy", array)
    info, values, mask = read("npy", tmp_path / "x.npy")
    assert (info.shape, info.bands, info.grid.ndim) == (shape, ("1",), len(shape))
    assert mask is None
    np.testing.assert_array_equal(values[0], array)


def test_booleans_in_npy_are_0_and_1(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[True, False]]))
    assert read("npy", tmp_path / "x.npy")[1].tolist() == [[[1, 0]]]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.array([[{}]], dtype=object), "unsupported"),
        (np.array([[1j]]), "unsupported"),
        (np.array([["text"]]), "unsupported"),
        (np.array([["2020-01-01"]], "M8[D]"), "unsupported"),
        (np.zeros((2, 2), [("a", "u1")]), "unsupported"),
        (np.zeros((2, 2), np.longdouble), "unsupported"),
        (np.zeros(5), "unsupported"),
        (np.zeros((2, 2, 2, 2)), "unsupported"),
        (np.zeros((0, 5)), "corrupt"),
    ],
    ids=str,
)
def test_npy_that_is_no_picture(tmp_path: Path, array: Array, kind: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ReadError) as caught:
        READERS["npy"]().probe(str(tmp_path / "x.npy"))
    assert caught.value.kind == kind


def test_truncated_npy_is_corrupt(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((50, 50)))
    for keep in (0, 5, 9, 60, 128, 5000):
        (tmp_path / "x.npy").write_bytes(file.getvalue()[:keep])
        with pytest.raises(ReadError) as caught:
            READERS["npy"]().probe(str(tmp_path / "x.npy"))
        assert caught.value.kind == "corrupt"

"""Previews keep values and say how; sheets hold everything, fit, and are the same twice."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from imagecodecs import png_decode
from PIL import Image, ImageFont
from PIL.PngImagePlugin import iTXt

from pipeline.writers import layout, png, pngfile
from pipeline.writers.sheet import captioned, kernel_sheet, photograph, sheet
from pipeline.writers.slices import outside, parts_of
from pipeline.writers.thumbnail import SIDE, TINT, VOLUME, enlarge

TEXT = {
    "unit": "µm",
    "image": "Süd/山.png",
    "band": "red",
    "filter": "log(sigma=2)",
    "digest": "1f",
}
HALF_A_STEP = 0.5 + 1e-6  # of a code; the excess is the rounding of offset + scale * code

images = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)
depths = pytest.mark.parametrize("depth", [8, 16])


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def rebuilt(data: bytes) -> tuple[np.ndarray, np.ndarray, float]:
    """Codes, the values they stand for, and the step between two codes."""
    image = opened(data)
    codes = np.asarray(image)
    scale = float(image.text["filterbank:scale"])
    return codes, float(image.text["filterbank:offset"]) + scale * codes.astype(np.float64), scale


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 63, 256, 300, 1000])
def test_one_look_finds_extremes_and_what_is_no_number(kind: type, size: int) -> None:
    """Wherever it stands: in a lane, in the rest, alone; against numpy."""
    plane = np.random.default_rng(size).normal(size=(1, size)).astype(kind)
    usable, ends = png.seen(plane, None)
    assert (usable, ends) == (None, (plane.min(), plane.max()))
    for at in {0, size // 2, size - 1}:
        for odd in (np.nan, np.inf, -np.inf):
            holed = plane.copy()
            holed[0, at] = odd
            numbers = holed[np.isfinite(holed)]
            usable, ends = png.seen(holed, None)
            assert usable is not None
            np.testing.assert_array_equal(usable, np.isfinite(holed))
            assert ends == ((numbers.min(), numbers.max()) if size > 1 else (0.0, 0.0))


@depths
@given(values=images)
def test_values_come_back_within_half_a_step(depth, values):
    codes, back, scale = rebuilt(png.render(values, depth=depth))
    assert codes.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert codes.min() >= 1
    slack = 1e-15 * np.abs(values).max()
    assert np.all(np.abs(back - values) <= HALF_A_STEP * scale + slack)


@depths
def test_a_signed_response_has_zero_in_the_middle_and_a_symmetric_span(depth):
    codes, back, scale = rebuilt(png.render(np.array([[-1.0, 0.0, 4.0, 0.1]]), depth=depth))
    centre, top = 2 ** (depth - 1), 2**depth - 1
    assert codes[0, 1] == centre
    assert back[0, 1] == 0.0
    assert codes[0, 2] == top
    assert scale == 4.0 / (centre - 1)


@depths
@pytest.mark.parametrize("low", [0.0, 5.0, -9.0])
def test_an_unsigned_response_fills_the_codes(depth, low):
    codes, _, _ = rebuilt(png.render(np.array([[low, low + 3.5, low + 7.0]]), depth=depth))
    assert codes[0, 0] == 1
    assert codes[0, 2] == 2**depth - 1


def test_code_0_is_exactly_the_invalid_pixels():
    values = noise(9, 7)
    values[0, :3] = np.nan, np.inf, -np.inf
    valid = np.ones(values.shape, dtype=bool)
    valid[5] = False
    codes, _, _ = rebuilt(png.render(values, valid))
    assert np.array_equal(codes == 0, ~valid | ~np.isfinite(values))


def test_invalid_pixels_do_not_widen_the_span():
    values = np.array([[1.0, 2.0, 1e9]])
    valid = np.array([[True, True, False]])
    codes, back, _ = rebuilt(png.render(values, valid))
    assert codes.tolist() == [[1, 255, 0]]
    assert back[0, 1] == pytest.approx(2.0)


def test_given_limits_clip_and_say_so():
    image = opened(png.render(np.array([[-5.0, 0.0, 100.0, 300.0]]), limits=(0.0, 254.0)))
    assert np.asarray(image).tolist() == [[1, 1, 101, 255]]
    assert image.text["filterbank:limits"] == "0.0 254.0"
    assert "filterbank:limits" not in opened(png.render(noise(3, 3))).text


def test_equal_limits_make_two_images_comparable():
    first, second = noise(8, 8), 2 * noise(8, 8)
    scales = {rebuilt(png.render(v, limits=(-1.0, 3.0)))[2] for v in (first, second)}
    assert scales == {3.0 / 127}


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0), (0.0, np.inf), (np.nan, 1.0)])
def test_limits_that_are_no_span_are_refused(limits):
    with pytest.raises(ValueError, match="give two finite numbers, the smaller one first"):
        png.render(noise(2, 2), limits=limits)


@depths
@pytest.mark.parametrize("value", [0.0, -3.25, 1e30, 1e-45])
@pytest.mark.parametrize("shape", [(1, 1), (4, 5)])
def test_a_constant_response_is_mid_gray_and_exact(depth, value, shape):
    values = np.full(shape, value, dtype=np.float32)
    codes, back, _ = rebuilt(png.render(values, depth=depth))
    assert np.all(codes == 2 ** (depth - 1))
    assert np.array_equal(back, values.astype(np.float64))


@pytest.mark.parametrize("limits", [None, (0.0, 1.0)])
def test_a_response_without_valid_pixels_is_all_0(limits):
    values = np.full((3, 4), np.nan, dtype=np.float32)
    assert not np.asarray(opened(png.render(values, limits=limits))).any()


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 2, 2, 2)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="got shape"):
        png.render(np.zeros(shape, dtype=np.float32))


def test_text_chunks_come_back():
    image = opened(png.render(noise(5, 5), text=TEXT))
    assert {key.removeprefix("filterbank:") for key in image.text} == {*TEXT, "offset", "scale"}
    assert {key: image.text[f"filterbank:{key}"] for key in TEXT} == TEXT
    kinds = {key.removeprefix("filterbank:"): type(value) for key, value in image.text.items()}
    assert [key for key, kind in kinds.items() if kind is iTXt] == ["image"]  # beyond Latin-1


@depths
def test_equal_input_gives_equal_bytes(depth):
    shuffled = dict(reversed(TEXT.items()))
    first = png.render(noise(40, 30), depth=depth, text=TEXT)
    assert first == png.render(noise(40, 30), depth=depth, text=shuffled)
    assert b"tIME" not in first


def test_a_large_response_is_reduced_by_means_of_valid_pixels():
    values = noise(100, 65)
    valid = noise(100, 65) > -1
    valid[:4, :4] = False
    codes, back, scale = rebuilt(data := png.render(values, valid, size=30, depth=16))
    chunks = opened(data).text
    assert (chunks["filterbank:size"], chunks["filterbank:reduced"]) == ("100x65", "4")
    assert codes.shape == (25, 17)
    assert codes[0, 0] == 0
    for row, column in [(1, 1), (24, 16), (3, 9)]:
        block = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = values[block][valid[block]].mean(dtype=np.float64)
        assert abs(back[row, column] - expected) <= HALF_A_STEP * scale
    assert (
        scale == np.abs(values[valid]).max().astype(float) / 32767
    )  # of the response, not of means


def test_a_very_wide_response_keeps_its_one_row():
    image = opened(png.render(noise(1, 5000), size=2048))
    assert image.size == (1667, 1)


# -- volumes ---------------------------------------------------------------------------------------


def drawn_parts(data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each slice of a volume's preview: its codes, and the values they stand for."""
    codes, back, _ = rebuilt(data)
    parts = json.loads(opened(data).text["filterbank:parts"])
    rooms = [
        np.s_[p["top"] : p["top"] + p["height"], p["left"] : p["left"] + p["width"]] for p in parts
    ]
    assert [p["slice"][0] for p in parts] == ["z", "y", "x"]
    assert [(p["rows"], p["columns"]) for p in parts] == [("y", "x"), ("-z", "x"), ("-z", "y")]
    between = np.ones(codes.shape, dtype=bool)
    for room in rooms:
        between[room] = False
    assert not codes[between].any()
    assert between.any()
    return [(codes[room], back[room]) for room in rooms]


def middles(values: np.ndarray) -> list[np.ndarray]:
    z, y, x = (n // 2 for n in values.shape)
    return [values[z], values[::-1, y], values[::-1, :, x]]


@depths
def test_of_a_volume_three_middle_slices_are_drawn_with_the_span_of_all(depth):
    values = noise(5, 8, 9)
    values[0, 0, 0] = 50.0
    data = png.render(values, values != values[2, 3, 3], depth=depth)
    text, (_, _, scale) = opened(data).text, rebuilt(data)
    assert text["filterbank:size"] == "5x8x9"
    assert scale == 50.0 / (2 ** (depth - 1) - 1)
    found = drawn_parts(data)
    for (_, back), plane in zip(found[1:], middles(values)[1:], strict=True):
        assert np.all(np.abs(back - plane) <= HALF_A_STEP * scale)
    codes, back = found[0]
    assert np.argwhere(codes == 0).tolist() == [[3, 3]]
    assert np.all(np.abs(back - values[2])[codes > 0] <= HALF_A_STEP * scale)


def test_a_thick_slice_takes_as_much_room_as_in_space():
    values = noise(6, 10, 8)
    data = png.render(values, depth=16, spacing=(2.5, 1.0, 1.0))
    (_, axial), *upright = drawn_parts(data)
    assert axial.shape == (10, 8)
    rows = np.floor((np.arange(15) + 0.5) * 6 / 15).astype(int)
    for (_, back), plane in zip(upright, middles(values)[1:], strict=True):
        assert np.abs(back - plane[rows]).max() <= HALF_A_STEP * rebuilt(data)[2]


def test_a_large_volume_is_reduced_by_means_of_valid_pixels():
    values = noise(64, 64, 64)
    values[:, :2, :2] = np.nan
    data = png.render(values, depth=16, size=102)
    assert max(opened(data).size) == 102
    for (codes, back), plane in zip(drawn_parts(data), middles(values), strict=True):
        blocks = plane.reshape(32, 2, 32, 2).astype(np.float64)
        invalid = np.isnan(blocks).all(axis=(1, 3))
        assert np.array_equal(codes == 0, invalid)
        error = np.abs(back - np.nanmean(np.where(invalid[:, None, :, None], 0, blocks), (1, 3)))
        assert error[~invalid].max() <= HALF_A_STEP * rebuilt(data)[2] + 1e-6


@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    size=st.integers(64, 700),
)
def test_slices_fit_and_keep_their_aspect(shape, spacing, size):
    parts = parts_of(shape, spacing, size)
    height, width = outside(parts).shape
    lengths = [n * step for n, step in zip(shape, spacing, strict=True)]
    pixel = max(lengths[0] / parts[1].height, min(spacing))
    for part, along in zip(parts, [(1, 2), (0, 2), (0, 1)], strict=True):
        for drawn, axis in zip((part.height, part.width), along, strict=True):
            assert abs(drawn - lengths[axis] / pixel) <= max(1.0, drawn / parts[1].height)
    thin = sum(part.width == 1 for part in parts) + sum(part.height == 1 for part in parts)
    assert max(height, width) <= size + thin


def test_pictures_of_volumes_are_white_between_slices_and_tinted_where_invalid():
    values = np.full((8, 20, 30), 7.0)
    pixels = thumbnail(values, limits=(0.0, 14.0))
    blank = outside(parts_of(values.shape, None, VOLUME))
    times = pixels.shape[0] // blank.shape[0]
    assert pixels.ndim == 2
    assert VOLUME // 2 < max(pixels.shape) <= VOLUME
    assert np.array_equal(pixels == 255, enlarge(blank, times * max(blank.shape)))
    assert np.all(pixels[pixels != 255] == 128)
    values[:, :, :15] = np.nan
    tinted = thumbnail(values, limits=(0.0, 14.0))
    assert np.all(tinted[0, : 15 * times] == TINT)
    assert np.all(tinted[0, 15 * times : 30 * times] == 128)


def test_a_sheet_of_a_volume_has_wide_tiles():
    volume = noise(20, 60, 50)
    tiles = [(f"f{i}", "1", *captioned(volume, spacing=(3.0, 1.0, 1.0))) for i in range(5)]
    flat = [(f"f{i}", "1", *captioned(volume[0])) for i in range(5)]
    wide, narrow = (opened(sheet("a", one[0][2], one)).size for one in (tiles, flat))
    assert wide[0] == 2 * layout.MARGIN + 3 * VOLUME + 2 * layout.GAP
    assert narrow[0] == 2 * layout.MARGIN + 5 * SIDE + 4 * layout.GAP


# -- the file format -------------------------------------------------------------------------------


@given(
    pixels=st.one_of(
        hnp.arrays(kind, st.tuples(*[st.integers(1, 9)] * 2, *channels))
        for kind, channels in [(np.uint8, []), (np.uint16, []), (np.uint8, [st.just(3)])]
    )
)
def test_two_decoders_read_the_pixels_that_were_stored(pixels):
    data = pngfile.encode(pixels, {})
    assert np.array_equal(np.asarray(opened(data)), pixels)
    decoded = png_decode(data)  # libpng
    assert decoded.dtype == pixels.dtype
    assert np.array_equal(decoded, pixels)


def test_a_file_of_one_row_and_of_wide_rows_is_read_back():
    for shape in [(1, 70_000), (70_000, 1), (3, 5_000, 3)]:
        pixels = np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(png_decode(pngfile.encode(pixels, TEXT)), pixels)


# -- thumbnails ------------------------------------------------------------------------------------


def thumbnail(values, limits=None):
    return captioned(values, None, limits)[0]


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ((1, 1), (192, 192)),
        ((8, 8), (192, 192)),
        ((100, 80), (100, 80)),
        ((1000, 500), (192, 96)),
        ((1, 5000), (1, 192)),
        ((5, 400, 200), (198, 404)),
    ],
)
def test_thumbnails_are_small_and_keep_the_aspect(shape, drawn):
    assert thumbnail(noise(*shape)).shape[:2] == drawn


def test_signed_responses_are_blue_white_red_and_others_gray():
    ramp = np.linspace(-2, 2, 200)[None].repeat(10, axis=0)
    signed = thumbnail(ramp)
    assert signed.shape == (10, 192, 3)
    assert signed[0, 0, 2] > signed[0, 0, 0]
    assert signed[0, -1, 0] > signed[0, -1, 2]
    assert signed[0, 96].min() > 245
    gray = thumbnail(ramp + 5)
    assert gray.ndim == 2
    assert gray[0, 0] < 5
    assert gray[0, -1] > 250


def test_rounding_below_zero_does_not_colour_a_smooth_response():
    values = np.abs(noise(20, 20)) * 100
    values[0] = -1e-6
    pixels, caption = captioned(values)
    assert pixels.ndim == 2
    assert caption.startswith("0 .. ")


def test_invalid_pixels_are_tinted_and_do_not_bleed():
    values = np.full((400, 400), 7.0, dtype=np.float32)
    values[:, :200] = np.nan
    pixels = thumbnail(values, limits=(0.0, 14.0))
    assert np.all(pixels[:, :96] == TINT)
    assert np.all(pixels[:, 96:] == 128)


def test_a_response_without_valid_pixels_has_a_thumbnail_and_says_so():
    pixels, caption = captioned(np.full((30, 30), np.nan, dtype=np.float32))
    assert np.all(pixels == TINT)
    assert caption == "no valid pixel"


@given(values=images)
def test_any_finite_response_has_a_thumbnail(values):
    pixels, caption = captioned(values)
    assert max(pixels.shape[:2]) <= SIDE
    assert " .. " in caption


def test_a_few_extreme_pixels_do_not_hide_the_rest():
    values = np.linspace(0, 1, 10_000).reshape(100, 100)
    values[50, 50] = 1e6
    assert np.median(thumbnail(values)) == pytest.approx(128, abs=3)


def test_captions_say_what_the_colours_span():
    assert captioned(noise(9, 9), limits=(-1.0, 2.0))[1] == "-2 .. 2"
    assert captioned(noise(9, 9), limits=(0.0, 1234.5))[1] == "0 .. 1234"


def test_red_green_and_blue_are_shown_in_colour_in_that_order():
    shades = {"blue": 9.0, "nir": 1.0, "red": 255.0, "green": 0.0}
    flat = {name: np.full((4, 4), shade) for name, shade in shades.items()}
    assert np.all(photograph(flat, limits=(0, 255)) == (255, 0, 9))
    assert photograph({"gray": noise(4, 4)}).ndim == 2
    masks = {name: np.zeros((4, 4), dtype=bool) for name in flat}
    assert np.all(photograph(flat, masks) == TINT)


# -- sheets ----------------------------------------------------------------------------------------


def tiles(count: int, bands: tuple[str, ...] = ("gray",)) -> list[tuple[str, str, np.ndarray, str]]:
    made = [(name, band) for band in bands for name in (f"log(sigma={n})" for n in range(count))]
    return [(name, band, *captioned(noise(40, 30))) for name, band in made]


def test_a_sheet_opens_is_wide_enough_and_the_same_twice():
    made = [
        sheet("a/ü.png", thumbnail(noise(64, 64)), tiles(64), about=["64 x 64"], text=TEXT)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    image = opened(made[0])
    assert image.mode == "RGB"
    assert image.width <= 1600
    assert image.height > 10 * 160
    assert image.text["filterbank:image"] == "Süd/山.png"


@pytest.mark.parametrize(
    ("count", "bands", "rows"), [(1, 1, 1), (7, 1, 1), (8, 1, 2), (4, 3, 2), (5, 12, 10), (2, 9, 3)]
)
def test_every_tile_is_drawn_and_bands_stay_together(count, bands, rows):
    one = opened(sheet("t", thumbnail(noise(9, 9)), tiles(1))).height
    some = opened(sheet("t", thumbnail(noise(9, 9)), tiles(count, tuple("abcdefghijkl"[:bands]))))
    row = SIDE // 40 * 40 + 2 * layout.LEADING + 8 + layout.GAP
    assert some.height - one == (rows - 1) * row


def test_a_sheet_without_responses_still_shows_the_input():
    assert opened(sheet("only", thumbnail(noise(9, 9)), [])).height > SIDE


def test_a_name_of_any_characters_is_one_line_of_text():
    assert layout.printable("a\nb\x00ø\udc80…°") == "a\\nb\\x00\\xf8\\udc80…°"


def test_names_are_broken_or_shortened_to_the_width():
    font = ImageFont.load_default(layout.TEXT)
    assert layout.wrap("sobel", 192, font) == ("sobel",)
    name = "gabor(wavelength=4,orientation=45)"
    assert layout.wrap(name, 192, font) == ("gabor(wavelength=4,", "orientation=45)")
    for text in ("x" * 400, "laws(" + "y" * 400 + ")", "a,b" * 100):
        lines = layout.wrap(text, 192, font)
        assert len(lines) <= 2
        assert all(font.getlength(line) <= 192 for line in lines)
    assert layout.shorten("abcdefghij" * 9, 60, font).count("…") == 1


def test_kernels_are_drawn_with_their_size_and_sum(monkeypatch):
    drawn = []
    monkeypatch.setattr(layout, "printable", lambda text: drawn.append(text) or text)
    sobel = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], dtype=np.float64)
    volume = np.full((5, 3, 3), 0.5)
    kernels = [("sobel[y]", sobel, "y of 2"), ("cube", volume, ""), ("0", np.zeros((1, 1)), "")]
    image = opened(kernel_sheet("bank", kernels))
    assert {"3 x 3, sum 0", "y of 2", "5 x 3 x 3, slice z=2", "sum 22.5", "1 x 1, sum 0"} < {*drawn}
    top = next(y for y in range(image.height) if image.getpixel((40, y)) == (146, 197, 222))
    assert image.getpixel((layout.MARGIN + 79, top + 10)) == (33, 102, 172)
    assert image.getpixel((layout.MARGIN + 79, top + 80)) == (255, 255, 255)
    assert image.getpixel((layout.MARGIN + 79, top + 150)) == (178, 24, 43)


def test_cancelling_taps_sum_to_zero_and_large_kernels_shrink(monkeypatch):
    drawn = []
    monkeypatch.setattr(layout, "printable", lambda text: drawn.append(text) or text)
    taps = np.sin(np.linspace(-3, 3, 401))[None].repeat(401, axis=0)
    image = opened(kernel_sheet("bank", [("wave", taps, "")]))
    assert "401 x 401, sum 0" in drawn
    assert image.height == opened(kernel_sheet("bank", [("dot", np.ones((1, 1)), "")])).height


def test_importing_the_writers_loads_neither_pillow_nor_torch():
    code = "import sys, pipeline.writers.sheet; print({'PIL', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", ["photos/astronaut.png", "photos/coins.png"])
def test_real_photographs_survive(shared: Path, name: str):
    with Image.open(shared / "data" / name) as image:
        values = np.asarray(image.convert("L"), dtype=np.float32)
    _, back, scale = rebuilt(png.render(np.diff(values, axis=0)))
    assert np.all(np.abs(back - np.diff(values, axis=0)) <= HALF_A_STEP * scale)
    assert thumbnail(values).std() > 30


@pytest.mark.parametrize(
    "data",
    [
        np.zeros(0, np.uint8),
        np.arange(5, dtype=np.uint8),
        np.zeros(100_000, np.uint8),
        np.random.default_rng(0).integers(0, 256, 5001, dtype=np.uint8),
        np.random.default_rng(0).normal(0, 3, 100_001).round().astype(np.int8).view(np.uint8),
        np.arange(5000).astype(np.uint8) % 2,
        # Fibonacci's numbers, for which Huffman's codes are the longest
        np.random.default_rng(0).permutation(
            np.repeat(np.arange(27, dtype=np.uint8), (1.6181 ** np.arange(27)).astype(int))
        ),
    ],
    ids=["empty", "few", "flat", "even", "steep", "two", "long codes"],
)
def test_what_is_packed_is_a_zlib_stream(data: np.ndarray) -> None:
    """zlib reads it, and it makes no shorter one without matches but for the table of the code."""
    packed = pngfile.deflate(data)
    assert zlib.decompress(packed) == data.tobytes()
    plain = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    assert len(packed) <= len(plain.compress(data) + plain.flush()) * 1.01 + 150


@pytest.mark.parametrize("period", [7, 8, 64])
@pytest.mark.parametrize("width", [489, 511, 1022, 400_000])
def test_patterns_that_a_sample_tells_badly_are_packed_as_well_as_others(
    period: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of noise among quiet ones, or the reverse, as dithering and sensors make them."""
    rng = np.random.default_rng(period)
    for loud in (np.arange(width) % period == 0, np.arange(width) % period != 0):
        height = max(1, 400_000 // width)
        noise = np.where(loud, rng.integers(0, 256, (height, width)), rng.integers(0, 9, width))
        pixels = noise.astype(np.uint8)
        sampled = pngfile.encode(pixels, {})
        monkeypatch.setattr(pngfile, "MANY", 1 << 40)
        assert len(sampled) <= 1.03 * len(pngfile.encode(pixels, {}))
        monkeypatch.undo()


@pytest.mark.parametrize("more", range(4))
def test_bytes_that_the_sample_misses_are_packed_too(more: int) -> None:
    rng = np.random.default_rng(more)
    data = rng.integers(0, 256, 2 * pngfile.MANY + more, dtype=np.uint8)
    seen = np.arange(len(data)) % pngfile.STEP < pngfile.RUN
    data[seen] = rng.integers(0, 9, seen.sum())
    assert zlib.decompress(pngfile.deflate(data)) == data.tobytes()

"""Real files: every domain's folder, and the hostile corpus against its manifest."""

from __future__ import annotations

import csv
import time
import warnings
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from pipeline.errors import ReadError
from pipeline.readers import identify
from pipeline.readers.base import READERS
from pipeline.types import ImageInfo, Region

Array = npt.NDArray[np.generic]
FOLDERS = ("photos", "xray", "satellite", "handwriting", "spectrogram", "sixteen_bit")
CLAIMED = ("png", "jpeg", "gif", "webp", "tiff", "other/bmp", "other/pnm", "other/ppm")
PIXEL_LIMIT = 2**28  # stands for the configured limit, which is checked between probe and open
SECONDS = 10

UPRIGHT = "the manifest gives the stored shape; EXIF orientation is applied here"
COMPLEX = "complex samples are refused by rule"
COMPLEX_SCENES = ("solaris_sar_hh.tif",)
EXCEPTIONS = {
    "1594__5.jpg": UPRIGHT,
    "1597__8.jpg": UPRIGHT,
    "2311__orientation_rectangle.jpg": UPRIGHT,
    "0122__cint16.tif": COMPLEX,
    "0204__complex_non_zero_real_zero_imag.tif": COMPLEX,
    "1483__random2_98x93_lossless_psv2_pt0.jpg": "2-bit lossless JPEG: no 8-bit decoder takes it",
    "1949__syntax_num_frames_invalid.png": "its frame count is no number; libpng stops there",
    "0365__stripbytecounts_count_not_same_as_stripoffsets_count.tif": "a strip without a size",
}


def read(path: Path, page: int = 0) -> tuple[ImageInfo, Array, Array | None]:
    name = identify(str(path))
    if name is None:
        raise ReadError("unsupported", "no reader")
    info = READERS[name]().probe(str(path))[page]
    if prod(info.shape) * len(info.bands) > PIXEL_LIMIT:
        raise ReadError("limit", "too many pixels")
    with READERS[name]().open(str(path), page) as window:
        assert window.info == info
        values = window.read(Region.whole(info.shape))
        mask = window.valid(Region.whole(info.shape))
    assert values.shape == (len(info.bands), *info.shape)
    assert (values.dtype.name, values.dtype.isnative) == (info.dtype, True)
    assert mask is None or (mask.shape, mask.dtype) == (values.shape, np.bool_)
    return info, values, mask


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_real_file_opens_as_probed(shared: Path, folder: str) -> None:
    files = [p for p in sorted((shared / "data" / folder).iterdir()) if identify(str(p))]
    assert files
    for path in files:
        if path.name in COMPLEX_SCENES:
            with pytest.raises(ReadError, match="complex64"):
                read(path)
        else:
            read(path)


def test_photos_look_as_pillow_shows_them(shared: Path) -> None:
    for path in sorted((shared / "data/photos").iterdir()):
        info, values, _ = read(path)
        with Image.open(path) as image:
            shown = ImageOps.exif_transpose(image)
            mode = "L" if len(info.bands) == 1 else "RGB"
            expected = np.atleast_3d(np.asarray(shown.convert(mode)))
        np.testing.assert_array_equal(np.moveaxis(values, 0, -1), expected, err_msg=path.name)


def test_satellite_samples_are_rasterios(shared: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    for path in sorted((shared / "data/satellite").glob("*.[tT][iI][fF]")):
        if path.name in COMPLEX_SCENES:
            continue
        info, values, mask = read(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path, driver="GTiff") as scene:
                expected, inside = scene.read(), scene.read_masks() > 0
                alpha = scene.colorinterp.count(rasterio.enums.ColorInterp.alpha)
                lossy = scene.profile.get("compress") == "jpeg"
                scale, offset = (np.array(v)[:, None, None] for v in (scene.scales, scene.offsets))
                if {*scene.scales, *scene.offsets} != {0, 1}:
                    expected = expected * scale + offset
        kept = expected[: len(expected) - alpha]
        assert values.dtype == kept.dtype
        if lossy:  # decoders differ in how they enlarge the chroma planes
            assert np.abs(values.astype(int) - kept).mean() < 1, path.name
        else:
            np.testing.assert_array_equal(values, kept, err_msg=path.name)
        finite = np.isfinite(values)
        valid = np.ones(values.shape, np.bool_) if mask is None else mask
        np.testing.assert_array_equal(valid & finite, inside[: len(values)] & finite, path.name)
        assert info.shape == expected.shape[1:]


def test_sixteen_bits_stay_sixteen(shared: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    for path in sorted((shared / "data/sixteen_bit").iterdir()):
        if identify(str(path)) in ("png", "pnm"):
            info, values, _ = read(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with rasterio.open(path) as scene:
                    expected = scene.read()
            assert info.dtype == "uint16", path.name
            np.testing.assert_array_equal(values, expected[: len(values)], err_msg=path.name)


def test_a_bomb_is_described_from_its_header(shared: Path) -> None:
    path = shared / "data/broken/sharp_65536-uint32-limit.png"
    start = time.monotonic()
    (info,) = READERS["png"]().probe(str(path))
    assert info.shape == (65536, 65536)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("name", ["sharp_truncated.jpg", "sharp_corrupt-header.jpg"])
def test_broken_files_are_corrupt(shared: Path, name: str) -> None:
    with pytest.raises(ReadError) as caught:
        read(shared / "data/broken" / name)
    assert caught.value.kind == "corrupt"


def verdict(path: Path) -> tuple[ImageInfo | None, str]:
    """What happens to the first page; later pages may only fail in the same way."""
    try:
        info, _, _ = read(path)
        name = identify(str(path)) or ""
        for page in range(1, min(4, len(READERS[name]().probe(str(path))))):
            try:
                read(path, page)
            except ReadError:
                break
    except ReadError as error:
        return None, f"{error.kind}: {error}"
    return info, "read"


def test_the_hostile_corpus(shared: Path) -> None:
    root = shared / "hostile"
    with (root / "manifest.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["category"].startswith(CLAIMED)]
    wrong, used, decoded, due = [], set(), 0, 0
    for row in rows:
        path = root / "dev" / row["file"]
        if not path.exists():
            continue
        start = time.monotonic()
        info, kind = verdict(path)
        if str(root) in kind:
            wrong.append(f"{row['file']}: a message with a path: {kind}")
        if time.monotonic() - start > SECONDS:
            wrong.append(f"{row['file']}: took more than {SECONDS} s")
        if row["expectation"] in ("MUST ERROR", "MUST BE REFUSED") and info:
            wrong.append(f"{row['file']}: was read")
        if row["expectation"] == "MUST DECODE":
            due += 1
            shape = tuple(map(int, row["HxWxC"].split("x")[:2]))
            decoded += info is not None and info.shape == shape
            if info is None or info.shape != shape:
                used.add(path.name)
                if path.name not in EXCEPTIONS:
                    wrong.append(f"{row['file']}: {kind}, {info and info.shape} not {shape}")
    assert not wrong, "\n".join(wrong)
    assert used == set(EXCEPTIONS), "an exception that is no longer needed"
    assert decoded >= 0.98 * due, f"{decoded} of {due}"

"""What every reader must do, found in the registry: a new one needs files below."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import RLELossless
from slices import dataset, frames_at
from slices import write as write_dicom

import pipeline.readers  # noqa: F401 - registers them
from pipeline.errors import ReadError
from pipeline.readers import identify
from pipeline.readers.base import READERS
from pipeline.types import ImageInfo, Region

RNG = np.random.default_rng(11)
GRAY = RNG.integers(0, 256, (19, 26), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (19, 26, 3), dtype=np.uint8)
CLEAR = np.dstack([COLOUR, (RNG.random((19, 26)) > 0.3).astype(np.uint8) * 255])
DEEP = RNG.integers(0, 2**16, (19, 26), dtype=np.uint16)


def pillow(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def frames(path: Path) -> None:
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy())
    first.save(path, save_all=True, append_images=[second], duration=50)


def tiff(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def nifti(pixels: np.ndarray, slope: float | None = None) -> Callable[[Path], None]:
    """Write axes (.., z, y, x) as NIfTI stores them, x first."""

    def write(path: Path) -> None:
        image = nibabel.Nifti1Image(pixels.T, np.eye(4))
        image.header.set_slope_inter(slope, None if slope is None else -1.0)
        image.to_filename(path)

    return write


def dicom(pixels: np.ndarray, *, rle: bool = False, **elements: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        if not rle:
            write_dicom(path, pixels, **elements)
            return
        packed = dataset(pixels, **elements)
        packed.compress(RLELossless)
        packed.save_as(path, enforce_file_format=True)

    return write


def raster(pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    """Write bands (C, H, W) on the ground, as GeoTIFF where no driver is named."""

    def write(path: Path) -> None:
        count, height, width = pixels.shape
        layout = {"driver": "GTiff", "count": count, "height": height, "width": width}
        place = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
        with rasterio.open(path, "w", **{**layout, **place, "dtype": pixels.dtype, **options}) as f:
            f.write(pixels)

    return write


FILES: dict[str, dict[str, Callable[[Path], None]]] = {
    "png": {
        "gray.png": pillow(GRAY),
        "clear.png": pillow(CLEAR),
        "deep.png": pillow(DEEP),
        "bit.png": pillow(GRAY > 99),
    },
    "jpeg": {"gray.jpg": pillow(GRAY), "colour.jpeg": pillow(COLOUR)},
    "gif": {"colour.gif": pillow(COLOUR), "frames.gif": frames},
    "webp": {"clear.webp": pillow(CLEAR, lossless=True), "frames.webp": frames},
    "bmp": {"gray.bmp": pillow(GRAY), "colour.bmp": pillow(COLOUR)},
    "pnm": {"gray.pgm": pillow(GRAY), "colour.ppm": pillow(COLOUR), "bit.pbm": pillow(GRAY > 99)},
    "tiff": {
        "deep.tif": tiff(DEEP, compression="zlib", predictor=True),
        "tiles.tif": tiff(COLOUR, tile=(16, 16), photometric="rgb"),
        "pages.tiff": tiff(np.stack([DEEP, DEEP[::-1]]), photometric="minisblack"),
        "floats.tif": tiff(DEEP.astype(np.float32), extratags=[(42113, "s", 0, "7", True)]),
        "bit.tif": pillow(GRAY > 99),
    },
    "hyperstack": {
        "plane.ome.tif": tiff(DEEP, ome=True, compression="lzw"),
        "volume.ome.btf": tiff(
            np.stack([DEEP] * 3), ome=True, bigtiff=True, metadata={"axes": "ZYX"}
        ),
        "frames_volume.ome.tif": tiff(
            np.stack([[DEEP] * 3, [DEEP[::-1]] * 3]), ome=True, metadata={"axes": "TZYX"}
        ),
        "frames_imagej.tif": tiff(
            np.stack([DEEP, DEEP[::-1]]), imagej=True, metadata={"axes": "TYX"}
        ),
    },
    "raster": {
        "scene.geotiff": raster(DEEP[None], nodata=7, compress="deflate"),
        "clear.gtif": raster(np.moveaxis(CLEAR, -1, 0), tiled=True, blockxsize=16, blockysize=16),
        "pages.gtiff": tiff(
            np.stack([DEEP, DEEP[::-1]]),
            photometric="minisblack",
            extratags=[(33550, "d", 3, (10, 10, 0)), (33922, "d", 6, (0, 0, 0, 5e5, 5e6, 0))],
        ),
        "scene.jp2": raster(DEEP[None], driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"),
    },
    "nifti": {
        "plane.nii": nifti(DEEP),
        "volume.nii": nifti(np.stack([DEEP] * 3).astype(">f4")),
        "volume.nii.gz": nifti(np.stack([DEEP] * 3).astype(np.int16), slope=0.5),
        "frames_volume.nii.gz": nifti(np.stack([[DEEP] * 3, [DEEP[::-1]] * 3])),
    },
    "dicom": {
        "plane.dcm": dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1024),
        "colour.dcm": dicom(COLOUR, rle=True),
        "frames.dcm": dicom(np.stack([DEEP, DEEP[::-1]]), rle=True),
        "volume.dcm": dicom(np.stack([DEEP] * 3), **frames_at([2, 0, 1])),
    },
    "npy": {
        "plane.npy": lambda path: np.save(path, DEEP.astype(np.float64)),
        "volume.npy": lambda path: np.save(path, np.stack([DEEP] * 3).astype(">i4")),
        "fortran.npy": lambda path: np.save(path, np.asfortranarray(GRAY)),
    },
}
"""Files for each reader: its pixel types, layouts, masks and pages."""

CASES = [(reader, name) for reader, files in FILES.items() for name in files]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for files in FILES.values():
        for name, write in files.items():
            write(root / name)
    return root


def pages(reader: str, path: Path) -> list[ImageInfo]:
    return list(READERS[reader]().probe(str(path)))


def decoded(reader: str, path: Path) -> list[np.ndarray]:
    """Every page, whole."""
    found = []
    for page, info in enumerate(pages(reader, path)):
        with READERS[reader]().open(str(path), page) as window:
            found.append(window.read(Region.whole(info.shape)))
    return found


def test_every_registered_reader_has_files_here() -> None:
    assert FILES.keys() == READERS.keys()
    assert all(FILES.values())


@pytest.mark.parametrize("reader", READERS)
def test_suffixes_are_claimed_once(reader: str) -> None:
    suffixes = READERS[reader].suffixes
    assert suffixes
    for other in READERS.keys() - {reader}:
        assert not set(suffixes) & set(READERS[other].suffixes)


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_a_file_is_known_by_its_first_bytes(folder: Path, reader: str, name: str) -> None:
    nameless = folder / f"{name.replace('.', '_')}"
    nameless.write_bytes((folder / name).read_bytes())
    assert identify(str(nameless)) == reader


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_the_header_foretells_the_pixels_of_every_page(
    folder: Path, reader: str, name: str
) -> None:
    found = pages(reader, folder / name)
    assert len(found) == (2 if name.startswith(("frames", "pages")) else 1)
    for page, info in enumerate(found):
        assert pickle.loads(pickle.dumps(info)) == info
        assert len(info.shape) == len(info.grid.spacing) == (3 if "volume" in name else 2)
        assert info.shape[-2:] == (19, 26)
        assert len(set(info.bands)) == len(info.bands)
        with READERS[reader]().open(str(folder / name), page) as window:
            assert window.info == info
            pixels = window.read(Region.whole(info.shape))
            mask = window.valid(Region.whole(info.shape))
        assert pixels.shape == (len(info.bands), *info.shape)
        assert (str(pixels.dtype), pixels.dtype.isnative) == (info.dtype, True)
        assert np.ptp(pixels) > 0
        if name.startswith("clear"):
            assert mask is not None
        if mask is not None:
            assert (mask.shape, mask.dtype) == (pixels.shape, np.bool_)


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_pages_are_not_all_the_first(folder: Path, reader: str, name: str) -> None:
    found = pages(reader, folder / name)
    planes = {page.tobytes() for page in decoded(reader, folder / name)}
    assert len(planes) == len(found)
    with pytest.raises(ReadError) as caught:
        READERS[reader]().open(str(folder / name), len(found)).__enter__()
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize(("reader", "name"), CASES)
@given(data=st.data())
def test_any_window_is_a_crop_of_the_whole(
    folder: Path, reader: str, name: str, data: st.DataObject
) -> None:
    for page, info in enumerate(pages(reader, folder / name)):
        start = tuple(data.draw(st.integers(0, n - 1)) for n in info.shape)
        stop = tuple(
            data.draw(st.integers(a + 1, n)) for a, n in zip(start, info.shape, strict=True)
        )
        part, whole = Region(start, stop), Region.whole(info.shape)
        with READERS[reader]().open(str(folder / name), page) as window:
            crop, mask = window.read(part), window.valid(part)
        with READERS[reader]().open(str(folder / name), page) as window:
            pixels, valid = window.read(whole), window.valid(whole)
        at = (slice(None), *part.slices())
        np.testing.assert_array_equal(crop, pixels[at])
        assert (mask is None) == (valid is None)
        if mask is not None and valid is not None:
            np.testing.assert_array_equal(mask, valid[at])


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_pixels_are_the_callers_to_change(folder: Path, reader: str, name: str) -> None:
    before = (folder / name).read_bytes()
    first = decoded(reader, folder / name)
    kept = [page.copy() for page in first]
    for page in first:
        page[...] = 0
    for page, again in zip(kept, decoded(reader, folder / name), strict=True):
        np.testing.assert_array_equal(page, again)
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize(("reader", "name"), CASES)
def test_half_a_file_is_no_image(folder: Path, reader: str, name: str, tmp_path: Path) -> None:
    """Never zeros for what is missing; the message names no folder."""
    data = (folder / name).read_bytes()
    half = tmp_path / name
    half.write_bytes(data[: len(data) // 2])
    with pytest.raises(ReadError) as caught:
        decoded(reader, half)
    assert caught.value.kind in ("corrupt", "unsupported")
    assert str(tmp_path) not in str(caught.value)

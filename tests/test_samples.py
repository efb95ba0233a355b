"""The generated samples: the same bytes every time, small, and what their names say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from pipeline.config.load import load

ROOT = Path(__file__).resolve().parents[1]
USES = {
    "edges": "edges",
    "photos": "photos",
    "xray": "xray",
    "satellite": "satellite",
    "handwriting": "handwriting",
    "spectrogram": "spectrogram",
    "ct": "radiomics",
}
"""Folder of samples -> the config that is for them."""
GDAL_NODATA = 42113
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def make(folder: Path) -> Path:
    """Run the script as `make` does, into another folder."""
    script = ROOT / "data" / "make_samples.py"
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_use_has_its_samples_and_nothing_else_is_left(samples: Path) -> None:
    assert sorted(path.name for path in samples.iterdir()) == sorted(USES)
    assert {Path(name).suffix for name in contents(samples)} == {
        ".png",
        ".jpg",
        ".tif",
        ".npy",
        ".gz",
    }


def test_another_run_writes_the_same_bytes(samples: Path, tmp_path: Path) -> None:
    assert contents(make(tmp_path)) == contents(samples)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_each_config_reads_samples_that_are_made(samples: Path, config: Path) -> None:
    loaded = load(config)
    assert loaded.output.path == f"out/{config.stem}"
    for path in loaded.input.path:
        assert (samples / Path(path).relative_to("data/samples")).exists()


@pytest.mark.parametrize("config", USES.values())
def test_each_use_has_a_config_with_a_sensible_bank(config: str) -> None:
    assert 8 <= len(load(ROOT / "configs" / f"{config}.yaml").filters) <= 20


def test_all_samples_together_stay_below_3_mb(samples: Path) -> None:
    assert sum(map(len, contents(samples).values())) < 3_000_000


def test_the_hollow_square_gives_the_documented_response(samples: Path) -> None:
    image = np.asarray(Image.open(samples / "edges" / "hollow_square.png"), dtype=np.float64)
    kernel = [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]
    expected = [
        [1, 2, 3, 2, 1],
        [1, 1, 2, 1, 1],
        [0, 0, 0, 0, 0],
        [-1, -1, -2, -1, -1],
        [-1, -2, -3, -2, -1],
    ]
    np.testing.assert_array_equal(ndimage.correlate(image, kernel, mode="constant"), expected)


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("edges/ramp_16bit.png", "I;16", (128, 64)),
        ("photos/street.png", "RGB", (320, 240)),
        ("photos/leaf_alpha.png", "RGBA", (200, 240)),
        ("photos/pebbles_gray.png", "L", (256, 256)),
        ("photos/thumbnail_32.png", "RGB", (32, 32)),
        ("xray/chest_normal.png", "I;16", (512, 512)),
        ("handwriting/letter_a.png", "1", (105, 105)),
        ("handwriting/digit_7.png", "L", (28, 28)),
        ("handwriting/page.png", "RGB", (600, 400)),
    ],
)
def test_pictures_have_their_depth_and_size(
    samples: Path, name: str, mode: str, size: tuple[int, int]
) -> None:
    with Image.open(samples / name) as image:
        assert (image.mode, image.size) == (mode, size)


def test_the_ramp_needs_all_16_bits(samples: Path) -> None:
    pixels = np.asarray(Image.open(samples / "edges" / "ramp_16bit.png"))
    assert np.unique(pixels[0]).size == 128
    assert np.unique(pixels[-1] - pixels[0]).tolist() == [256]


@pytest.mark.parametrize("name", ["farmland.tif", "town.tif"])
def test_scenes_have_four_bands_and_a_nodata_corner(samples: Path, name: str) -> None:
    with tifffile.TiffFile(samples / "satellite" / name) as file:
        scene = file.asarray()
        assert file.pages.first.tags[GDAL_NODATA].value == "0"
        assert file.is_geotiff
    assert (scene.shape, scene.dtype) == ((4, 256, 256), np.uint16)
    empty = scene == 0
    assert (empty == empty[0]).all()
    assert 0.02 < empty[0].mean() < 0.2


def test_spectrograms_are_finite_decibels(samples: Path) -> None:
    for path in (samples / "spectrogram").iterdir():
        array = np.load(path, allow_pickle=False)
        assert (array.shape, array.dtype) == ((129, 199), np.float32)
        assert np.isfinite(array).all()
        assert -140 <= array.min() < array.max() < 0


@pytest.mark.parametrize("case", ["smooth", "rough"])
def test_ct_cases_are_hounsfield_units_with_a_lesion_on_the_same_grid(
    samples: Path, case: str
) -> None:
    image, roi = (nib.load(samples / "ct" / case / f"{name}.nii.gz") for name in ("image", "roi"))
    np.testing.assert_array_equal(image.affine, roi.affine)
    assert image.header.get_zooms() == (2, 2, 3)
    assert image.header.get_xyzt_units()[0] == "mm"
    values, lesion = np.asarray(image.dataobj), np.asarray(roi.dataobj)
    assert values.shape == lesion.shape == (48, 48, 24)
    assert (values.dtype, lesion.dtype) == (np.int16, np.uint8)
    assert np.unique(lesion).tolist() == [0, 1]
    assert np.median(values[0]) == pytest.approx(-1000, abs=2)  # air
    assert values[lesion == 1].mean() == pytest.approx(40, abs=15)  # soft tissue


def test_the_rough_lesion_is_rougher(samples: Path) -> None:
    deviations = {}
    for folder in (samples / "ct").iterdir():
        values, lesion = (
            np.asarray(nib.load(folder / f"{name}.nii.gz").dataobj) for name in ("image", "roi")
        )
        deviations[folder.name] = values[ndimage.binary_erosion(lesion)].std()
    assert deviations["rough"] > 2 * deviations["smooth"]

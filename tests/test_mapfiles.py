"""The GeoTIFF and NIfTI files of an image, made from its maps whole or in tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from running import look, write_config

from pipeline.plan import Plan
from pipeline.stages import mapfiles
from pipeline.stages.mapfiles import MapFiles
from pipeline.types import Source

nibabel = pytest.importorskip("nibabel")
RNG = np.random.default_rng(6)
ORIGIN = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
BANK = ["identity", {"gaussian": {"sigma": [1, 2]}}]
NAMES = ("identity", "gaussian(sigma=1)", "gaussian(sigma=2)")


def scene(tmp_path: Path, output: dict[str, Any], bank: Any = BANK) -> tuple[Plan, Source]:
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    layout = {"width": 30, "height": 20, "count": 2, "dtype": "uint8"}
    with rasterio.open(path, "w", crs="EPSG:32631", transform=ORIGIN, **layout) as file:
        file.write(RNG.integers(0, 255, (2, 20, 30), dtype=np.uint8))
        file.descriptions = ("red", "nir")
    sections = {"filters": bank, "output": {"path": "unused", **output}}
    seen = look(write_config(tmp_path / "c.yaml", **sections), tmp_path / "out", path.parent)
    (source,) = seen.sources
    return seen.plan, source


def maps(cut: int = 20) -> list[Any]:
    values = np.arange(3 * 2 * 600, dtype=np.float32).reshape(3, 2, 20, 30)
    return [
        (band, name, (y, 0), values[f, b, y : y + cut])
        for y in range(0, 20, cut)
        for b, band in enumerate(("red", "nir"))
        for f, name in enumerate(NAMES)
    ]


def finished(plan: Plan, source: Source, folder: Path, rows: list[Any]) -> dict[str, bytes]:
    folder.mkdir()
    files = MapFiles(plan, source, folder)
    files.add(rows)
    return {name: path.read_bytes() for name, path in files.close()}


def test_every_chosen_response_has_its_files(tmp_path: Path) -> None:
    wanted = {"geotiff": True, "nifti": {"filters": ["*sigma=2*"]}}
    plan, source = scene(tmp_path, wanted)
    found = finished(plan, source, tmp_path / "whole", maps())
    assert list(found) == [
        "geotiff/a.tif/identity.tif",
        "geotiff/a.tif/gaussian_sigma_1.tif",
        "geotiff/a.tif/gaussian_sigma_2.tif",
        "nifti/a.tif/red/gaussian_sigma_2.nii.gz",
        "nifti/a.tif/nir/gaussian_sigma_2.nii.gz",
    ]
    assert finished(plan, source, tmp_path / "tiles", maps(7)[::-1]) == found
    with rasterio.open(tmp_path / "whole" / "1.tif") as file:
        assert (file.descriptions, file.transform) == (("red", "nir"), ORIGIN)
        assert file.tags()["FILTERBANK_FILTER"] == "gaussian(sigma=1)"
        np.testing.assert_array_equal(file.read(2), maps()[4][3])
    volume = nibabel.load(tmp_path / "whole" / "2-1.nii.gz")
    np.testing.assert_array_equal(np.asarray(volume.dataobj).T, maps()[5][3])
    needs = mapfiles.needs(plan, source)
    kept, needed = needs.kept, needs.meanwhile
    assert sum(map(len, found.values())) <= kept <= needed


def test_what_is_not_wanted_is_not_made_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    plan, source = scene(tmp_path, {"geotiff": {"filters": ["identity"]}})
    folder = tmp_path / "made"
    folder.mkdir()
    files = MapFiles(plan, source, folder)
    files.add([*maps(), ("red", "identity", (0, 0), np.empty((0, 30), np.float32))])
    assert len(list(folder.iterdir())) == 1
    files.discard()
    assert list(folder.iterdir()) == []
    mapfiles.require(plan)


def test_a_volume_has_nifti_files_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    affine = np.diag([-2.0, 3, 4, 1])
    nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), affine).to_filename(tmp_path / "in/a.nii")
    sections = {"output": {"path": "unused", "geotiff": True, "nifti": True}}
    seen = look(write_config(tmp_path / "c.yaml", **sections), tmp_path / "out", tmp_path / "in")
    (source,) = seen.sources
    found = finished(seen.plan, source, tmp_path / "made", [])
    assert list(found) == ["nifti/a.nii/1/identity.nii.gz"]
    volume = nibabel.load(tmp_path / "made" / "0-0.nii.gz")
    np.testing.assert_array_equal(volume.affine, affine)
    assert np.isnan(np.asarray(volume.dataobj)).all()

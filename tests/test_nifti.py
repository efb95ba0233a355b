"""NIfTI: stored order, scaling, spacing, frames, damage; and volumes through a whole run."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from running import failures, run_bank, write_config
from scipy import ndimage

from pipeline.errors import ReadError
from pipeline.readers import identify, nifti
from pipeline.readers.base import READERS
from pipeline.types import Grid, Region

nibabel = pytest.importorskip("nibabel")
NIFTI = READERS["nifti"]()
RNG = np.random.default_rng(5)
VOXELS = RNG.integers(-500, 500, (6, 7, 8)).astype(np.int16)  # z, y, x
FLIPPED = np.array([[0, -2, 0, 5], [-3, 0, 0, 7], [0, 0, 4, 9], [0, 0, 0, 1.0]])


def save(path: Path, voxels: np.ndarray, affine: Any = None, **header: Any) -> Path:
    """Write axes (.., z, y, x); `header` sets raw fields after nibabel has filled it in."""
    kind = header.pop("kind", nibabel.Nifti1Image)
    image = kind(voxels.T, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    if header:
        packed = path.suffix == ".gz"
        data = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        raw = kind.header_class(bytes(data[: kind.header_class.sizeof_hdr]), check=False)
        for name, value in header.items():
            raw[name] = value
        data[: kind.header_class.sizeof_hdr] = raw.binaryblock
        path.write_bytes(gzip.compress(data) if packed else data)
    return path


def whole(path: Path, page: int = 0) -> np.ndarray:
    info = NIFTI.probe(str(path))[page]
    with NIFTI.open(str(path), page) as window:
        return window.read(Region.whole(info.shape))[0]


def refusal(path: Path) -> ReadError:
    with pytest.raises(ReadError) as caught:
        whole(path)
    assert str(path.parent) not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------- one file
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_voxels_stay_in_stored_order_whatever_the_affine(
    tmp_path: Path, name: str, kind: type
) -> None:
    path = save(tmp_path / name, VOXELS, FLIPPED, kind=kind)
    assert identify(str(path)) == "nifti"
    (info,) = NIFTI.probe(str(path))
    assert (info.shape, info.dtype, info.bands) == ((6, 7, 8), "int16", ("1",))
    assert info.grid == Grid((4.0, 2.0, 3.0), "mm")
    np.testing.assert_array_equal(whole(path), VOXELS)


def test_scaling_is_nibabels_to_the_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", VOXELS, scl_slope=0.1, scl_inter=-7.3)
    assert NIFTI.probe(str(path))[0].dtype == "float64"
    np.testing.assert_array_equal(whole(path), np.asarray(nibabel.load(path).dataobj).T)
    assert not np.array_equal(whole(path), VOXELS)


@pytest.mark.parametrize("slope", [0.0, np.nan, 1.0])
def test_a_slope_that_says_nothing_leaves_the_type(tmp_path: Path, slope: float) -> None:
    path = save(tmp_path / "a.nii", VOXELS, scl_slope=slope, scl_inter=0.0)
    assert NIFTI.probe(str(path))[0].dtype == "int16"
    np.testing.assert_array_equal(whole(path), VOXELS)


@pytest.mark.parametrize(
    ("pixdim", "code", "grid"),
    [
        ((0.7, 0.8, 3.27), 2, Grid((3.27, 0.8, 0.7), "mm")),  # not 3.2699999809265137
        ((0.7, 0.8, 3.0), 3 | 8, Grid((3.0, 0.8, 0.7), "um")),
        ((0.7, -0.8, 3.0), 1, Grid((3.0, 0.8, 0.7), "m")),
        ((0.7, 0.8, 3.0), 0, Grid((3.0, 0.8, 0.7), "unknown")),
        ((0.7, 0.0, 3.0), 2, Grid((1.0, 1.0, 1.0))),
        ((0.7, np.nan, 3.0), 2, Grid((1.0, 1.0, 1.0))),
    ],
)
def test_spacing_is_pixdim_and_never_made_up(
    tmp_path: Path, pixdim: tuple[float, ...], code: int, grid: Grid
) -> None:
    path = save(tmp_path / "a.nii", VOXELS, pixdim=[1, *pixdim, 0, 0, 0, 0], xyzt_units=code)
    assert NIFTI.probe(str(path))[0].grid == grid


def test_the_header_is_read_without_the_voxels(tmp_path: Path) -> None:
    """A gzipped file is cut behind its header: probing it still works."""
    noise = RNG.integers(0, 2**15, (40, 50, 60)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    path.write_bytes(path.read_bytes()[:180_000])
    assert NIFTI.probe(str(path))[0].shape == noise.shape
    assert refusal(path).kind == "corrupt"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volumes_beyond_the_third_axis_are_frames(tmp_path: Path, name: str) -> None:
    series = RNG.integers(0, 99, (3, 2, 4, 5, 6)).astype(np.uint8)  # vectors, time, z, y, x
    path = save(tmp_path / name, series)
    assert [info.shape for info in NIFTI.probe(str(path))] == [(4, 5, 6)] * 6
    for page in range(6):
        np.testing.assert_array_equal(whole(path, page), series.reshape(6, 4, 5, 6)[page])


@pytest.mark.parametrize(("kept", "times"), [(1 << 28, 1), (0, 6)], ids=["kept", "large"])
def test_frames_of_a_gzip_are_inflated_at_once_unless_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, times: int
) -> None:
    calls = []
    inflate = nifti._inflate
    monkeypatch.setattr(nifti, "KEPT", kept)
    monkeypatch.setattr(nifti, "_inflate", lambda *args: calls.append(1) or inflate(*args))
    series = RNG.integers(0, 99, (6, 4, 5, 6)).astype(np.uint8)
    path = save(tmp_path / "a.nii.gz", series)
    for page in range(6):
        np.testing.assert_array_equal(whole(path, page), series[page])
    assert len(calls) == times
    save(path, series + np.uint8(1))
    np.testing.assert_array_equal(whole(path, 5), series[5] + 1)


# ---------------------------------------------------------------- damage
def flip_last_voxel(data: bytes) -> bytes:
    """Change one stored byte and leave the checksum of the old ones."""
    plain = bytearray(gzip.decompress(data))
    plain[-1] ^= 1
    return gzip.compress(bytes(plain))[:-8] + data[-8:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:40],
        lambda data: data[:9],
        flip_last_voxel,
        lambda data: data + b"more",
        lambda data: gzip.compress(gzip.decompress(data)[:-1]),
        lambda data: gzip.compress(gzip.decompress(data) + bytes(20 << 20)),
        lambda data: gzip.compress(gzip.decompress(data)[:300]),
        lambda data: gzip.compress(gzip.decompress(data).replace(b"n+1\0", b"x+1\0")),
    ],
    ids=["last byte", "half", "head", "stub", "CRC", "more", "voxel", "long", "header", "magic"],
)
def test_a_damaged_gzip_is_corrupt(tmp_path: Path, damage: Any) -> None:
    good = save(tmp_path / "good.nii.gz", VOXELS)
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(damage(good.read_bytes()))
    assert identify(str(bad)) == "nifti"
    assert refusal(bad).kind == "corrupt"


@pytest.mark.parametrize("keep", [0, 3, 347, 400, -1])
def test_a_cut_file_is_corrupt(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path / "a.nii", VOXELS)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path).kind == "corrupt"


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ({"dim": [3, 0, 7, 6, 1, 1, 1, 1]}, "corrupt"),
        ({"dim": [3, -8, 7, 6, 1, 1, 1, 1]}, "corrupt"),
        ({"dim": [7, 32767, 32767, 32767, 32767, 1, 1, 1]}, "corrupt"),
        ({"dim": [7, 1, 1, 1, 32767, 32767, 1, 1]}, "limit"),
        ({"dim": [1, 8, 1, 1, 1, 1, 1, 1]}, "unsupported"),
        ({"datatype": 32, "bitpix": 64}, "unsupported"),
        ({"datatype": 128, "bitpix": 24}, "unsupported"),
        ({"datatype": 777}, "corrupt"),
        ({"scl_slope": 2.0, "scl_inter": np.inf}, "corrupt"),
        ({"vox_offset": 1e9}, "corrupt"),
        ({"vox_offset": -5.0}, "corrupt"),
        ({"magic": b"ni1"}, "unsupported"),
    ],
)
def test_a_header_that_cannot_be_is_refused_unread(
    tmp_path: Path, header: dict[str, Any], kind: str
) -> None:
    path = save(tmp_path / "a.nii", VOXELS, **header)
    with pytest.raises(ReadError) as caught:
        NIFTI.probe(str(path))
    assert caught.value.kind == kind


def test_other_gzipped_files_are_nobodys(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.png.gz").write_bytes(gzip.compress((tmp_path / "a.png").read_bytes()))
    assert identify(str(tmp_path / "a.png.gz")) is None


def test_real_files_are_nibabels(shared: Path) -> None:
    paths = sorted((shared / "data" / "mri_nifti").glob("*.nii*"))
    assert paths
    for path in paths:
        want = np.asarray(nibabel.load(path).dataobj)
        frames = want.reshape(*want.shape[:3], -1, order="F")
        for page in range(len(NIFTI.probe(str(path)))):
            np.testing.assert_array_equal(whole(path, page), frames[..., page].T)


# ---------------------------------------------------------------- whole runs
def config(folder: Path, filters: list[Any], **sections: Any) -> Path:
    return write_config(
        folder / "c.yaml",
        input={"path": str(folder), "include": ["*.nii*"], **sections.pop("input", {})},
        filters=filters,
        output={"path": "unused", "maps": "float32", "png": True},
        **sections,
    )


def test_a_volume_runs_like_any_image(tmp_path: Path) -> None:
    """3-D and slice by slice; uint8 does not wrap; pictures show the middle slices."""
    voxels = RNG.integers(0, 256, (6, 17, 29)).astype(np.uint8)
    save(tmp_path / "a.nii.gz", voxels, FLIPPED)
    filters = [{"sobel": {"output": "x"}}, {"sobel": {"output": "x", "rank": 2}}]
    output = run_bank(config(tmp_path, filters), tmp_path / "out")
    assert failures(output) == {}
    wide = voxels.astype(np.float64)
    solid = ndimage.sobel(wide, 2)
    flat = np.stack([ndimage.sobel(plane, 1) for plane in wide])
    np.testing.assert_array_equal(output.maps("a.nii.gz", "sobel(output=x)"), solid)
    np.testing.assert_array_equal(output.maps("a.nii.gz", "sobel(output=x,rank=2)"), flat)
    means = {row["filter"]: row["mean"] for row in output.statistics.to_pylist()}
    assert means["sobel(output=x,rank=2)"] == pytest.approx(flat.mean(), rel=1e-12)
    (row,) = output.images.to_pylist()
    assert (row["shape"], row["spacing"]) == ([6, 17, 29], [4.0, 2.0, 3.0])
    (region,) = output.table("regions").to_pylist()
    assert region["size"] == 6 * 17 * 29 * 24.0
    assert (tmp_path / "out" / "png" / "a.nii.gz" / "sheet.png").exists()
    with Image.open(tmp_path / "out" / "png" / "a.nii.gz" / "1" / "sobel_output_x.png") as image:
        parts = json.loads(image.text["filterbank:parts"])
        assert [part["slice"] for part in parts] == ["z=3", "y=8", "x=14"]
        assert image.size == (parts[2]["left"] + 17, 17)
        assert [part["width"] for part in parts] == [43, 43, 17]  # voxels of 3 mm, pixels of 2


def test_responses_may_be_others_in_a_volume(tmp_path: Path) -> None:
    """Sub-bands have a letter per axis; a folder may hold pictures and volumes."""
    save(tmp_path / "a.nii", VOXELS)
    save(tmp_path / "b.nii", VOXELS[0])
    output = run_bank(config(tmp_path, [{"wavelet": {"wavelet": "haar"}}]), tmp_path / "out")
    assert failures(output) == {}
    rows = output.statistics.to_pylist()
    found = {
        image: [r["filter"] for r in rows if r["image"] == image] for image in ("a.nii", "b.nii")
    }
    assert (len(found["a.nii"]), len(found["b.nii"])) == (8, 4)
    assert set(output.filters.column("filter").to_pylist()) == {*found["a.nii"], *found["b.nii"]}
    assert output.maps("a.nii", "wavelet(wavelet=haar)[LHL]").shape == VOXELS.shape


def test_missing_voxels_stay_missing(tmp_path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 3, 3] = np.nan
    save(tmp_path / "a.nii", voxels)
    output = run_bank(config(tmp_path, [{"mean": {"size": 3}}]), tmp_path / "out")
    found = output.maps("a.nii", "mean(size=3)")
    assert np.isnan(found[3, 3, 3])
    assert np.isfinite(found).sum() == voxels.size - 1
    (row,) = output.statistics.to_pylist()
    assert (row["n_pixels"], row["n_valid"]) == (voxels.size, voxels.size - 1)


@pytest.mark.parametrize(
    ("pages", "keys", "shape", "bands"),
    [
        ("auto", ["a.nii.gz#frame=1", "a.nii.gz#frame=2"], [6, 7, 8], ["1"]),
        ("sources", ["a.nii.gz#frame=1", "a.nii.gz#frame=2"], [6, 7, 8], ["1"]),
        ("bands", ["a.nii.gz"], [6, 7, 8], ["1", "2"]),
    ],
)
def test_frames_are_sources_or_bands(
    tmp_path: Path, pages: str, keys: list[str], shape: list[int], bands: list[str]
) -> None:
    series = np.stack([VOXELS, VOXELS + 1])
    save(tmp_path / "a.nii.gz", series)
    path = config(tmp_path, ["identity"], input={"pages": pages})
    output = run_bank(path, tmp_path / "out")
    rows = output.images.sort_by("image").to_pylist()
    assert [row["image"] for row in rows] == keys
    assert all((row["shape"], row["bands"]) == (shape, bands) for row in rows)
    last = output.maps(keys[-1], "identity", bands[-1])
    np.testing.assert_array_equal(last, VOXELS + 1)


def test_frames_make_no_volume_but_slices_make_sources(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", np.stack([VOXELS, VOXELS]))
    path = config(tmp_path, ["identity"], input={"pages": "volume"})
    reason = "unsupported: frames that are volumes make no volume"
    assert failures(run_bank(path, tmp_path / "out"))["a.nii.gz"].startswith(reason)
    (tmp_path / "a.nii.gz").unlink()
    save(tmp_path / "b.nii.gz", VOXELS)
    path = config(tmp_path, ["identity"], input={"pages": "sources"})
    found = run_bank(path, tmp_path / "slices").maps("b.nii.gz#frame=4", "identity")
    np.testing.assert_array_equal(found, VOXELS[3])


def test_damage_is_a_row_and_stops_nobody(tmp_path: Path) -> None:
    """SimpleITK reads the first as zeros."""
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz"):
        save(tmp_path / name, RNG.integers(0, 999, (6, 7, 8)).astype(np.int16))
    whole_file = (tmp_path / "a.nii.gz").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(whole_file[:-100])
    (tmp_path / "b.nii.gz").write_bytes(flip_last_voxel((tmp_path / "b.nii.gz").read_bytes()))
    output = run_bank(config(tmp_path, ["identity"]), tmp_path / "out")
    assert {image: text.split(":")[0] for image, text in failures(output).items()} == {
        "a.nii.gz": "corrupt",
        "b.nii.gz": "corrupt",
    }


def test_a_missing_nibabel_is_a_row_that_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.nii", VOXELS)
    np.save(tmp_path / "b.npy", VOXELS)
    path = write_config(tmp_path / "c.yaml", input={"path": str(tmp_path)})
    with monkeypatch.context() as without:
        for name in ("nibabel", "nibabel.nifti1", "nibabel.nifti2"):
            without.setitem(sys.modules, name, None)
        output = run_bank(path, tmp_path / "out")
    assert failures(output) == {
        "a.nii": "dependency: NIfTI needs nibabel; pip install 'filterbank[medical]' and run again"
    }
    assert failures(run_bank(path, tmp_path / "out")) == {}

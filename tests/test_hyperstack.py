"""OME-TIFF and ImageJ's TIFF as written by tifffile: which plane is which, and how large."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from running import failures, look, run_bank, write_config

from pipeline.errors import ReadError
from pipeline.readers import identify, tiff
from pipeline.readers.base import READERS
from pipeline.types import Grid, ImageInfo, Region

RNG = np.random.default_rng(6)
T, Z, C, Y, X = 2, 3, 4, 12, 18
Array = npt.NDArray[Any]


def draw(*shape: int, dtype: str = "u2") -> Array:
    if dtype == "f4":
        return RNG.normal(size=shape).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def read(path: Path) -> list[tuple[ImageInfo, Array]]:
    """Every frame, whole; a window of it is a crop."""
    assert identify(str(path)) == "hyperstack"
    reader, found = READERS["hyperstack"](), []
    for frame, info in enumerate(reader.probe(str(path))):
        with reader.open(str(path), frame) as window:
            assert window.info == info
            values = window.read(Region.whole(info.shape))
            assert (values.dtype.name, values.dtype.isnative) == (info.dtype, True)
            assert window.valid(Region.whole(info.shape)) is None
            part = Region(tuple(n // 3 for n in info.shape), info.shape)
            np.testing.assert_array_equal(window.read(part), values[:, *part.slices()])
        found.append((info, values))
    return found


@pytest.mark.parametrize("order", ["TZCYX", "TCZYX", "ZTCYX", "CTZYX", "ZCTYX", "CZTYX"])
@pytest.mark.parametrize("options", [{}, {"compression": "deflate", "tile": (16, 16)}])
def test_ome_axes(tmp_path: Path, order: str, options: dict[str, Any]) -> None:
    sizes = {"T": T, "Z": Z, "C": C, "Y": Y, "X": X}
    stack, path = draw(*(sizes[axis] for axis in order)), tmp_path / "x.ome.tif"
    tifffile.imwrite(
        path, stack, ome=True, photometric="minisblack", metadata={"axes": order}, **options
    )
    frames = read(path)
    assert [info.shape for info, _ in frames] == [(Z, Y, X)] * T
    assert frames[0][0].bands == ("1", "2", "3", "4")
    wanted = stack.transpose([order.index(axis) for axis in "TCZYX"])
    for (_, values), frame in zip(frames, wanted, strict=True):
        np.testing.assert_array_equal(values, frame)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("YX", (Y, X)), ("ZYX", (Z, Y, X)), ("CYX", (C, Y, X)), ("TYX", (T, Y, X))],
)
@pytest.mark.parametrize("imagej", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_single_axes(
    tmp_path: Path, axes: str, shape: tuple[int, ...], imagej: bool, dtype: str
) -> None:
    stack, path = draw(*shape, dtype=dtype), tmp_path / "x.tif"
    kind: dict[str, Any] = {"imagej": True} if imagej else {"ome": True}
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": axes}, **kind)
    frames = read(path)
    assert len(frames) == (T if axes == "TYX" else 1)
    for at, (info, values) in enumerate(frames):
        assert info.shape == (shape if axes == "ZYX" else (Y, X))
        assert len(info.bands) == (C if axes == "CYX" else 1)
        np.testing.assert_array_equal(
            values, stack if axes == "CYX" else stack[at : at + 1] if axes == "TYX" else stack[None]
        )


@pytest.mark.parametrize("directories", [1, T * Z * C])
def test_imagej_axes(tmp_path: Path, directories: int) -> None:
    """Beyond 4 GiB, ImageJ writes one directory for all planes."""
    stack, path = draw(T, Z, C, Y, X), tmp_path / "x.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "TZCYX"})
    if directories == 1:
        cut_chain(path)
    frames = read(path)
    assert [(info.shape, info.bands) for info, _ in frames] == [
        ((Z, Y, X), ("1", "2", "3", "4"))
    ] * T
    for (_, values), frame in zip(frames, stack, strict=True):
        np.testing.assert_array_equal(values, frame.swapaxes(0, 1))


def cut_chain(path: Path) -> None:
    with tifffile.TiffFile(path) as file:
        start, order = file.pages.first.offset, file.byteorder
    data = bytearray(path.read_bytes())
    (count,) = struct.unpack_from(f"{order}H", data, start)
    struct.pack_into(f"{order}I", data, start + 2 + 12 * count, 0)
    path.write_bytes(bytes(data))


def test_images_beyond_the_axes_are_frames_and_pages_beyond_them_pages(tmp_path: Path) -> None:
    stack, path = draw(6, Y, X), tmp_path / "x.tif"
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"slices=6", b"slices=3"))
    frames = read(path)
    np.testing.assert_array_equal(np.concatenate([values[0] for _, values in frames]), stack)
    assert [info.shape for info, _ in frames] == [(3, Y, X)] * 2
    path.write_bytes(data.replace(b"slices=6", b"slices=4"))
    assert identify(str(path)) == "tiff"
    assert len(READERS["tiff"]().probe(str(path))) == 6


def test_a_stack_of_one_directory_that_ends_early_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw(5, Y, X), imagej=True)
    cut_chain(path)
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    path.write_bytes(path.read_bytes()[: start + 5 * Y * X * 2 - 1])
    with pytest.raises(ReadError, match="5 planes do not fit") as caught:
        READERS["hyperstack"]().probe(str(path))
    assert caught.value.kind == "corrupt"


def test_lost_directories_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, draw(5, Y, X), ome=True, photometric="minisblack", compression="lzw")
    cut_chain(path)
    with pytest.raises(ReadError, match="5 planes in 1 directories") as caught:
        READERS["hyperstack"]().probe(str(path))
    assert caught.value.kind == "corrupt"


def test_colours_stay_colours(tmp_path: Path) -> None:
    stack = draw(Z, Y, X, 3, dtype="u1")
    for name, kind in (("x.ome.tif", "ome"), ("x.tif", "imagej")):
        axes: dict[str, Any] = {"metadata": {"axes": "ZYXS"}, kind: True}
        tifffile.imwrite(tmp_path / name, stack, photometric="rgb", **axes)
        ((info, values),) = read(tmp_path / name)
        assert (info.shape, info.bands) == ((Z, Y, X), ("red", "green", "blue"))
        np.testing.assert_array_equal(values, np.moveaxis(stack, -1, 0))


def test_channels_have_names_and_pixels_a_size(tmp_path: Path) -> None:
    path = tmp_path / "x.ome.tif"
    said = {
        "axes": "CZYX",
        "Channel": {"Name": ["DAPI", "GFP"]},
        "PhysicalSizeX": 0.325,
        "PhysicalSizeY": 325,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 2,
    }
    tifffile.imwrite(path, draw(2, Z, Y, X), ome=True, photometric="minisblack", metadata=said)
    ((info, _),) = read(path)
    assert info.bands == ("DAPI", "GFP")
    assert info.grid == Grid((2.0, 0.325, 0.325), "um")
    del said["PhysicalSizeZ"]
    tifffile.imwrite(path, draw(2, Z, Y, X), ome=True, photometric="minisblack", metadata=said)
    assert read(path)[0][0].grid == Grid((1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("unit", "known"), [("micron", "um"), ("um", "um"), ("\\u00B5m", "um"), ("mm", "mm")]
)
def test_imagejs_resolution_is_a_spacing(tmp_path: Path, unit: str, known: str) -> None:
    path = tmp_path / "x.tif"
    said: dict[str, Any] = {"axes": "ZYX", "spacing": 3.5, "unit": unit}
    tifffile.imwrite(path, draw(Z, Y, X), imagej=True, resolution=(4, 2), metadata=said)
    assert read(path)[0][0].grid == Grid((3.5, 0.5, 0.25), known)
    del said["unit"]
    tifffile.imwrite(path, draw(Z, Y, X), imagej=True, resolution=(4, 2), metadata=said)
    assert read(path)[0][0].grid.unit is None


def test_images_of_one_file_are_frames(tmp_path: Path) -> None:
    first, second, path = draw(Y, X), draw(Z, 20, 30, dtype="u1"), tmp_path / "x.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(first, photometric="minisblack", metadata={"axes": "YX"})
        file.write(second, photometric="minisblack", metadata={"axes": "ZYX"})
    frames = read(path)
    np.testing.assert_array_equal(frames[0][1][0], first)
    np.testing.assert_array_equal(frames[1][1][0], second)


def test_planes_in_other_files_are_not_looked_for(tmp_path: Path) -> None:
    """A file of such a set is a plain TIFF: no other file is opened because one names it."""
    path = tmp_path / "a.ome.tif"
    place = '<TiffData IFD="0"><UUID FileName="{}">urn:uuid:{}</UUID></TiffData>'
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels DimensionOrder="XYCZT" ID="Pixels:0" '
        f'SizeC="2" SizeT="1" SizeX="{X}" SizeY="{Y}" SizeZ="1" Type="uint16">'
        + place.format("a.ome.tif", 1)
        + place.format("b.ome.tif", 2).replace("<TiffData", '<TiffData FirstC="1"')
        + "</Pixels></Image></OME>"
    )
    tifffile.imwrite(path, draw(Y, X), description=xml, metadata=None)
    assert identify(str(path)) == "tiff"
    path.write_bytes(path.read_bytes().replace(b"uuid:2", b"uuid:1"))
    with pytest.raises(ReadError, match="2 planes in 1 directories"):
        READERS["hyperstack"]().probe(str(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("XYCZT", "XYCZQ"),
        ('SizeC="1"', 'SizeC="x"'),
        ("</Pixels>", "</Pixelz>"),
        ('="1"', '="0"'),
        ('IFD="0"', 'IFD="7"'),
    ],
)
def test_nonsense_is_corrupt(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, draw(Y, X), ome=True)
    data = path.read_bytes()
    assert old.encode() in data
    path.write_bytes(data.replace(old.encode(), new.encode()))
    assert identify(str(path)) == "hyperstack"
    with pytest.raises(ReadError, match="makes no sense") as caught:
        READERS["hyperstack"]().probe(str(path))
    assert caught.value.kind == "corrupt"


def test_numbers_that_are_none_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw(Z, Y, X), imagej=True, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(b"slices=3", b"slices=x"))
    with pytest.raises(ReadError, match="makes no sense") as caught:
        READERS["hyperstack"]().probe(str(path))
    assert caught.value.kind == "corrupt"
    assert identify(str(path)) == "hyperstack"


def test_random_damage_raises_nothing_but_read_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    for kind in ("ome", "imagej"):
        tifffile.imwrite(path, draw(2, Z, Y, X), photometric="minisblack", **{kind: True})
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            data = whole.copy()
            data[RNG.integers(0, len(data), 20)] = RNG.integers(0, 256, 20)
            path.write_bytes(data.tobytes()[: RNG.integers(100, 2 * len(data))])
            name = identify(str(path)) or "tiff"
            try:
                for frame, info in enumerate(READERS[name]().probe(str(path))[:3]):
                    if np.prod(info.shape) < 1e6:
                        with READERS[name]().open(str(path), frame) as window:
                            window.read(Region.whole(info.shape))
            except ReadError:
                pass


def test_a_large_plane_is_read_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Level 0 of a pyramid: the levels stand in sub-directories."""
    monkeypatch.setattr(tiff, "LARGE", 100)
    pixels, path = draw(2, 90, 150), tmp_path / "x.ome.tif"
    options: dict[str, Any] = {"photometric": "minisblack", "tile": (32, 32), "compression": "lzw"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(pixels, subifds=1, metadata={"axes": "CYX"}, **options)
        file.write(pixels[:, ::2, ::2], subfiletype=1, **options)
    ((info, values),) = read(path)
    assert (info.windowed, info.shape, len(info.bands)) == (True, (90, 150), 2)
    np.testing.assert_array_equal(values, pixels)


def test_the_rule_for_pages_stands_above(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    stack = draw(T, Z, Y, X)
    tifffile.imwrite(folder / "x.ome.tif", stack, ome=True, metadata={"axes": "TZYX"})
    tifffile.imwrite(folder / "y.tif", stack[:, 0], imagej=True, metadata={"axes": "TYX"})
    config = write_config(tmp_path / "bank.yaml", filters=["identity"], statistics=["mean"])
    out = run_bank(config, tmp_path / "out", folder)
    assert not failures(out)
    means = {row["image"]: row["mean"] for row in out.statistics.to_pylist()}
    frames = {f"x.ome.tif#frame={i + 1}": stack[i] for i in range(T)}
    frames |= {f"y.tif#frame={i + 1}": stack[i, 0] for i in range(T)}
    assert means == {key: pytest.approx(frame.mean()) for key, frame in frames.items()}
    config = write_config(tmp_path / "one.yaml", input={"path": "in", "pages": "volume"})
    sources = {s.key: s for s in look(config, tmp_path / "two", folder).sources}
    assert sources["y.tif"].header.shape == (T, Y, X)
    assert sources["x.ome.tif"].failure is not None

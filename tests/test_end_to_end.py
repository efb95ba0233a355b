"""Whole runs: the final tables against numpy and scipy, independence of how, hostile neighbours."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import scipy
import tifffile
from command import rows, tree
from PIL import Image
from reference import tolerance
from running import exact_responses, failures, look, run_bank, write_config
from scipy import ndimage

from pipeline.output import Output, open_output
from pipeline.statistics import COLUMNS

Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(5)
KERNEL = np.array([[0.5, -1.0, 2.0], [0.25, 3.0, -2.0]])
EDGE = np.array([[-1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
MIN_SUPPORT = 0.75
REDUCED = 1e-9
"""Relative error of a statistic of a response: float64 arithmetic, sums of some 1e4 pixels."""

ORACLES: dict[str, tuple[Any, Callable[[Array], Array]]] = {
    "identity": ("identity", lambda x: x),
    "steep": (
        {"sobel": {"name": "steep"}},
        lambda x: np.hypot(ndimage.sobel(x, 0), ndimage.sobel(x, 1)),
    ),
    "angle": (
        {"prewitt": {"name": "angle", "output": "orientation"}},
        lambda x: np.arctan2(ndimage.prewitt(x, 0), ndimage.prewitt(x, 1)),
    ),
    "soft": (
        {"gaussian": {"name": "soft", "sigma": 1.5}},
        lambda x: ndimage.gaussian_filter(x, 1.5, truncate=4),
    ),
    "box": ({"mean": {"name": "box", "size": 5}}, lambda x: ndimage.uniform_filter(x, 5)),
    "own": (
        {"kernel": {"name": "own", "weights": KERNEL.tolist()}},
        lambda x: ndimage.correlate(x, KERNEL),
    ),
}


def smooth(*shape: int) -> Array:
    """Something with slopes, as images have: filtered noise on 0 .. 1."""
    noise = ndimage.gaussian_filter(RNG.normal(size=shape), (1.0,) * 2 + (0,) * (len(shape) - 2))
    return (noise - noise.min()) / np.ptp(noise)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[list[str], Array]]:
    """File -> band labels and pixels (C, H, W), each of a sample type that is easily spoiled."""
    folder = tmp_path_factory.mktemp("images")
    colour = (smooth(61, 83, 3) * 255).astype(np.uint8)
    deep = (40_000 + smooth(50, 70) * 60).astype(np.uint16)
    field = (1e4 + smooth(45, 67)).astype(np.float32)
    signed = (smooth(33, 300) * 4000 - 1000).astype(np.int16)
    Image.fromarray(colour).save(folder / "colour.png")
    Image.fromarray(deep).save(folder / "deep.png")
    np.save(folder / "field.npy", field)
    tifffile.imwrite(folder / "signed.tif", signed)
    return {
        folder / "colour.png": (["red", "green", "blue"], np.moveaxis(colour, -1, 0).astype(float)),
        folder / "deep.png": (["1"], deep[None].astype(float)),
        folder / "field.npy": (["1"], field[None].astype(float)),
        folder / "signed.tif": (["1"], signed[None].astype(float)),
    }


def described(x: Array) -> dict[str, float]:
    """Every statistic of some values, by numpy and scipy in float64."""
    x = x.astype(np.float64).ravel()
    percents = {
        f"p{p:02}": float(np.quantile(x, p / 100)) for p in (1, 5, 10, 25, 50, 75, 90, 95, 99)
    }
    flat = bool(x.min() == x.max())
    quartiles = percents["p75"] - percents["p25"], percents["p75"] + percents["p25"]
    inner = x[(percents["p10"] <= x) & (x <= percents["p90"])]
    counts, _ = np.histogram(x, bins=64, range=(x.min(), x.max() + flat))
    return {
        "mean": x.mean(),
        "std": x.std(),
        "variance": x.var(),
        "min": x.min(),
        "max": x.max(),
        "range": np.ptp(x),
        "skewness": 0.0 if flat else float(scipy.stats.skew(x)),
        "kurtosis": 0.0 if flat else float(scipy.stats.kurtosis(x)),
        "energy": float(np.square(x).sum()),
        "rms": float(np.sqrt(np.square(x).mean())),
        **percents,
        "iqr": percents["p75"] - percents["p25"],
        "mad": float(np.abs(x - x.mean()).mean()),
        "medad": float(np.abs(x - np.median(x)).mean()),
        "rmad": float(np.abs(inner - inner.mean()).mean()),
        "cov": x.std() / x.mean() if x.mean() else None,
        "qcod": quartiles[0] / quartiles[1] if quartiles[1] else None,
        "entropy": float(scipy.stats.entropy(counts, base=2)),
    }


def assert_reduced(row: dict[str, Any], values: Array) -> None:
    """A row holds the statistics of exactly these values."""
    wanted = described(values)
    assert wanted.keys() == COLUMNS.keys()
    offset = max(1.0, abs(wanted["mean"]) / max(wanted["std"], 1e-300)) ** 2
    for name, value in wanted.items():
        slack = REDUCED * offset if COLUMNS[name].unit in ("1", "response^2") else REDUCED
        assert row[name] == pytest.approx(value, rel=slack, abs=slack), (row["filter"], name)


def assert_is_rounded(found: Array, exact: Array) -> None:
    """A map is the response to float32: residual and constant are each rounded, and their sum."""
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(exact))
    unit = np.spacing(np.float32(np.nanmax(np.abs(exact))))
    np.testing.assert_allclose(found, exact, rtol=0, atol=2 * unit)


def row_of(output: Output, image: str, band: str, name: str) -> dict[str, Any]:
    table = output.statistics
    for key, value in (("image", image), ("band", band), ("filter", name)):
        table = table.filter(pc.equal(table.column(key), value))
    (row,) = table.to_pylist()
    return row


def bank(folder: Path, **sections: Any) -> Path:
    defaults = {
        "filters": [given for given, _ in ORACLES.values()],
        "statistics": ["all"],
        "output": {"path": "unused", "maps": "float32"},
    }
    return write_config(folder / "bank.yaml", **defaults | sections)


# ---------------------------------------------------------------- against numpy and scipy
def test_maps_and_statistics_equal_scipy_and_numpy(
    images: dict[Path, tuple[list[str], Array]], tmp_path: Path
) -> None:
    config = bank(tmp_path)
    output = run_bank(config, tmp_path / "out", list(images))
    assert failures(output) == {}
    responses = exact_responses(look(config, tmp_path / "unrun", list(images)))
    assert output.statistics.num_rows == sum(len(b) for b, _ in images.values()) * len(ORACLES)
    for path, (bands, pixels) in images.items():
        for band, plane in zip(bands, pixels, strict=True):
            for name, (_, oracle) in ORACLES.items():
                wanted = oracle(plane)
                found = output.maps(path.name, name, band)
                row = row_of(output, path.name, band, name)
                assert (row["n_pixels"], row["n_valid"], row["support"]) == (
                    plane.size,
                    plane.size,
                    1,
                )
                assert_is_rounded(found, responses[path.name, band, name])
                assert_reduced(row, responses[path.name, band, name])
                if name != "angle":  # an angle jumps where the gradient vanishes
                    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(wanted))
                    assert_near(row, described(wanted), tolerance(wanted))


def assert_near(row: dict[str, Any], wanted: dict[str, float], error: float) -> None:
    """What values that are each off by at most `error` can do to their statistics."""
    reach = max(abs(wanted["min"]), abs(wanted["max"]))
    for name, value in wanted.items():
        if name == "rmad":  # jumps where many values equal a percentile, or nearly so
            continue
        if COLUMNS[name].unit == "response":
            assert row[name] == pytest.approx(value, rel=0, abs=2 * error), name
        elif COLUMNS[name].unit == "response^2":
            many = row["n_valid"] if name == "energy" else 1
            assert row[name] == pytest.approx(value, rel=0, abs=3 * many * reach * error), name


def test_real_files_equal_scipy_and_numpy(shared: Path, tmp_path: Path) -> None:
    files = [
        shared / "data/photos/pillow_hopper.bmp",
        shared / "data/photos/pillow_hopper_gray.jpg",
        shared / "data/sixteen_bit/cp_0_1_N_G.png",
        shared / "data/spectrogram/fsdd_6_george_0.npy",
    ]
    config = bank(tmp_path)
    output = run_bank(config, tmp_path / "out", files)
    assert failures(output) == {}
    responses = exact_responses(look(config, tmp_path / "unrun", files))
    for path in files:
        key = path.relative_to(shared / "data").as_posix()
        if path.suffix == ".npy":
            pixels = np.load(path)
        else:
            with Image.open(path) as image:
                pixels = np.asarray(image)
        planes = np.moveaxis(np.atleast_3d(pixels), -1, 0).astype(np.float64)
        bands = ["1"] if len(planes) == 1 else ["red", "green", "blue"]
        for band, plane in zip(bands, planes, strict=True):
            for name in ("identity", "soft", "steep"):
                wanted = ORACLES[name][1](plane)
                found = output.maps(key, name, band)
                np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance(wanted))
                assert_is_rounded(found, responses[key, band, name])
                assert_reduced(row_of(output, key, band, name), responses[key, band, name])


def around_holes(x: Array, valid: npt.NDArray[np.bool_], w: Array) -> tuple[Array, Array]:
    """DESIGN section 4: out = w*(Mx) + mu (S - w*M), and the support."""
    seen, mask, size = np.where(valid, x, 0.0), valid.astype(float), np.abs(w)
    weight = ndimage.correlate(mask, size)
    mean = ndimage.correlate(seen, size) / np.maximum(weight, 1e-9)
    out = ndimage.correlate(seen, w) + mean * (w.sum() - ndimage.correlate(mask, w))
    return out, weight / size.sum()


def test_transparent_and_non_finite_pixels_follow_the_nodata_rule(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    gray = (smooth(40, 56) * 200 + 20).astype(np.uint8)
    alpha = np.full(gray.shape, 255, np.uint8)
    alpha[5:12, 8:30], alpha[30, 40] = 0, 0
    Image.fromarray(np.dstack([gray, alpha])).save(folder / "alpha.png")
    field = smooth(38, 41).astype(np.float32)
    field[::7, ::5], field[10:14, 20:26], field[3, 3] = np.nan, -np.inf, np.inf
    np.save(folder / "field.npy", field)
    config = bank(
        tmp_path,
        filters=[
            {"kernel": {"name": "edge", "weights": EDGE.tolist()}},
            {"mean": {"name": "box", "size": 5}},
        ],
    )
    output = run_bank(config, tmp_path / "out", folder)
    responses = exact_responses(look(config, tmp_path / "unrun", folder))
    cases = {"alpha.png": (gray, alpha > 0), "field.npy": (field, np.isfinite(field))}
    for image, (pixels, valid) in cases.items():
        for name, weights in (("edge", EDGE), ("box", np.full((5, 5), 0.04))):
            x = np.where(valid, pixels, 0).astype(np.float64)
            wanted, support = around_holes(x, valid, weights)
            good = valid & (support >= MIN_SUPPORT - 1e-9)
            assert good.sum() < valid.sum() < valid.size  # some centres lack support, too
            found = output.maps(image, name)
            np.testing.assert_array_equal(np.isfinite(found), good)
            atol = 2 * tolerance(wanted[good])
            np.testing.assert_allclose(found[good], wanted[good], rtol=0, atol=atol)
            row = row_of(output, image, "1", name)
            assert (row["n_pixels"], row["n_valid"]) == (valid.size, good.sum())
            assert row["support"] == pytest.approx(support[good].mean(), rel=1e-6)
            exact = responses[image, "1", name]
            assert_is_rounded(found, exact)
            assert_reduced(row, exact[good])


def test_an_image_without_a_valid_pixel_has_rows_of_nulls(tmp_path: Path) -> None:
    np.save(tmp_path / "void.npy", np.full((9, 8), np.nan))
    output = run_bank(bank(tmp_path), tmp_path / "out", tmp_path / "void.npy")
    rows = output.statistics.to_pylist()
    assert len(rows) == len(ORACLES)
    for row in rows:
        assert (row["n_pixels"], row["n_valid"]) == (72, 0)
        assert {row[name] for name in ("support", *COLUMNS)} == {None}
    assert np.isnan(output.maps("void.npy", "soft")).all()


# ---------------------------------------------------------------- independence
@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough alike images for full batches, between others: of another size, deep, transparent.

    b1 is opaque between two that are not, so that neighbours of one kind part in a batch.
    """
    folder = tmp_path_factory.mktemp("crowd")
    for i in range(9):
        shape = (24, 31, 3) if i % 4 else (27, 22, 3)
        Image.fromarray((smooth(*shape) * 255).astype(np.uint8)).save(folder / f"a{i}.png")
    for i in range(3):
        pixels = (smooth(24, 31, 4) * 255).astype(np.uint8)
        pixels[..., 3] = 255 * ((pixels[..., 3] > 60) | (i == 1))
        Image.fromarray(pixels).save(folder / f"b{i}.png")
    Image.fromarray((3e4 + smooth(20, 21) * 99).astype(np.uint16)).save(folder / "c.png")
    np.save(folder / "d.npy", smooth(17, 19))
    (folder / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n, and nothing else")
    return folder


@pytest.fixture(params=["none", "float32"], ids=["no maps", "maps"])
def crowd_config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Without maps, unlike neighbours are sorted into batches of alike ones."""
    png = {"what": "both", "filters": ["own"]}
    filters = [ORACLES[name][0] for name in ("identity", "steep", "soft", "own")]
    output = {"path": "unused", "maps": request.param, "png": png}
    return bank(tmp_path, filters=filters, output=output)


@pytest.mark.parametrize(
    ("bands", "shape"), [(4, (64, 64)), (3, (40, 50)), (1, (1, 50)), (1, (50, 1))], ids=str
)
def test_images_filtered_together_equal_scipy_whatever_lies_between_their_planes(
    bands: int, shape: tuple[int, int], tmp_path: Path
) -> None:
    """Some filters of all bands and some of a few; images of a single line or column."""
    pixels = {}
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.tif"):
        pixels[name] = np.random.default_rng(len(pixels)).integers(
            0, 256, (bands, *shape), np.uint8
        )
        planes = np.moveaxis(pixels[name], 0, -1) if bands > 1 else pixels[name][0]
        tifffile.imwrite(
            tmp_path / "in" / name,
            planes,
            photometric="minisblack",
            planarconfig="contig" if bands > 1 else None,
        )
    few = {"bands": ["1", "2"]} if bands > 2 else {}
    config = write_config(
        tmp_path / "c.yaml",
        filters=[{"gaussian": {"name": "soft", "sigma": 1.5, **few}}, ORACLES["own"][0]],
        statistics=["min", "max", "mean"],
    )
    assert failures(run_bank(config, tmp_path / "out", tmp_path / "in")) == {}
    found = rows(tmp_path / "out", "statistics")
    assert len(found) == 2 * (bands + (2 if few else bands))
    for (image, band, _, name), row in found.items():
        want = ORACLES[name][1](pixels[image][int(band) - 1].astype(float))
        for fn in (np.min, np.max, np.mean):
            assert row[fn.__name__] == pytest.approx(fn(want), rel=1e-5, abs=1e-3)


@pytest.mark.parametrize(
    "flags",
    [{"batch": 3, "threads": 2}, {"batch": 8}, {"workers": 2, "threads": 2}],
    ids=["batch 3, 2 threads", "batch 8", "2 workers, 2 threads"],
)
def test_batches_threads_and_workers_change_no_byte(
    crowd: Path, crowd_config: Path, tmp_path: Path, flags: dict[str, Any]
) -> None:
    run_bank(crowd_config, tmp_path / "plain", crowd, batch=1, threads=1)
    run_bank(crowd_config, tmp_path / "other", crowd, **flags)
    plain, other = tree(tmp_path / "plain"), tree(tmp_path / "other")
    assert {name.split("/")[0] for name in plain} >= {"images", "statistics", "regions", "png"}
    assert plain.keys() == other.keys()
    assert [name for name in plain if plain[name] != other[name]] == []


class Reversed:
    """os.scandir, the other way round."""

    real = os.scandir

    def __init__(self, path: Any = ".") -> None:
        with Reversed.real(path) as entries:
            self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self

    def __next__(self) -> os.DirEntry[str]:
        if not self.entries:
            raise StopIteration
        return self.entries.pop(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def test_the_order_in_which_the_disk_lists_files_changes_no_byte(
    crowd: Path, crowd_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_bank(crowd_config, tmp_path / "plain", crowd)
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", Reversed)
        assert next(iter(os.scandir(crowd))).name == "e.png"
        run_bank(crowd_config, tmp_path / "other", crowd)
    assert tree(tmp_path / "plain") == tree(tmp_path / "other")


def rows_of(output: Output, table: str, images: set[str]) -> pa.Table:
    found = output.table(table)
    keys = [n for n in ("image", "band", "region", "filter") if n in found.column_names]
    chosen = found.filter(pc.is_in(found.column("image"), pa.array(sorted(images))))
    return chosen.sort_by([(key, "ascending") for key in keys]).combine_chunks()


def bits(table: pa.Table) -> str:
    """Rows as text in which equal means equal bits, NaN among them."""
    return repr(table.to_pylist())


def test_an_image_has_the_same_rows_alone_and_in_company(
    crowd: Path, crowd_config: Path, tmp_path: Path
) -> None:
    together = run_bank(crowd_config, tmp_path / "all", crowd, batch=8)
    some = [crowd / name for name in ("a3.png", "b1.png", "c.png", "d.npy")]
    for path in some:
        alone = run_bank(crowd_config, tmp_path / path.name, path)
        keys = set(alone.images.column("image").to_pylist())
        assert keys
        tables = [p.name for p in (tmp_path / "all").iterdir() if p.is_dir() and p.name != "png"]
        for table in sorted(set(tables) - {".tmp"}):
            ours, theirs = rows_of(alone, table, keys), rows_of(together, table, keys)
            assert ours.num_rows
            assert bits(ours) == bits(theirs), table
        pictures = {n: d for n, d in tree(tmp_path / path.name).items() if n.startswith("png/")}
        assert pictures
        assert pictures.items() <= tree(tmp_path / "all").items()


# ---------------------------------------------------------------- hostile neighbours
def hostile_files(shared: Path, every: int) -> dict[str, Path]:
    """Each `every`-th small file of the hostile corpus (all files for 1), and all broken ones."""
    root = shared / "hostile" / "dev"
    found = [p for p in sorted(root.rglob("*")) if p.is_file()]
    if every > 1:
        found = [p for p in found if p.stat().st_size < 50_000][::every]
    broken = sorted((shared / "data" / "broken").iterdir())
    return {p.relative_to(root).as_posix(): p for p in found} | {p.name: p for p in broken}


EVERY = [
    pytest.param(24, id="sample"),
    pytest.param(
        1,
        id="whole",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(
                os.environ.get("FILTERBANK_SLOW") != "1",
                reason="takes minutes; FILTERBANK_SLOW=1 runs it",
            ),
        ],
    ),
]


@pytest.mark.parametrize("every", EVERY)
def test_hostile_files_fail_alone(shared: Path, tmp_path: Path, every: int) -> None:
    """A real process: what kills one, or hangs it, must not pass for a result."""
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    (good / "ours").mkdir(parents=True)
    for i in range(50):
        pixels = (smooth(20 + i % 3, 26, 3) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(good / "ours" / f"{i:02}.png")
    mixed.mkdir()
    (mixed / "ours").mkdir()
    for path in (good / "ours").iterdir():
        os.link(path, mixed / "ours" / path.name)
    hostile = hostile_files(shared, every)
    for name, path in hostile.items():
        target = mixed / "theirs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    config = bank(
        tmp_path,
        input={"path": "unused", "include": ["**/*"]},
        filters=["identity", "sobel"],
        limits={"pixels": 100_000_000},
    )
    command = [sys.executable, "-m", "pipeline", "run", config, "--workers", "2", "--device", "cpu"]
    command += ["--input", mixed, "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stdout.splitlines()[-1].startswith("done ")
    output = open_output(tmp_path / "out")
    listed = {name for names in output.images.column("files").to_pylist() for name in names}
    assert len(listed) == 50 + len(hostile)
    bad = failures(output)
    assert bad
    assert not [image for image in bad if image.startswith("ours/")]
    assert not [text for text in bad.values() if str(tmp_path) in text or "None" in text]
    assert not [text for text in bad.values() if text.startswith("crashed")]
    refused = must_fail(shared) & hostile.keys()
    assert refused
    accepted = {f"theirs/{name}" for name in refused} - {image.split("#")[0] for image in bad}
    assert accepted == set()
    alone = run_bank(config, tmp_path / "alone", good)
    assert failures(alone) == {}
    keys = set(alone.images.column("image").to_pylist())
    assert len(keys) == 50
    for table in ("images", "statistics", "regions", "maps"):
        assert bits(rows_of(alone, table, keys)) == bits(rows_of(output, table, keys)), table


def must_fail(shared: Path) -> set[str]:
    with (shared / "hostile" / "manifest.csv").open(newline="") as file:
        return {
            row["file"]
            for row in csv.DictReader(file)
            if row["expectation"] in ("MUST ERROR", "MUST BE REFUSED", "MUST NOT EXCEED MEMORY")
        }


def test_the_plan_of_a_run_foretells_its_rows(crowd: Path, tmp_path: Path) -> None:
    from pipeline.describe import estimate

    config = bank(tmp_path)
    needed = estimate(look(config, tmp_path / "out", crowd))
    output = run_bank(config, tmp_path / "out", crowd)
    assert needed.rows == output.statistics.num_rows > 0

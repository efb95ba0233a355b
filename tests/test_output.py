"""The output folder as its readers see it: DuckDB, pandas, pyarrow, Pillow and open_output."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import tree
from PIL import Image
from running import failures, run_bank, write_config

from pipeline.errors import InputError, WriteError
from pipeline.output import Output, open_output
from pipeline.statistics import COLUMNS
from pipeline.verify import verify
from pipeline.writers.parquet import ROW_GROUP

TABLES = ("images", "statistics", "regions", "maps")
FILTERS: list[Any] = [
    "identity",
    {"gaussian": {"sigma": 1.5}},
    {"sobel": {"output": ["y", "magnitude"]}},
    {"random": {"name": "net", "count": 2, "size": 3, "channels": 3}},
]
KEYS = "image, band, region, filter"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than a shard holds; three of colour, one with holes, two that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(3)
    for i in range(64):
        pixels = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(folder / "=1+1.png")
    holes = rng.integers(1, 256, (30, 31, 4), dtype=np.uint8)
    holes[..., 3] = 255
    holes[8:14, 9:20, 3] = 0
    (folder / "sub").mkdir()
    Image.fromarray(holes).save(folder / "sub" / "holes.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "notes.jpg").write_text("not a picture")
    return folder


def config(folder: Path, **sections: Any) -> Path:
    defaults = {
        "input": {"path": "unused"},
        "filters": FILTERS,
        "statistics": ["all"],
        "output": {"path": "unused", "maps": "float32", "png": True},
    }
    return write_config(folder / "c.yaml", **defaults | sections)


@pytest.fixture(scope="module")
def output(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Output:
    folder = tmp_path_factory.mktemp("run")
    return run_bank(config(folder), folder / "out", pictures)


def query(output: Output, text: str) -> list[tuple[Any, ...]]:
    """Run SQL in which OUT stands for the folder."""
    import duckdb

    return duckdb.sql(text.replace("OUT", str(output.root))).fetchall()


# ---------------------------------------------------------------- completeness
def test_duckdb_counts_every_response_of_every_done_image(output: Output) -> None:
    found = query(output, "SELECT filter, count(*) FROM 'OUT/statistics/*.parquet' GROUP BY 1")
    done = 64 + 2
    names = output.filters.column("filter").to_pylist()
    assert names == ["identity", "gaussian(sigma=1.5)", "sobel(output=y)",
                     "sobel(output=magnitude)", "net[1]", "net[2]"]  # fmt: skip
    assert dict(found) == {name: done * (1 if "net" in name else 3) for name in names}


def test_no_row_is_there_twice(output: Output) -> None:
    twice = f"SELECT {KEYS} FROM 'OUT/statistics/*.parquet' GROUP BY ALL HAVING count(*) > 1"
    assert query(output, twice) == []
    for table, keys in (("images", "image"), ("regions", "image, region")):
        twice = f"SELECT {keys} FROM 'OUT/{table}/*.parquet' GROUP BY ALL HAVING count(*) > 1"
        assert query(output, twice) == []


def test_every_listed_file_has_a_row(output: Output, pictures: Path) -> None:
    rows = {row["image"]: row for row in output.images.to_pylist()}
    listed = {p.relative_to(pictures).as_posix(): p for p in pictures.rglob("*") if p.is_file()}
    assert rows.keys() == listed.keys()
    assert failures(output).keys() == {"broken.png", "notes.jpg"}
    for name, path in listed.items():
        row, data = rows[name], path.read_bytes()
        assert row["files"] == [name]
        assert (row["bytes"], row["mtime_ns"]) == (len(data), path.stat().st_mtime_ns)
        if row["status"] == "done":
            assert row["fingerprint"] == hashlib.sha256(data).hexdigest()
            assert (row["kind"], row["error"]) == (None, None)
            assert (row["dtype"], row["bands"]) == ("uint8", ["red", "green", "blue"])


def test_every_done_image_has_one_region(output: Output) -> None:
    rows = output.table("regions")
    shapes = {row["image"]: row for row in output.images.to_pylist() if row["status"] == "done"}
    assert rows.num_rows == len(shapes)
    for row in rows.to_pylist():
        shape = shapes[row["image"]]["shape"]
        assert (row["region"], row["start"], row["stop"]) == ("image", [0, 0], shape)
        assert row["n_pixels"] == np.prod(shape)


# ---------------------------------------------------------------- schema
def test_columns_say_unit_formula_and_ibsi_code(output: Output) -> None:
    (path, *_) = sorted((output.root / "statistics").iterdir())
    schema = pq.read_schema(path)
    assert schema.names[:7] == [*KEYS.split(", "), "n_pixels", "n_valid", "support"]
    assert schema.names[7:] == list(COLUMNS)
    for name, column in COLUMNS.items():
        metadata = {k.decode(): v.decode() for k, v in schema.field(name).metadata.items()}
        metadata.pop("PARQUET:field_id", None)
        wanted = {"unit": column.unit, "formula": column.formula}
        assert metadata == wanted | ({"ibsi": column.ibsi} if column.ibsi else {})
        assert all(wanted.values())


def test_every_part_says_what_it_came_from(output: Output, pictures: Path) -> None:
    for table in TABLES:
        parts = sorted((output.root / table).iterdir())
        assert len(parts) == 2
        for path in parts:
            footer = {k.decode(): v.decode() for k, v in pq.read_metadata(path).metadata.items()}
            assert footer["filterbank:device"] == "cpu"
            assert int(footer["filterbank:format"]) >= 1
            assert len(footer["filterbank:digest"]) == 64
            assert {"torch", "numpy", "filterbank"} <= json.loads(
                footer["filterbank:versions"]
            ).keys()
            told = json.loads(footer["filterbank:config"])
            assert told["output"]["maps"] == "float32"
            assert not {"run", "limits"} & told.keys()
            assert str(pictures) not in footer["filterbank:config"]


def test_a_part_whose_sources_all_failed_has_the_whole_schema(
    output: Output, pictures: Path, tmp_path: Path
) -> None:
    files = [pictures / "broken.png", pictures / "notes.jpg"]
    bad = run_bank(config(tmp_path), tmp_path / "out", files)
    assert failures(bad).keys() == {"broken.png", "notes.jpg"}
    for table in TABLES:
        (part,) = (bad.root / table).iterdir()
        whole = pq.read_schema(next((output.root / table).iterdir()))
        assert pq.read_schema(part).equals(whole, check_metadata=False)
        assert pq.read_metadata(part).num_rows == (2 if table == "images" else 0)
        (count,) = query(bad, f"SELECT count(*) FROM 'OUT/{table}/*.parquet'")
        assert count == (pq.read_metadata(part).num_rows,)
    wide = bad.wide()
    assert wide.column("image").to_pylist() == ["broken.png", "notes.jpg"]


def test_pages_carry_checksums(output: Output, tmp_path: Path) -> None:
    """Flipping any byte of float values, which look alike to zstd, is noticed by a reader."""
    path = max((output.root / "maps").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(5)
    assert column.path_in_schema.startswith("values")
    start, size = column.data_page_offset, column.total_compressed_size
    for at in np.linspace(start + 64, start + size - 8, 25).astype(int):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        (tmp_path / "x.parquet").write_bytes(damaged)
        with pytest.raises(OSError, match=r"CRC|checksum|zstd|ZSTD"):
            pq.ParquetFile(tmp_path / "x.parquet", page_checksum_verification=True).read()


# ---------------------------------------------------------------- maps
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_maps_are_split_sorted_and_grouped_by_image(tmp_path: Path, dtype: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    side = 420 if dtype == "float32" else 590
    for i in range(5):
        pixels = rng.integers(0, 256, (side, side + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    written = {"path": "unused", "maps": dtype}
    made = config(tmp_path, output=written, filters=["identity", "sobel"], statistics=["mean"])
    output = run_bank(made, tmp_path / "out", folder)
    (path,) = (output.root / "maps").iterdir()
    file = pq.ParquetFile(path)
    keys = [
        list(zip(*(group.column(n).to_pylist() for n in ("image", "band", "filter")), strict=True))
        for group in map(file.read_row_group, range(file.num_row_groups))
    ]
    flat = [key for group in keys for key in group]
    assert flat == sorted(flat)
    assert len(flat) == 5 * 3 * 2
    images = [{image for image, _, _ in group} for group in keys]
    assert len(images) > 1
    assert sum(map(len, images)) == 5  # none of them is in two groups
    width = np.dtype(dtype).itemsize
    assert all(len(group) * side * side * width >= ROW_GROUP for group in keys[:-1])
    encodings = file.metadata.row_group(0).column(5).encodings
    assert ("BYTE_STREAM_SPLIT" in encodings) == (dtype == "float32")
    (found,) = query(output, "SELECT count(*), max(len(values)) FROM 'OUT/maps/*.parquet'")
    assert found == (30, side * (side + 4))
    with Image.open(folder / "3.png") as image:
        pixels = np.asarray(image)
    stored = output.maps("3.png", "identity", "green")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, pixels[..., 1])


def test_the_pandas_recipe_reads_a_map(output: Output) -> None:
    import pandas as pd

    keys = [("image", "==", "sub/holes.png"), ("band", "==", "green"), ("filter", "==", "identity")]
    r = pd.read_parquet(output.root / "maps", filters=keys).iloc[0]
    found = r["values"].reshape(r["shape"])
    assert found.shape == (30, 31)
    assert np.isnan(found).sum() == 6 * 11
    np.testing.assert_array_equal(found, output.maps("sub/holes.png", "identity", "green"))


def test_a_map_of_several_bands_wants_one_named(output: Output, pictures: Path) -> None:
    with pytest.raises(KeyError, match="bands blue, green, red; name one"):
        output.maps("07.png", "identity")
    with Image.open(pictures / "07.png") as image:
        blue = np.asarray(image)[..., 2]
    np.testing.assert_array_equal(output.maps("07.png", "identity", "blue"), blue)
    assert output.maps("07.png", "net[2]").shape == (6, 7)
    with pytest.raises(KeyError, match="none stored"):
        output.maps("07.png", "identity", "infrared")
    with pytest.raises(KeyError, match="none stored"):
        output.maps("broken.png", "identity")


def test_a_folder_without_maps_says_how_to_get_them(pictures: Path, tmp_path: Path) -> None:
    made = config(tmp_path, output={"path": "unused"})
    bare = run_bank(made, tmp_path / "out", pictures / "07.png")
    with pytest.raises(KeyError, match=r"set output\.maps: float32"):
        bare.maps("07.png", "identity")


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no results"):
        open_output(tmp_path)


# ---------------------------------------------------------------- the wide table
def test_the_wide_table_holds_every_statistic_once(output: Output) -> None:
    wide = output.wide().to_pandas().set_index("image")
    assert len(wide) == 64 + 4
    bands = 3 * 4 + 2  # identity, gaussian, two of sobel on three bands; net joins them
    counted = ["n_pixels", "n_valid", "support", *COLUMNS]
    assert len(wide.columns) == 2 + bands * len(counted)
    long = output.statistics.to_pandas()
    ids = dict(zip(*(output.filters.column(n).to_pylist() for n in ("filter", "id")), strict=True))
    for _, row in long[long["image"].isin(["03.png", "sub/holes.png", "=1+1.png"])].iterrows():
        for name in counted:
            assert (
                wide.loc[row["image"], f"{ids[row['filter']]}__{row['band']}__{name}"] == row[name]
            )


def test_failed_sources_are_nulls_in_the_wide_table(output: Output) -> None:
    rows = {row["image"]: row for row in output.wide().to_pylist()}
    for image in ("broken.png", "notes.jpg"):
        assert rows[image].pop("status") == "failed"
        assert {rows[image].pop("image"), rows[image].pop("region")} == {image, "image"}
        assert set(rows[image].values()) == {None}
    assert None not in rows["03.png"].values()


def test_export_writes_the_wide_table(output: Output, tmp_path: Path) -> None:
    assert output.export(tmp_path / "w.parquet") == 68
    assert pq.read_table(tmp_path / "w.parquet").equals(output.wide())
    assert output.export(tmp_path / "w.csv") == 68
    with (tmp_path / "w.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    wide = output.wide().to_pylist()
    assert list(rows[0]) == list(wide[0])
    for text, row in zip(rows, wide, strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(text[name]) == value
            elif name != "image":
                assert text[name] == ("" if value is None else str(value))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w.csv", "w.parquet"]


def test_no_cell_of_a_csv_starts_a_formula(output: Output, tmp_path: Path) -> None:
    output.export(tmp_path / "w.csv")
    with (tmp_path / "w.csv").open(newline="") as file:
        names = [row["image"] for row in csv.DictReader(file)]
    assert "'=1+1.png" in names
    assert not [name for name in names if name[0] in "=+-@\t\r"]


def test_what_a_table_says_starts_no_formula_either(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("image,@who,note\n=1+1.png,+1,-2\n63.png,,plain\n")
    made = config(tmp_path, input={"path": "unused", "table": str(table)}, filters=["identity"])
    inputs = [pictures / "=1+1.png", pictures / "63.png"]
    output = run_bank(made, tmp_path / "out", inputs)
    output.export(tmp_path / "w.csv")
    with (tmp_path / "w.csv").open(newline="") as file:
        rows = {row["image"]: (row["'@who"], row["note"]) for row in csv.DictReader(file)}
    assert rows == {"'=1+1.png": ("'+1", "'-2"), "63.png": ("", "plain")}
    (wide,) = output.wide_parts()
    assert sorted(wide.column("@who").to_pylist(), key=str) == ["+1", None]


def test_export_refuses_what_it_cannot_write(output: Output, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.parquet or \.csv"):
        output.export(tmp_path / "w.xlsx")
    with pytest.raises(WriteError, match="cannot write"):
        output.export(tmp_path / "nowhere" / "w.csv")


# ---------------------------------------------------------------- previews
@pytest.mark.parametrize("depth", [8, 16])
def test_preview_codes_turn_back_into_values(pictures: Path, tmp_path: Path, depth: int) -> None:
    written = {"path": "unused", "maps": "float32", "png": {"what": "both", "depth": depth}}
    made = config(tmp_path, output=written)
    output = run_bank(made, tmp_path / "out", pictures / "sub" / "holes.png")
    ids = dict(zip(*(output.filters.column(n).to_pylist() for n in ("filter", "id")), strict=True))
    seen = 0
    for name, id_ in ids.items():
        for band in ("all",) if "net" in name else ("red", "green", "blue"):
            path = output.root / "png" / "holes.png" / band / f"{id_}.png"
            with Image.open(path) as image:
                codes, text = np.asarray(image).astype(np.float64), image.text
            offset, scale = (float(text[f"filterbank:{key}"]) for key in ("offset", "scale"))
            values = output.maps("holes.png", name, band)
            valid = np.isfinite(values)
            np.testing.assert_array_equal(codes > 0, valid)
            rebuilt = offset + scale * codes
            assert np.abs(rebuilt - values)[valid].max() <= 0.5001 * scale
            if values[valid].min() < 0 < values[valid].max():
                assert offset + scale * 2 ** (depth - 1) == pytest.approx(0, abs=1e-9 * scale)
            assert text["filterbank:filter"] == name
            assert (text["filterbank:band"], text["filterbank:image"]) == (band, "holes.png")
            seen += 1
    assert seen == 4 * 3 + 2
    with Image.open(output.root / "png" / "holes.png" / "sheet.png") as sheet:
        sheet.load()
        assert min(sheet.size) > 100


# ---------------------------------------------------------------- damage
def test_verify_finds_nothing_in_an_undisturbed_folder(output: Output) -> None:
    assert verify(output.root) == []


@pytest.mark.parametrize("table", [*TABLES, "png"])
def test_verify_names_a_file_with_one_flipped_bit(
    pictures: Path, tmp_path: Path, table: str
) -> None:
    output = run_bank(config(tmp_path), tmp_path / "out", pictures / "07.png")
    path = max((p for p in (output.root / table).rglob("*") if p.is_file()), key=str)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = verify(output.root)
    assert f"{path.relative_to(output.root).as_posix()}: damaged" in found
    assert len(tree(output.root)) > 5


def test_a_table_without_rows_still_opens(output: Output, pictures: Path, tmp_path: Path) -> None:
    bad = run_bank(config(tmp_path), tmp_path / "out", pictures / "broken.png")
    assert bad.statistics.schema.equals(output.statistics.schema)
    assert bad.statistics.num_rows == 0
    assert isinstance(bad.table("maps"), pa.Table)

"""Read an output folder from Python: tables, the wide table, maps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import csv

import pipeline.writers.parquet as tables
from pipeline.errors import InputError, WriteError
from pipeline.storage import Place, arrow, glob, place

_KEYS = ("image", "band", "region", "filter")
_FORMULA = frozenset("=+-@\t\r")
"""How text begins that a spreadsheet runs."""


def open_output(path: str | Place) -> Output:
    """Open what a run left, in a folder or at a URL. Raises InputError where there is none.

    Examples
    --------
    >>> output = open_output("out/edges")  # doctest: +SKIP
    >>> output.maps("ring.png", "sobel").shape  # doctest: +SKIP
    (64, 64)
    """
    return Output(place(path))


class Output:
    """The tables of one output folder; each call reads what is committed by then."""

    def __init__(self, root: Place) -> None:
        self.root = root
        if not (root / "images").is_dir():
            message = f"{str(root)!r} holds no results; name the output.path of a run"
            raise InputError(message)

    def table(self, name: str) -> pa.Table:
        """One table whole: images, statistics, regions, maps or filters."""
        if name == "filters":
            where, filesystem = arrow(self.root / "filters.parquet")
            return pq.read_table(where, filesystem=filesystem)
        return _dataset(self.root / name).to_table().replace_schema_metadata()

    @property
    def images(self) -> pa.Table:
        """One row per source: what is done, and what failed and why."""
        return self.table("images")

    @property
    def statistics(self) -> pa.Table:
        """One row per image x band x region x filter."""
        return self.table("statistics")

    @property
    def filters(self) -> pa.Table:
        """One row per response."""
        return self.table("filters")

    @property
    def config(self) -> dict[str, Any]:
        """The expanded config that these results were computed with."""
        parts = glob(self.root / "images", "part-*.parquet")
        footer = tables.footer_of(parts[0]) if parts else {}
        config: dict[str, Any] = json.loads(footer.get("filterbank:config", "{}"))
        return config

    def maps(self, image: str, filter: str, band: str | None = None) -> npt.NDArray[Any]:
        """One feature map as an array of its own shape; invalid pixels are NaN.

        Tiles are put together. Raises KeyError where there is no such map, or where `band` is not
        given and the image has several.
        """
        folder = self.root / "maps"
        if not folder.is_dir():
            message = f"{str(self.root)!r} holds no maps; set output.maps: float32 and run again"
            raise KeyError(message)
        wanted = (ds.field("image") == image) & (ds.field("filter") == filter)
        if band is not None:
            wanted &= ds.field("band") == band
        table = _dataset(folder).to_table(filter=wanted)
        bands = sorted(set(table.column("band").to_pylist()))
        if len(bands) != 1:
            found = f"bands {', '.join(bands)}; name one" if bands else "none stored"
            message = f"map {filter!r} of {image!r}: {found}"
            raise KeyError(message)
        return _stitch(table)

    def wide(self) -> pa.Table:
        """One row per image and region, columns `<id>__<band>__<statistic>`; nulls where failed."""
        parts = list(self.wide_parts())
        return pa.concat_tables(parts) if parts else pa.table({"image": pa.array([], pa.string())})

    def wide_parts(self) -> Iterator[pa.Table]:
        """The wide table shard by shard, all of one schema, so that memory does not grow."""
        parts = glob(self.root / "images", "part-*.parquet")
        ids = dict(
            zip(*(self.filters.column(n).to_pylist() for n in ("filter", "id")), strict=True)
        )
        columns: dict[str, None] = {}
        for path in parts:
            names = ["band", "filter"]
            keys = tables.read_table(self.root / "statistics" / path.name, names)
            pairs = keys.group_by(names, use_threads=False).aggregate([])
            columns |= dict.fromkeys(
                zip(*(pairs.column(n).to_pylist() for n in names), strict=True)
            )
        order = list(ids)
        pairs_in_order = sorted(columns, key=lambda pair: (order.index(pair[1]), pair[0]))
        for path in parts:
            yield self._wide(path.name, pairs_in_order, ids)  # type: ignore[arg-type]

    def _wide(self, part: str, pairs: list[tuple[str, str]], ids: dict[str, str]) -> pa.Table:
        stored = tables.read_table(self.root / "statistics" / part)
        names = [name for name in stored.column_names if name not in _KEYS]
        images = tables.read_table(self.root / "images" / part)
        own = set(tables.IMAGES.names) - {"status"}
        told = [name for name in images.column_names if name not in own]
        says = {row["image"]: row for row in images.select(["image", *told]).to_pylist()}
        regions = stored.select(["image", "region"]).group_by(["image", "region"]).aggregate([])
        done = set(regions.column("image").to_pylist())
        rows = sorted(
            list(zip(*(regions.column(n).to_pylist() for n in ("image", "region")), strict=True))
            + [(i, "image") for i in says if i not in done]
        )
        index = {row: i for i, row in enumerate(rows)}
        where = {pair: j for j, pair in enumerate(pairs)}
        at_row = np.array(
            [
                index[key]
                for key in zip(
                    *(stored.column(n).to_pylist() for n in ("image", "region")), strict=True
                )
            ],
            dtype=np.intp,
        )
        at_pair = np.array(
            [
                where[key]
                for key in zip(
                    *(stored.column(n).to_pylist() for n in ("band", "filter")), strict=True
                )
            ],
            dtype=np.intp,
        )
        out: dict[str, pa.Array] = {
            "image": pa.array([image for image, _ in rows], pa.string()),
            "region": pa.array([region for _, region in rows], pa.string()),
            **{n: pa.array([says[image][n] for image, _ in rows], pa.string()) for n in told},
        }
        grids = {
            name: _spread(stored.column(name), at_row, at_pair, (len(rows), len(pairs)))
            for name in names
        }
        for j, (band, name) in enumerate(pairs):
            for statistic in names:
                values, mask = grids[statistic]
                kind = stored.schema.field(statistic).type
                column = pa.array(values[:, j], mask=mask[:, j]).cast(kind)
                out[f"{ids[name]}__{band}__{statistic}"] = column
        return pa.table(out)

    def export(self, path: Path) -> int:
        """Write the wide table as .parquet or .csv, shard by shard; return the number of rows.

        Raises InputError for another suffix or where no image is stored yet, WriteError.
        """
        as_csv = path.suffix == ".csv"
        if not as_csv and path.suffix != ".parquet":
            message = f"export writes .parquet or .csv (got {path.name!r})"
            raise InputError(message)
        temporary = path.with_name(path.name + ".tmp")
        try:
            rows = self._write_wide(temporary, csv.CSVWriter if as_csv else pq.ParquetWriter)
            temporary.replace(path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            message = f"cannot write {path}: {reason}; name a folder that exists and has room"
            raise WriteError(message) from error
        finally:
            temporary.unlink(missing_ok=True)
        return rows

    def _write_wide(self, path: Path, kind: type[pq.ParquetWriter | csv.CSVWriter]) -> int:
        with ExitStack() as stack:
            writer, rows = None, 0
            for part in self.wide_parts():
                table = _defuse(part) if kind is csv.CSVWriter else part
                writer = writer or stack.enter_context(kind(path, table.schema))
                writer.write_table(table)
                rows += table.num_rows
        if writer is None:
            message = f"{str(self.root)!r} holds no images yet; run first"
            raise InputError(message)
        return rows


def _dataset(folder: Place) -> ds.Dataset:
    parts = [arrow(path) for path in glob(folder, "part-*.parquet")]
    filesystem = arrow(folder)[1]
    return ds.dataset([where for where, _ in parts], filesystem=filesystem, format="parquet")


def _spread(
    column: pa.ChunkedArray,
    rows: npt.NDArray[np.intp],
    pairs: npt.NDArray[np.intp],
    shape: tuple[int, int],
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Lay a long column out as (rows, pairs), with a mask of what is null or absent."""
    missing = pc.is_null(column).to_numpy()
    filled = pc.fill_null(column, 0).to_numpy()
    values, mask = np.zeros(shape, filled.dtype), np.ones(shape, np.bool_)
    values[rows, pairs], mask[rows, pairs] = filled, missing
    return values, mask


def _defuse(table: pa.Table) -> pa.Table:
    """Keep spreadsheets from running text as a formula: put an apostrophe before it."""
    safe = [
        pa.array([text and _safe(text) for text in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(safe, names=[*map(_safe, table.column_names)])


def _safe(text: str) -> str:
    return f"'{text}" if text[:1] in _FORMULA else text


def _stitch(table: pa.Table) -> npt.NDArray[Any]:
    rows = table.select(["origin", "shape"]).to_pylist()
    low = np.min([row["origin"] for row in rows], axis=0)
    high = np.max([np.add(row["origin"], row["shape"]) for row in rows], axis=0)
    values = table.column("values").combine_chunks()
    kind = values.type.value_type.to_pandas_dtype()
    out = np.full(tuple(high - low), np.nan, dtype=kind)
    for i, row in enumerate(rows):
        at = tuple(
            slice(o - a, o - a + n)
            for o, a, n in zip(row["origin"], low, row["shape"], strict=True)
        )
        out[at] = values[i].values.to_numpy(zero_copy_only=False).reshape(row["shape"])
    return out

"""The tables: their schemas, and how parts are written and read back whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import WriteError
from pipeline.storage import Place, arrow
from pipeline.writers.geoparquet import FIELDS as GEO_FIELDS

FORMAT = 1
"""Version of the output folder's layout, in every footer."""

ROW_GROUP = 4 << 20
"""A row group of maps ends at an image border once it holds this many bytes of values."""

ROW_GROUP_MOST = 64 << 20
"""... and inside an image once it holds this many: memory holds one, list offsets are 32-bit."""

_ZERO = b"0" * 64
# The key and its value in the footer: two binary fields of Thrift's compact protocol, the second of
# 64 bytes. It is looked for, because no library should parse what may be damaged.
_SEAL = re.compile(rb"filterbank:sha256\x18\x40([0-9a-f]{64})")
_DAMAGE = (pa.ArrowException, OSError, ValueError)
_OPTIONS: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}

_TEXT, _INTS = pa.string(), pa.list_(pa.int64())

IMAGES = pa.schema(
    [
        pa.field("image", _TEXT, nullable=False),
        pa.field("files", pa.list_(_TEXT), nullable=False),
        pa.field("status", _TEXT, nullable=False),
        ("kind", _TEXT),
        ("error", _TEXT),
        ("reader", _TEXT),
        ("shape", _INTS),
        ("bands", pa.list_(_TEXT)),
        ("dtype", _TEXT),
        ("spacing", pa.list_(pa.float64())),
        ("value_unit", _TEXT),
        ("crs", _TEXT),
        ("transform", pa.list_(pa.float64())),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("fingerprint", _TEXT),
        ("version", _TEXT),
        ("device", _TEXT),
    ]
)

REGIONS = pa.schema(
    [
        pa.field("image", _TEXT, nullable=False),
        pa.field("region", _TEXT, nullable=False),
        pa.field("kind", _TEXT, nullable=False),
        ("label", _TEXT),
        ("start", _INTS),
        ("stop", _INTS),
        ("n_pixels", pa.int64()),
        ("size", pa.float64()),
        *GEO_FIELDS,
    ]
)

FILTERS = pa.schema(
    [
        pa.field("filter", _TEXT, nullable=False),
        pa.field("id", _TEXT, nullable=False),
        ("family", _TEXT),
        ("parameters", _TEXT),
        ("units", _TEXT),
        ("rank", pa.int64()),
        ("bands", pa.list_(_TEXT)),
        ("boundary", _TEXT),
    ]
)


def images_schema(columns: Iterable[str]) -> pa.Schema:
    """The images table with the columns that fields of names and a table add to it, all of text."""
    return pa.schema([*IMAGES, *(pa.field(name, _TEXT) for name in columns)])


def statistics_schema(columns: Mapping[str, Mapping[str, str]]) -> pa.Schema:
    """Keys, counts and one float64 column per statistic; the values are its field metadata."""
    keys = [pa.field(name, _TEXT, nullable=False) for name in ("image", "band", "region", "filter")]
    counts = [
        pa.field("n_pixels", pa.int64(), metadata={"unit": "pixels"}),
        pa.field("n_valid", pa.int64(), metadata={"unit": "pixels"}),
        pa.field("support", pa.float64(), metadata={"unit": "1"}),
    ]
    values = [pa.field(name, pa.float64(), metadata=dict(m)) for name, m in columns.items()]
    return pa.schema(keys + counts + values)


def maps_schema(dtype: str) -> pa.Schema:
    """One row per map; `values` is flat in C order. dtype: float32 or float16."""
    value = pa.float32() if dtype == "float32" else pa.float16()
    return pa.schema(
        [
            pa.field("image", _TEXT, nullable=False),
            pa.field("band", _TEXT, nullable=False),
            pa.field("filter", _TEXT, nullable=False),
            ("origin", _INTS),
            ("shape", _INTS),
            ("values", pa.list_(pa.field("element", value))),
        ]
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write one small part. The same rows give the same bytes.

    Only text gets a dictionary: looking for repeated numbers doubles the time, and statistics
    hardly repeat.
    """
    text = [field.name for field in table.schema if field.type == _TEXT]
    pq.write_table(table, path, use_dictionary=text, **_OPTIONS)


def write_sealed(path: Path, table: pa.Table, footer: Mapping[str, str]) -> None:
    """Write a part whose footer carries extra keys and the SHA-256 of the file itself.

    The hash is taken with 64 zeros in its own place, so that `check_seal` can notice any changed
    byte, also in the footer, which Parquet's page checksums do not cover. The table's own metadata
    is written in the order of its keys, so that what was read back gives the same bytes.
    """
    table = table.replace_schema_metadata(dict(sorted((table.schema.metadata or {}).items())))
    with pq.ParquetWriter(path, table.schema, **_OPTIONS) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**footer, "filterbank:sha256": _ZERO.decode()})
    data = path.read_bytes()
    at = data.rindex(_ZERO)
    seal = hashlib.sha256(data).hexdigest().encode()
    path.write_bytes(data[:at] + seal + data[at + len(seal) :])


def check_seal(path: Place) -> bool:
    """Whether a file written by `write_sealed` is byte for byte as it was written."""
    data = path.read_bytes()
    at = max((match.start(1) for match in _SEAL.finditer(data)), default=None)
    if at is None:
        return False
    found = hashlib.sha256(data[:at] + _ZERO + data[at + 64 :]).hexdigest()
    return data[at : at + 64] == found.encode()


def footer_of(path: Place) -> dict[str, str]:
    """Every key of a part's footer that filterbank wrote. Raises WriteError when unreadable."""
    where, filesystem = arrow(path)
    try:
        metadata = pq.read_metadata(where, filesystem=filesystem).metadata or {}
    except _DAMAGE as error:
        message = f"{path.parent.name}/{path.name} is damaged: {error}; see filterbank verify"
        raise WriteError(message) from error
    return {
        key.decode(): value.decode()
        for key, value in metadata.items()
        if key.startswith(b"filterbank:")
    }


def read_table(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part, every page checked. Raises WriteError when it is damaged."""
    with _naming_damage(path):
        return _open(path).read(columns)


def row_groups_of(path: Place, image: str) -> Iterator[pa.Table]:
    """Row groups of a part that hold rows of an image. Raises WriteError when it is damaged."""
    with _naming_damage(path):
        file = _open(path)
        for group in range(file.num_row_groups):
            names = file.read_row_group(group, ["image"]).column("image")
            if pc.any(pc.equal(names, image)).as_py():
                yield file.read_row_group(group)


def map_rows(table: pa.Table) -> Iterator[tuple[str, str, tuple[int, ...], npt.NDArray[Any]]]:
    """Rows of a table of maps as they were added: band, response, first pixel, values."""
    values = table.column("values")
    keys = table.select(["band", "filter", "origin", "shape"]).to_pylist()
    for row, flat in zip(keys, values, strict=True):
        plane = flat.values.to_numpy(zero_copy_only=False).reshape(row["shape"])
        yield row["band"], row["filter"], tuple(row["origin"]), plane


def _open(path: Place) -> pq.ParquetFile:
    where, filesystem = arrow(path)
    return pq.ParquetFile(where, filesystem=filesystem, page_checksum_verification=True)


@contextmanager
def _naming_damage(path: Place) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        message = f"{path.parent.name}/{path.name} is damaged: {error}; see filterbank verify"
        raise WriteError(message) from error


class MapsWriter:
    """Writes a maps part image by image, so that memory holds one row group, never a shard."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        value = schema.field("values").type.value_type
        self._dtype = value.to_pandas_dtype()
        split: dict[str, Any] = {"use_dictionary": ["image", "band", "filter"]}
        if value == pa.float32():
            split["use_byte_stream_split"] = ["values.list.element"]
        self._writer = pq.ParquetWriter(path, schema, **_OPTIONS, **split)
        self._schema = schema
        self._rows: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(
        self, image: str, maps: Iterable[tuple[str, str, Sequence[int], npt.NDArray[Any]]]
    ) -> None:
        """Add all maps of one image as (band, filter, origin, values), sorted by band and filter.

        Values that float16 cannot hold become infinite there, as IEEE 754 says.
        """
        for band, name, origin, values in maps:
            with np.errstate(over="ignore"):
                flat = np.ascontiguousarray(values, dtype=self._dtype).reshape(-1)
            row = [
                pa.array([image]),
                pa.array([band]),
                pa.array([name]),
                pa.array([list(origin)], _INTS),
                pa.array([list(values.shape)], _INTS),
                pa.ListArray.from_arrays(pa.array([0, flat.size], pa.int32()), pa.array(flat)).cast(
                    self._schema.field("values").type
                ),
            ]
            self._rows.append(pa.record_batch(row, schema=self._schema))
            self._bytes += flat.nbytes
            if self._bytes >= ROW_GROUP_MOST:
                self._flush()
        if self._bytes >= ROW_GROUP:
            self._flush()

    def copy(self, table: pa.Table) -> None:
        """Add stored rows of one image as they are."""
        self._rows += table.cast(self._schema).to_batches()
        self._bytes += table.column("values").nbytes
        if self._bytes >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._rows, self._schema)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        """Write what is left; more than once is once."""
        self._flush()
        self._writer.close()

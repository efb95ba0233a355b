"""The output folder: what it holds, what that says is done, and who may write to it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import pyarrow as pa

import pipeline.writers.parquet as tables
from pipeline.commit import Staging, damage, reading, recover, writing
from pipeline.errors import PlanError, WriteError
from pipeline.keys import PICTURES
from pipeline.storage import ObjectPath, Place, at_hand, glob, sizes

TABLES = ("statistics", "regions", "maps")
FILTERS = "filters.parquet"
METHODS = "methods.md"
_PARTS = "part-*.parquet"


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of the images table, as far as it says what is done."""

    image: str
    shard: str
    files: tuple[str, ...]
    status: str
    kind: str | None
    bytes: int
    mtime_ns: int | None
    fingerprint: str | None
    version: str
    error: str | None = None

    @property
    def had_results(self) -> bool:
        """Whether it was done once: one that lost results with a damaged file has no time."""
        return self.status == "done" or self.mtime_ns is None


@dataclass(frozen=True)
class State:
    """What an output folder holds: sources by file name (escaped), images by shard.

    damaged: the damaged files of shards that have some; torn: the tables among them, by name;
    unsealed: damaged images parts, which say nothing; replaced: shards of another plan, to be
    overwritten; filters: whether the table of responses and methods.md are as they were written.
    """

    digest: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    by_file: Mapping[str, tuple[Stored, ...]] = field(default_factory=dict)
    shards: Mapping[str, tuple[Stored, ...]] = field(default_factory=dict)
    damaged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    torn: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unsealed: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    filters: bool = False

    @cached_property
    def by_key(self) -> Mapping[str, Stored]:
        """Rows by image."""
        return {row.image: row for rows in self.shards.values() for row in rows}


def load(root: Place, *, overwrite: str | None = None, verify: bool = False) -> State:
    """Read what the folder says is done; sizes of all files are compared with what was committed.

    overwrite: the start of a digest; shards of that plan count as not there. verify: every file is
    read and compared. Raises PlanError when parts of several plans lie together, WriteError for
    what cannot be read.
    """
    with reading(root):
        return _load(root, overwrite, verify)


def _load(root: Place, overwrite: str | None, verify: bool) -> State:
    by_file: dict[str, list[Stored]] = {}
    shards: dict[str, tuple[Stored, ...]] = {}
    damaged: dict[str, tuple[str, ...]] = {}
    unsealed, replaced = set[str](), set[str]()
    footers: dict[str, dict[str, str]] = {}
    size_of = sizes(root)
    for path in at_hand(glob(root / "images", _PARTS)):
        shard = path.stem.removeprefix("part-")
        files = _listed(path)
        if files is None:
            unsealed.add(shard)
            continue
        footer = tables.footer_of(path)
        if overwrite and footer["filterbank:digest"].startswith(overwrite):
            replaced.add(shard)
            continue
        footers.setdefault(footer["filterbank:digest"], footer)
        shards[shard] = _rows(path, shard)
        bad = [
            name
            for name, (size, digest) in files.items()
            if size_of(name) != size or (verify and damage(root / name, size, digest))
        ]
        if bad:
            damaged[shard] = tuple(bad)
        for row in shards[shard]:
            for name in row.files:
                by_file.setdefault(name, []).append(row)
    if len(footers) > 1:
        digests = ", ".join(digest[:8] for digest in footers)
        message = f"{root} holds parts of several plans ({digests}); --overwrite one of them"
        raise PlanError(message)
    footer = next(iter(footers.values()), {})
    return State(
        footer.get("filterbank:digest"),
        json.loads(footer.get("filterbank:config", "{}")),
        footer.get("filterbank:device"),
        {name: tuple(rows) for name, rows in by_file.items()},
        shards,
        damaged,
        {shard: torn for shard, names in damaged.items() if (torn := _tables_of(names))},
        frozenset(unsealed),
        frozenset(replaced),
        check_filters(root) == {},
    )


def _tables_of(names: Iterable[str]) -> tuple[str, ...]:
    """The tables of which some files are parts."""
    folders = {name.partition("/")[0] for name in names}
    return tuple(table for table in TABLES if table in folders)


def images_in(root: Place, shard: str) -> set[str]:
    """Images with results in a shard whose images part is damaged, as far as they can be read."""
    found = set[str]()
    for name in TABLES:
        with suppress(WriteError):
            table = tables.read_table(root / name / f"part-{shard}.parquet", ["image"])
            found.update(table.column("image").to_pylist())
    return found


def _rows(path: Place, shard: str) -> tuple[Stored, ...]:
    names = [one.name for one in fields(Stored) if one.name != "shard"]
    rows = tables.read_table(path, names).to_pylist()
    return tuple(Stored(shard=shard, **{**row, "files": tuple(row["files"])}) for row in rows)


def touch(root: Place, shard: str, stamps: Mapping[str, int]) -> None:
    """Note new times of files whose bytes are the stored ones: rewrites the images part only."""
    path = root / "images" / f"part-{shard}.parquet"
    table, footer = tables.read_table(path), tables.footer_of(path)
    rows = zip(table.column("image").to_pylist(), table.column("mtime_ns").to_pylist(), strict=True)
    column = [stamps.get(image, old) for image, old in rows]
    index = table.schema.get_field_index("mtime_ns")
    table = table.set_column(index, table.schema.field(index), pa.array(column, pa.int64()))
    staging = Staging(root, shard)
    files = {"filterbank:files": footer.pop("filterbank:files")}
    del footer["filterbank:sha256"]
    columns = [name for name in table.column_names if name not in tables.IMAGES.names]
    table = table.cast(tables.images_schema(columns)).replace_schema_metadata(footer)
    final = f"images/{path.name}"
    tables.write_sealed(staging.path(final), table, files)
    staging.add(final)
    staging.commit()


def clean(root: Place) -> None:
    """Recover from an interrupted run: finish its last commit, remove parts of no shard."""
    with writing(root):
        recover(root)
        images, *others = ({p.name: p for p in glob(root / n, _PARTS)} for n in ("images", *TABLES))
        orphans = {
            path.stem.removeprefix("part-")
            for parts in others
            for name, path in parts.items()
            if name not in images
        }
        if orphans:
            drop(root, orphans)


def drop(root: Place, shards: Collection[str]) -> None:
    """Delete whole shards in one commit.

    Pictures go as the images part lists them. Where one is missing or damaged nobody knows its
    pictures, so all those go that no other shard lists.
    """
    remove = {f"{name}/part-{shard}.parquet" for shard in shards for name in ("images", *TABLES)}
    dropped = {shard: listed(root, shard) for shard in shards}
    for files in dropped.values():
        remove.update(files_in(root, PICTURES) if files is None else files)
    parts = (path.stem.removeprefix("part-") for path in (root / "images").glob("part-*"))
    for part in parts:
        if part not in dropped:
            remove.difference_update(listed(root, part) or ())
    Staging(root, "drop").commit(remove)


def drop_pictures(root: Place, names: Iterable[str]) -> None:
    """Delete damaged files that are no tables: those of images that are gone are not made again."""
    if pictures := [name for name in names if not name.startswith(TABLES)]:
        Staging(root, "drop").commit(pictures)


def listed(root: Place, shard: str) -> Mapping[str, tuple[int, str]] | None:
    """The files an images part lists, with size and SHA-256; None where it is missing or damaged.

    One that is no images part, or lists another shard's tables, was put under this name by somebody
    else.
    """
    return _listed(root / "images" / f"part-{shard}.parquet")


def _listed(path: Place) -> Mapping[str, tuple[int, str]] | None:
    if not path.exists() or not tables.check_seal(path):
        return None
    footer = tables.footer_of(path)
    if not footer.keys() >= {"filterbank:files", "filterbank:digest"}:
        return None
    files = json.loads(footer["filterbank:files"])
    own = f"statistics/{path.name}" in files
    return {name: (size, digest) for name, (size, digest) in files.items()} if own else None


def files_in(root: Place, folders: Sequence[str]) -> Iterator[str]:
    """Every file in some folders of the output, relative to it."""
    for folder in folders:
        if isinstance(root, ObjectPath):
            yield from (f"{folder}/{name}" for name in (root / folder).sizes())
            continue
        for path in sorted((root / folder).rglob("*")):
            if not path.is_dir():
                yield path.relative_to(root).as_posix()


def write_filters(root: Place, table: pa.Table, methods: str) -> None:
    """Write the table of responses, and beside it what was computed in words, where they do not
    stand there already; the table's footer has the SHA-256 of the text.
    """
    staging = Staging(root, "filters")
    text = methods.encode()
    footer = {"filterbank:methods": hashlib.sha256(text).hexdigest()}
    tables.write_sealed(staging.path(FILTERS), table, footer)
    staging.path(METHODS).write_bytes(text)
    names = (FILTERS, METHODS)
    if all(_equal(root / name, staging.path(name)) for name in names):
        staging.discard()
        return
    for name in names:
        staging.add(name)
    staging.commit()


def _equal(path: Place, other: Place) -> bool:
    return path.exists() and path.read_bytes() == other.read_bytes()


def check_filters(root: Place) -> dict[str, str]:
    """What is wrong with the table of responses and the text beside it, by name."""
    found = {name: "missing" for name in (FILTERS, METHODS) if not (root / name).exists()}
    if FILTERS in found:
        return found
    if not tables.check_seal(root / FILTERS):
        return {**found, FILTERS: "damaged"}
    said = tables.footer_of(root / FILTERS).get("filterbank:methods")
    if not found and said != hashlib.sha256((root / METHODS).read_bytes()).hexdigest():
        return {METHODS: "damaged"}
    return found

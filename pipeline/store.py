"""The output folder: what it holds, what that says is done, and who may write to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

import pipeline.writers.parquet as tables
from pipeline.commit import Staging, has_size, recover, writing
from pipeline.errors import PlanError, ReadError
from pipeline.fingerprint import fingerprint, stamp
from pipeline.keys import escape
from pipeline.pairing import Fields, shared_fields
from pipeline.types import Member, Source

TABLES = ("statistics", "regions", "maps")
PICTURES = ("png",)
FILTERS = "filters.parquet"
TRANSIENT = frozenset({"io", "timeout", "crashed", "changed"})
"""Failures that the file's bytes do not decide: tried again on each run."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of the images table, as far as it says what is done."""

    image: str
    shard: str
    files: tuple[str, ...]
    status: str
    kind: str | None
    bytes: int
    mtime_ns: int
    fingerprint: str | None
    version: str
    error: str | None = None


@dataclass(frozen=True)
class State:
    """What an output folder holds: sources by file name (escaped), images by shard.

    damaged: shards of which a file is missing or has another size; torn: those of them where it is
    a table; unsealed: damaged images parts, which say nothing; replaced: shards of another plan, to
    be overwritten; filters: whether the table of responses is as it was written.
    """

    digest: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    by_file: Mapping[str, tuple[Stored, ...]] = field(default_factory=dict)
    shards: Mapping[str, tuple[Stored, ...]] = field(default_factory=dict)
    damaged: frozenset[str] = frozenset()
    torn: frozenset[str] = frozenset()
    unsealed: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    filters: bool = False

    @cached_property
    def by_key(self) -> Mapping[str, Stored]:
        """Rows by image."""
        return {row.image: row for rows in self.shards.values() for row in rows}


@dataclass(frozen=True)
class Todo:
    """What a run has to do about what is listed, by shard where it is stored.

    touched: images whose files have new times and equal bytes, and the stamps they now have.
    """

    new: tuple[Source, ...]
    redo: Mapping[str, tuple[Source, ...]]
    touched: Mapping[str, Mapping[str, int]]
    done: int
    vanished: tuple[Stored, ...]
    retried: int = 0


def load(root: Path, *, overwrite: str | None = None) -> State:
    """Read what the folder says is done; sizes of all files are compared with what was committed.

    overwrite: the start of a digest; shards of that plan count as not there. Raises PlanError when
    parts of several plans lie together.
    """
    by_file: dict[str, list[Stored]] = {}
    shards: dict[str, tuple[Stored, ...]] = {}
    damaged, torn, unsealed, replaced = set[str](), set[str](), set[str](), set[str]()
    footers: dict[str, dict[str, str]] = {}
    for path in sorted((root / "images").glob("part-*.parquet")):
        shard = path.stem.removeprefix("part-")
        if not tables.check_seal(path):
            unsealed.add(shard)
            continue
        footer = tables.footer_of(path)
        if overwrite and footer["filterbank:digest"].startswith(overwrite):
            replaced.add(shard)
            continue
        footers.setdefault(footer["filterbank:digest"], footer)
        shards[shard] = _rows(path, shard)
        files = json.loads(footer["filterbank:files"])
        bad = [name for name, (size, _) in files.items() if not has_size(root / name, size)]
        if bad:
            damaged.add(shard)
        if any(name.startswith(TABLES) for name in bad):
            torn.add(shard)
        for row in shards[shard]:
            for name in row.files:
                by_file.setdefault(name, []).append(row)
    if len(footers) > 1:
        listed = ", ".join(digest[:8] for digest in footers)
        message = f"{root} holds parts of several plans ({listed}); --overwrite one of them"
        raise PlanError(message)
    footer = next(iter(footers.values()), {})
    return State(
        footer.get("filterbank:digest"),
        json.loads(footer.get("filterbank:config", "{}")),
        footer.get("filterbank:device"),
        {name: tuple(rows) for name, rows in by_file.items()},
        shards,
        frozenset(damaged),
        frozenset(torn),
        frozenset(unsealed),
        frozenset(replaced),
        (root / FILTERS).exists() and tables.check_seal(root / FILTERS),
    )


def _rows(path: Path, shard: str) -> tuple[Stored, ...]:
    names = [one.name for one in fields(Stored) if one.name != "shard"]
    rows = tables.read_table(path, names).to_pylist()
    return tuple(Stored(shard=shard, **{**row, "files": tuple(row["files"])}) for row in rows)


def compare(
    state: State,
    sources: Sequence[Source],
    waiting: Sequence[str],
    given: Callable[[Fields, str], Fields],
    *,
    version: str,
    retry_failed: bool,
    attempts: Mapping[str, int],
    max_attempts: int,
) -> Todo:
    """Sort what is listed into new, changed, touched and done; what is stored but gone vanished.

    An image of the stored files, of the stored sizes and times, about which the same is given, is
    taken as unchanged; with another time their SHA-256 decides. given: what decides results besides
    files, by fields and key. Damaged shards are done again as a whole.
    """
    known = _Listed(sources, given)

    def again(row: Stored) -> bool:
        if row.status != "failed":
            return False
        if row.kind == "dependency":  # which may be installed by now
            return True
        if row.kind in TRANSIENT:
            return attempts.get(row.image, 1) < max_attempts or retry_failed
        return retry_failed or row.version != version

    new: list[Source] = []
    redo: dict[str, list[Source]] = {}
    touched: dict[str, dict[str, int]] = {}
    done: set[str] = set()
    retried = 0
    for source in sources:
        names = (escape(member.name) for member in source.members)
        rows = tuple(dict.fromkeys(r for name in names for r in state.by_file.get(name, ())))
        shard = rows[0].shard if rows else ""
        if not rows:
            new.append(source)
        elif shard in state.damaged or len({row.files for row in rows}) > 1:
            redo.setdefault(shard, []).append(source)
        elif any(again(row) for row in rows):
            redo.setdefault(shard, []).append(source)
            retried += 1
        elif (looks := {known.look(row) for row in rows}) == {"same"}:
            done.update(row.image for row in rows)
        elif "changed" in looks:
            redo.setdefault(shard, []).append(source)
        else:
            touched.setdefault(shard, {}).update((row.image, known.stamp(row)) for row in rows)
    listed = {*known.owners, *map(escape, waiting)}
    gone = [r for rows in state.shards.values() for r in rows if listed.isdisjoint(r.files)]
    return Todo(
        tuple(new),
        {shard: tuple(some) for shard, some in redo.items()},
        touched,
        len(done),
        tuple(gone),
        retried,
    )


class _Listed:
    """What is listed now, asked about stored rows."""

    def __init__(self, sources: Sequence[Source], given: Callable[[Fields, str], Fields]) -> None:
        self.owners = {escape(m.name): source for source in sources for m in source.members}
        self.given = given
        self.look = cache(self._look)

    def stamp(self, row: Stored) -> int:
        """The stamp that a row's files and what is given about it have now."""
        files, given = self._now(row)
        return stamp([files[name] for name in row.files], given)

    def _now(self, row: Stored) -> tuple[dict[str, Member], Fields]:
        """The files that an image of a row's files would have now, by name, and what is given."""
        owners = {s.key: s for name in row.files if (s := self.owners.get(name)) is not None}
        files = {escape(m.name): m for source in owners.values() for m in source.files}
        return files, self.given(shared_fields(tuple(owners.values())), row.image)

    def _look(self, row: Stored) -> str:
        files, given = self._now(row)
        if files.keys() != set(row.files) or sum(m.bytes for m in files.values()) != row.bytes:
            return "changed"
        found = [files[name] for name in row.files]
        if stamp(found, given) == row.mtime_ns:
            return "same"
        try:
            same = fingerprint(found, given) == row.fingerprint
        except ReadError:
            same = row.fingerprint is None
        return "touched" if same else "changed"


def touch(root: Path, shard: str, stamps: Mapping[str, int]) -> None:
    """Note new times of files whose bytes are the stored ones: rewrites the images part only."""
    path = root / "images" / f"part-{shard}.parquet"
    table, footer = tables.read_table(path), tables.footer_of(path)
    rows = zip(table.column("image").to_pylist(), table.column("mtime_ns").to_pylist(), strict=True)
    column = [stamps.get(image, old) for image, old in rows]
    index = table.schema.get_field_index("mtime_ns")
    table = table.set_column(index, table.schema.field(index), pa.array(column, pa.int64()))
    staging = Staging(root, shard)
    listed = {"filterbank:files": footer.pop("filterbank:files")}
    del footer["filterbank:sha256"]
    columns = [name for name in table.column_names if name not in tables.IMAGES.names]
    table = table.cast(tables.images_schema(columns)).replace_schema_metadata(footer)
    final = f"images/{path.name}"
    tables.write_sealed(staging.path(final), table, listed)
    staging.add(final)
    staging.commit()


def clean(root: Path) -> None:
    """Recover from an interrupted run: finish its last commit, remove parts of no shard."""
    with writing(root):
        recover(root)
        orphans = {
            path.stem.removeprefix("part-")
            for name in TABLES
            for path in (root / name).glob("part-*.parquet")
            if not (root / "images" / path.name).exists()
        }
        if orphans:
            drop(root, orphans)


def drop(root: Path, shards: Collection[str]) -> None:
    """Delete whole shards in one commit.

    Pictures go as the images part lists them. Where one is missing or damaged nobody knows its
    pictures, so all those go that no other shard lists.
    """
    remove = {f"{name}/part-{shard}.parquet" for shard in shards for name in ("images", *TABLES)}
    listed = {shard: _listed(root, shard) for shard in shards}
    for files in listed.values():
        remove.update(files_in(root, PICTURES) if files is None else files)
    parts = (path.stem.removeprefix("part-") for path in (root / "images").glob("part-*"))
    for part in parts:
        if part not in listed:
            remove.difference_update(_listed(root, part) or ())
    Staging(root, "drop").commit(remove)


def _listed(root: Path, shard: str) -> Mapping[str, Any] | None:
    """The files an images part lists, or None where it is missing or damaged."""
    path = root / "images" / f"part-{shard}.parquet"
    if not path.exists() or not tables.check_seal(path):
        return None
    files: dict[str, Any] = json.loads(tables.footer_of(path)["filterbank:files"])
    return files


def files_in(root: Path, folders: Sequence[str]) -> Iterator[str]:
    """Every file in some folders of the output, relative to it."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if not path.is_dir():
                yield path.relative_to(root).as_posix()


def write_filters(root: Path, table: pa.Table) -> None:
    """Write the table of responses, unless it stands there already."""
    staging = Staging(root, "filters")
    fresh = staging.path(FILTERS)
    tables.write_sealed(fresh, table, {})
    if (root / FILTERS).exists() and (root / FILTERS).read_bytes() == fresh.read_bytes():
        staging.discard()
        return
    staging.add(FILTERS)
    staging.commit()

"""The output folder: what it holds, what that says is done, and who may write to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from pipeline.types import Member

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
    """What a run has to do about the listed files; `touched` have a new time and equal bytes."""

    new: tuple[Member, ...]
    redo: Mapping[str, tuple[Member, ...]]
    touched: Mapping[str, tuple[Member, ...]]
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
    members: Sequence[Member],
    waiting: Sequence[str],
    *,
    version: str,
    retry_failed: bool,
    attempts: Mapping[str, int],
    max_attempts: int,
) -> Todo:
    """Sort the listed files into new, changed, touched and done; what is stored but gone vanished.

    An image whose files have the stored sizes and times is taken as unchanged; with another time
    their SHA-256 decides. Damaged shards are done again as a whole.
    """
    files = {escape(member.name): member for member in members}

    @cache
    def look(row: Stored) -> str:
        found = [files[name] for name in row.files if name in files]
        if len(found) < len(row.files) or sum(m.bytes for m in found) != row.bytes:
            return "changed"
        if stamp(found) == row.mtime_ns:
            return "same"
        return "touched" if _hash(found) == row.fingerprint else "changed"

    def again(row: Stored) -> bool:
        if row.status != "failed":
            return False
        if row.kind == "dependency":  # which may be installed by now
            return True
        if row.kind in TRANSIENT:
            return attempts.get(row.image, 1) < max_attempts or retry_failed
        return retry_failed or row.version != version

    new: list[Member] = []
    redo: dict[str, list[Member]] = {}
    touched: dict[str, list[Member]] = {}
    done: set[str] = set()
    retried = 0
    for name, member in files.items():
        rows = state.by_file.get(name, ())
        if not rows:
            new.append(member)
        elif rows[0].shard in state.damaged or len({row.files for row in rows}) > 1:
            redo.setdefault(rows[0].shard, []).append(member)
        elif any(again(row) for row in rows):
            redo.setdefault(rows[0].shard, []).append(member)
            retried += 1
        elif (looks := {look(row) for row in rows}) == {"same"}:
            done.update(row.image for row in rows)
        elif "changed" not in looks:
            touched.setdefault(rows[0].shard, []).append(member)
        else:
            redo.setdefault(rows[0].shard, []).append(member)
    listed = {*files, *map(escape, waiting)}
    gone = [r for rows in state.shards.values() for r in rows if listed.isdisjoint(r.files)]
    return Todo(
        tuple(new),
        {shard: tuple(some) for shard, some in redo.items()},
        {shard: tuple(some) for shard, some in touched.items()},
        len(done),
        tuple(gone),
        retried,
    )


def _hash(members: Sequence[Member]) -> str | None:
    try:
        return fingerprint(members)
    except ReadError:
        return None


def touch(root: Path, shard: str, members: Sequence[Member]) -> None:
    """Note new times of files whose bytes are the stored ones: rewrites the images part only."""
    known = {escape(member.name): member for member in members}
    path = root / "images" / f"part-{shard}.parquet"
    table, footer = tables.read_table(path), tables.footer_of(path)
    rows = zip(table.column("files").to_pylist(), table.column("mtime_ns").to_pylist(), strict=True)
    column = [
        stamp([known[name] for name in files]) if known.keys() >= set(files) else old
        for files, old in rows
    ]
    index = table.schema.get_field_index("mtime_ns")
    table = table.set_column(index, table.schema.field(index), pa.array(column, pa.int64()))
    staging = Staging(root, shard)
    listed = {"filterbank:files": footer.pop("filterbank:files")}
    del footer["filterbank:sha256"]
    table = table.cast(tables.IMAGES).replace_schema_metadata(footer)
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

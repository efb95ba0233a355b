"""What is listed against what is stored: new, changed, touched, done, vanished."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from pipeline.config.schema import Input
from pipeline.errors import ReadError
from pipeline.fingerprint import fingerprint, stamp
from pipeline.keys import escape
from pipeline.pairing import Fields, given_of, lookup, roles_of, shared, shared_fields
from pipeline.storage import Place
from pipeline.store import State, Stored
from pipeline.types import Member, Source

TRANSIENT = frozenset({"io", "timeout", "crashed", "changed"})
"""Failures that the file's bytes do not decide: tried again on each run."""

Given: TypeAlias = Callable[[Sequence[Source], str], Fields]
"""What decides results besides the bytes of files: of a series, or of one source, and its key."""


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


def compare(
    state: State,
    sources: Sequence[Source],
    waiting: Sequence[str],
    given: Given,
    *,
    version: str,
    retry_failed: bool,
    attempts: Mapping[str, int],
    max_attempts: int,
    verify: bool = False,
) -> Todo:
    """Sort what is listed into new, changed, touched and done; what is stored but gone vanished.

    An image of the stored files, of the stored sizes and times, about which the same is given, is
    taken as unchanged; with another time, or to verify, their SHA-256 decides. Damaged shards are
    done again as a whole.
    """
    known = _Listed(sources, given, verify=verify)

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


def rows_of(state: State, sources: Sequence[Source]) -> list[Stored]:
    """The rows of their files, and those of their keys: a series whose files have new names."""
    rows = [row for m in sources[0].members for row in state.by_file.get(escape(m.name), ())]
    rows += [state.by_key[source.key] for source in sources if source.key in state.by_key]
    return list(dict.fromkeys(rows))


def giving(config: Input) -> Given:
    """What gives all text that decides an image's results."""
    cells = lookup(config)

    def given(sources: Sequence[Source], key: str) -> Fields:
        fields = shared_fields(sources)
        roles = shared([roles_of(source, config) for source in sources])
        return given_of(fields, cells(fields, key), roles)

    return given


def idle_lines(
    config: Input, state: State, sources: Sequence[Source], opened: Sequence[Source]
) -> tuple[int, ...]:
    """Lines of the table that are about none of what is listed, stored or opened."""
    if config.table is None:
        return ()
    about = [(source.fields, source.key) for source in (*sources, *opened)]
    for source in sources:
        names = (escape(member.name) for member in source.members)
        stored = (row for name in names for row in state.by_file.get(name, ()))
        about += ((source.fields, row.image) for row in stored)
    each = ({**dict(fields), "image": key} for fields, key in about)
    return config.table.lines_without(config.fields, each)


class _Listed:
    """What is listed now, asked about stored rows."""

    def __init__(self, sources: Sequence[Source], given: Given, *, verify: bool) -> None:
        self.owners = {escape(m.name): source for source in sources for m in source.members}
        self.given, self.verify = given, verify
        self.look = cache(self._look)

    def stamp(self, row: Stored) -> int:
        """The stamp that a row's files and what is given about it have now."""
        files, given = self._now(row)
        return stamp([files[name] for name in row.files], given)

    def _now(self, row: Stored) -> tuple[dict[str, Member], Fields]:
        """The files that an image of a row's files would have now, by name, and what is given."""
        owners = {s.key: s for name in row.files if (s := self.owners.get(name)) is not None}
        files = {escape(m.name): m for source in owners.values() for m in source.files}
        return files, self.given(tuple(owners.values()), row.image)

    def _look(self, row: Stored) -> str:
        files, given = self._now(row)
        if files.keys() != set(row.files) or sum(m.bytes for m in files.values()) != row.bytes:
            return "changed"
        found = [files[name] for name in row.files]
        in_time = stamp(found, given) == row.mtime_ns
        if in_time and not self.verify:
            return "same"
        try:
            same = fingerprint(found, given) == row.fingerprint
        except ReadError:
            same = row.fingerprint is None
        if not same:
            return "changed"
        return "same" if in_time else "touched"


def attempts_of(root: Place) -> dict[str, int]:
    """How often images with a passing failure were tried, from the last run's record."""
    try:
        found = json.loads((root / "run.json").read_bytes())["attempts"]
        return {str(image): int(count) for image, count in found.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}

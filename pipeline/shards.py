"""How new images are cut into shards, the same way after a kill."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from pipeline.headers import Unit
from pipeline.types import Shard, Source

SHARD_SOURCES = 64
SHARD_BYTES = 256 << 20


def cut(units: Iterable[Unit], taken: set[str]) -> Iterator[Shard]:
    """Cut new sources into shards, each closed by its own files only: at 64 sources or 256 MiB.

    A killed run that starts again therefore cuts where the first one did.
    """
    held: list[Source] = []
    size = 0
    for unit in units:
        held += unit
        size += sum(member.bytes for member in unit[0].files)
        if len(held) >= SHARD_SOURCES or size >= SHARD_BYTES:
            yield Shard(_id(held, taken), tuple(held))
            held, size = [], 0
    if held:
        yield Shard(_id(held, taken), tuple(held))


def _id(sources: Sequence[Source], taken: set[str]) -> str:
    keys = "\n".join(source.key for source in sources)
    salt = 0
    while (name := hashlib.sha256(f"{keys}{salt or ''}".encode()).hexdigest()[:16]) in taken:
        salt += 1
    taken.add(name)
    return name

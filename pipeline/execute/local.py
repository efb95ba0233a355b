"""Run shards on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pipeline.types import Progress, Shard, ShardReport

Work: TypeAlias = Callable[[Sequence[Shard]], Iterator[ShardReport | Progress]]


def run_local(work: Work, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
    """Work through shards in this process; those that read for it cost no more than their file."""
    return work(shards)

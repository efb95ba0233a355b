"""Run shards on this machine, and get past files that kill the processes reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pipeline.errors import ReaderCrashed
from pipeline.types import Progress, Shard, ShardReport

Work: TypeAlias = Callable[[Sequence[Shard]], Iterator[ShardReport | Progress]]
Blame: TypeAlias = Callable[[Shard], Shard]

_ROUNDS = 3
"""Crashes in a row, with nothing committed and nobody to blame, after which a run gives up."""


def run_local(
    work: Work, blame: Blame, shards: Sequence[Shard]
) -> Iterator[ShardReport | Progress]:
    """Work through shards; after a crash, again without the sources that caused it.

    A first crash is taken as bad luck and the open shards are simply tried again. After a second
    one `blame` reads the sources of open shards one by one, and gives back the first shard that
    holds a killer with that source failed. Raises ReaderCrashed when none can be found.
    """
    todo = list(shards)
    crashes = 0
    while todo:
        try:
            for report in work(tuple(todo)):
                if isinstance(report, ShardReport):
                    todo = [shard for shard in todo if shard.id != report.shard]
                yield report
        except ReaderCrashed:
            crashes += 1
            if crashes == 1:
                continue
            for i, shard in enumerate(todo):
                judged = blame(shard)
                if judged != shard:
                    todo[i], crashes = judged, 1
                    break
            else:
                if crashes >= _ROUNDS:
                    raise

"""Run shards on this machine, and get past files that kill the processes reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from pipeline.errors import ReaderCrashed
from pipeline.types import Progress, Shard, ShardReport

Work: TypeAlias = Callable[[Sequence[Shard]], Iterator[ShardReport | Progress]]
Blame: TypeAlias = Callable[[Sequence[Shard], ReaderCrashed], Sequence[Shard]]

_ROUNDS = 3
"""Crashes in a row, with nothing committed and nobody to blame, after which a run gives up."""


def run_local(
    work: Work, blame: Blame, shards: Sequence[Shard]
) -> Iterator[ShardReport | Progress]:
    """Work through shards; after a crash, again without the sources that caused it.

    `blame` is given the open shards and returns them with the killers failed: the same shards where
    the crash was bad luck. Raises ReaderCrashed when that happens again and again.
    """
    todo = {shard.id: shard for shard in shards}
    in_vain = 0
    while todo:
        try:
            for report in work(tuple(todo.values())):
                if isinstance(report, ShardReport):
                    del todo[report.shard]
                    in_vain = 0
                yield report
        except ReaderCrashed as crash:
            judged = {shard.id: shard for shard in blame(tuple(todo.values()), crash)}
            in_vain = in_vain + 1 if judged == todo else 0
            if in_vain == _ROUNDS:
                raise
            todo = judged

"""The driver: skip what is done, execute the rest."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

import pyarrow as pa

from pipeline import store
from pipeline.commit import recover
from pipeline.config import parameters
from pipeline.errors import TooManyFailed
from pipeline.journal import Journal
from pipeline.methods import methods
from pipeline.plan import Plan
from pipeline.survey import Survey
from pipeline.types import Notice, Progress, Shard, ShardReport
from pipeline.writers.parquet import FILTERS


def run(survey: Survey, journal: Journal) -> Iterator[ShardReport | Progress]:
    """Do what a survey says, under the lock. Raises FilterbankError; what was committed stays.

    torch is imported here, when a shard is pending, and not before.
    """
    plan = survey.plan
    root, state = plan.root, survey.state
    empty = {shard.id for shard in survey.shards if not shard.sources and not shard.kept}
    if gone := state.replaced | state.unsealed | empty:
        store.drop(root, gone)
    damaged = (name for shard in survey.shards for name in state.damaged.get(shard.id, ()))
    store.drop_pictures(root, damaged)
    for shard, stamps in survey.todo.touched.items():
        store.touch(root, shard, stamps)
    store.write_filters(root, filters_table(plan), methods(plan))
    shards = [shard for shard in survey.shards if shard.id not in empty]
    if not shards:
        return
    budget = plan.config.run.failures_allowed(len(survey.listing.sources))
    failed = 0
    with closing(_execute(plan, shards)) as events:
        for event in events:
            if isinstance(event, Notice):
                journal.log(event.event, **event.details)
                continue
            if isinstance(event, ShardReport):
                journal.shard(event)
                failed += len(event.failed)
            yield event
            if budget is not None and failed > budget:
                message = f"{failed} images failed, more than run.max_failed ({budget}); stopped"
                raise TooManyFailed(message)


def _execute(
    plan: Plan, shards: Sequence[Shard]
) -> Generator[ShardReport | Progress | Notice, None, None]:
    """Have shards done where the config says."""
    run = plan.config.run
    if run.executor == "local":
        from pipeline.work import work

        yield from work(plan, shards)
        return
    from pipeline.remote import pinned, shared

    if run.address is not None:
        from pipeline.execute.ray import run_ray

        yield from run_ray(pinned(plan), shards, address=run.address, needs=needs(plan))
    else:
        from pipeline.execute.processes import run_processes

        count = plan.processes(source for shard in shards for source in shard.sources)
        yield from run_processes(shared(plan, count), shards, count)
    recover(plan.root)  # who was given up may have gone on for a while


def needs(plan: Plan) -> dict[str, float]:
    """What of a machine a worker takes that computes in a process of its own, in Ray's words."""
    run = plan.config.run
    memory = {} if run.memory == "auto" else {"memory": run.memory}
    if plan.device == "cuda":
        return {"GPU": 1, "CPU": max(1, plan.workers), **memory}
    return {"CPU": plan.threads, **memory}


def filters_table(plan: Plan) -> pa.Table:
    """The table of responses: what each name in the other tables means."""
    rows = [
        {
            "filter": response.name,
            "id": response.id,
            "family": response.filter.family,
            "parameters": json.dumps(parameters(response.filter.filter), sort_keys=True),
            "units": response.filter.unit or "pixels",
            "rank": response.filter.rank,
            "bands": [str(band) for band in response.filter.bands or ()] or None,
            "boundary": str(response.filter.boundary or plan.config.boundary),
        }
        for response in plan.responses
    ]
    return pa.Table.from_pylist(rows, schema=FILTERS)

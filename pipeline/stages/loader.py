"""Jobs in order -> loaded batches, decoded ahead in reader processes."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any

from torch.utils.data import DataLoader

from pipeline.errors import ReaderCrashed
from pipeline.plan import Plan
from pipeline.stages.processes import start_forkserver, start_worker
from pipeline.stages.read import Job, Loaded, Tiles
from pipeline.types import Shard, Source, Tile


def read(
    plan: Plan,
    shards: Sequence[Shard],
    *,
    passes: int,
    wanted: Callable[[Tile], bool] = lambda _: True,
) -> Iterator[Loaded]:
    """Decode shards in order, reading ahead across their borders; batches never cross them.

    passes: how often the tiles of a scene are read, one pass after another; wanted: whether one is
    still of use when its turn comes.

    Sources that have a failure already are left out. Raises ReaderCrashed when a reader process
    dies; which file killed it is for `blame` to find out.
    """
    issued: list[Job] = []

    def issue() -> Iterator[Job]:
        for i, shard in enumerate(shards):
            for job in _jobs(plan, i, shard, passes):
                if job.turn is None or wanted(job.tiles[0]):
                    issued.append(job)
                    yield job

    jobs = issue()
    first = list(islice(jobs, max(1, plan.workers)))
    if not first:
        return
    options: dict[str, Any] = {}
    if plan.workers:
        start_forkserver()
        options = {
            "num_workers": len(first),
            "prefetch_factor": 2,
            "multiprocessing_context": "forkserver",
            "worker_init_fn": start_worker,
        }
    loader: DataLoader[Loaded] = DataLoader(
        Tiles(plan),
        sampler=chain(first, jobs),
        batch_size=None,
        pin_memory=plan.device == "cuda",
        **options,
    )
    done = 0
    try:
        with _holding_signals():
            batches = iter(loader)
        _watch_closely(batches)
        for loaded in batches:
            done += 1
            yield loaded
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, RuntimeError) and "exited unexpectedly" not in str(error):
            raise
        flying = issued[done : done + 2 * plan.workers + 1]
        message = (
            "reader processes keep dying, and no file by itself is to blame "
            f"({error}); is memory or /dev/shm short? Try --workers 0"
        )
        suspects = tuple(tile.source.key for job in flying for tile in job.tiles)
        raise ReaderCrashed(message, suspects) from error


def _watch_closely(batches: Any) -> None:
    """Look for dead readers twice a second: torch does so every 5 s, and has no public word for it.

    Where a release of torch calls it otherwise, a crash only takes longer to notice. The proxy
    keeps `batches` out of a cycle: it stops its readers when the last reference to it goes.
    """
    if hasattr(batches, "_try_get_data"):
        look = type(batches)._try_get_data
        batches._try_get_data = partial(look, weakref.proxy(batches), 0.5)


def _jobs(plan: Plan, index: int, shard: Shard, passes: int) -> Iterator[Job]:
    """Cut a shard into jobs: buckets of one shape, in order of their first member.

    Where maps are kept they are written in the order of keys, so only neighbours share a job. A
    scene is a bucket of its own, with its tiles once for each pass.
    """
    buckets: dict[object, list[Source]] = {}
    run, last = 0, None
    for source in sorted(shard.sources, key=lambda s: s.key):
        if source.failure is not None:
            continue
        info = source.header
        kind = (info.shape, info.bands, info.dtype, info.grid, info.georeferenced)
        scene = source.key if plan.is_scene(info) else None
        if plan.config.output.maps != "none" and (kind, scene) != last:
            run, last = run + 1, (kind, scene)
        buckets.setdefault((run, kind, scene), []).append(source)
    for sources in buckets.values():
        tiles = [tile for source in sources for tile in plan.tiles(source)]
        if plan.is_scene(sources[0].header):
            for turn in range(passes):
                for tile in tiles:
                    yield Job(index, (tile,), turn, tile is tiles[0])
        else:
            size = plan.batch_size(sources[0].header)
            for i in range(0, len(tiles), size):
                yield Job(index, tuple(tiles[i : i + size]))


@contextmanager
def _holding_signals() -> Iterator[None]:
    """Deliver SIGINT and SIGTERM at the end: half-started reader processes complain, and stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in stops}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])

"""Jobs in order -> loaded batches, decoded ahead in reader processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import forkserver, parent_process, resource_tracker
from typing import Any

from torch.utils.data import DataLoader

from pipeline.errors import ReaderCrashed
from pipeline.plan import Plan, tiles_of
from pipeline.stages.read import Job, Loaded, Tiles
from pipeline.types import Shard, Tile


def read(plan: Plan, shards: Sequence[Shard]) -> Iterator[Loaded]:
    """Decode shards in order, reading ahead across their borders; batches never cross them.

    Sources that have a failure already are left out. Raises ReaderCrashed when a reader process
    dies; which file killed it is for `blame` to find out.
    """
    jobs = [job for i, shard in enumerate(shards) for job in _jobs(plan, i, shard)]
    if not jobs:
        return
    options: dict[str, Any] = {}
    if plan.workers:
        _start_forkserver()
        options = {
            "num_workers": min(plan.workers, len(jobs)),
            "prefetch_factor": 2,
            "multiprocessing_context": "forkserver",
            "worker_init_fn": start_worker,
        }
    loader: DataLoader[Loaded] = DataLoader(
        Tiles(plan),
        sampler=jobs,
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
        flying = jobs[done : done + 2 * plan.workers + 1]
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


def _jobs(plan: Plan, index: int, shard: Shard) -> Iterator[Job]:
    """Cut a shard into jobs: buckets of one shape, in order of their first member.

    Where maps are kept they are written in the order of keys, so only neighbours share a job.
    """
    buckets: dict[object, list[Tile]] = {}
    run, last = 0, None
    for source in sorted(shard.sources, key=lambda s: s.key):
        if source.failure is not None:
            continue
        info = source.header
        kind = (info.shape, info.bands, info.dtype, info.grid)
        if plan.config.output.maps != "none" and kind != last:
            run, last = run + 1, kind
        for tile in tiles_of(source):
            buckets.setdefault((run, kind, tile.core.shape), []).append(tile)
    for tiles in buckets.values():
        size = plan.batch_size(tiles[0].source.header)
        for i in range(0, len(tiles), size):
            yield Job(index, tuple(tiles[i : i + size]))


def _start_forkserver() -> None:
    """Start the process that reader processes are forked from, deaf to Ctrl-C like all of them.

    It is the main process that stops them; the mask of blocked signals is inherited.
    """
    forkserver.set_forkserver_preload(["pipeline.stages.read"])
    _start_resource_tracker()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_resource_tracker() -> None:
    """Start the process that tidies up after us, and by itself, because doing so unblocks signals.

    It is told not to warn of what a stopped run left to it: that is what it is for.
    """
    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


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


def start_worker(_: int) -> None:
    """Leave stopping to the main process, as Ctrl-C reaches the whole group; end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_main, daemon=True).start()


def _end_with_main() -> None:
    """The fork server outlives a killed main process as long as readers live, and they it."""
    main = parent_process()
    assert main is not None
    main.join()
    os._exit(1)

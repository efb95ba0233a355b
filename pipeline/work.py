"""Shards in, committed shards out: the only function an executor ever calls."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeAlias

# Spinning OpenMP threads collapse on busy machines; must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Fresh memory in pages of 2 MiB: a fault for every 4 KiB costs more than a small kernel.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# What is imported stays: looking at it for garbage time and again takes an eighth of a start.
gc.disable()

import torch

from pipeline.commit import writing
from pipeline.errors import DeviceError
from pipeline.heap import keep_memory
from pipeline.plan import Plan
from pipeline.stages.decode import check_decoder
from pipeline.stages.filter import Result, compute
from pipeline.stages.lanes import Lanes
from pipeline.stages.loader import read
from pipeline.stages.measure import Briefs
from pipeline.stages.read import Job, Loaded
from pipeline.stages.scene import Scenes, Task
from pipeline.stages.tile import Key, Piece, attempted, compute_tile, hold
from pipeline.stages.write import Sink
from pipeline.types import Progress, Shard, ShardReport
from pipeline.watch import COMPUTED, Timesheet

gc.freeze()
gc.enable()

Outcome: TypeAlias = Result | Piece
"""What a batch amounts to, or a tile."""


def work(plan: Plan, shards: Sequence[Shard], room: str = "") -> Iterator[ShardReport | Progress]:
    """Read, filter, measure and write shards in order, and commit each when it is complete.

    Decoding runs ahead in reader processes; several batches are computed at once, each in one
    thread. Neither changes a bit of any result. room: where shards wait for the driver to
    commit them, if it is another process. Raises ReaderCrashed, WriteError and
    DeviceError; what was committed before stays.
    """
    with _telling_of_the_device():
        configure(plan)
        yield from _work(plan, shards, room)


@contextmanager
def _telling_of_the_device() -> Iterator[None]:
    """Say in a line that the device was lost, whatever was asked of it."""
    try:
        yield
    except torch.AcceleratorError as error:
        raise DeviceError(str(error).splitlines()[0]) from error


def _work(plan: Plan, shards: Sequence[Shard], room: str) -> Iterator[ShardReport | Progress]:
    threads = plan.parallel(source for shard in shards for source in shard.sources)
    waiting = iter(shards)
    sheet = Timesheet(
        {"read": max(1, plan.workers), "write": 1, **dict.fromkeys(COMPUTED, threads)}
    )
    open_sink: Sink | None = None
    position = -1
    with writing(plan.root), _discarding(lambda: open_sink), closing(Scenes(plan, room)) as scenes:
        loads = read(plan, shards, passes=plan.passes, wanted=scenes.wanted)
        lanes = Lanes(plan.device, threads)
        with _pool(threads) as pool:
            for loaded, results in _in_order(pool, lanes, plan, loads, scenes):
                while position < loaded.job.shard:
                    if open_sink is not None:
                        yield _commit(open_sink, sheet)
                    open_sink, position = Sink(plan, next(waiting), room), position + 1
                assert open_sink is not None
                yield _absorb(open_sink, scenes, loaded, results, sheet)
        if open_sink is not None:
            yield _commit(open_sink, sheet)
        for shard in waiting:
            open_sink = Sink(plan, shard, room)
            yield _commit(open_sink, sheet)


@contextmanager
def _discarding(sink: Callable[[], Sink | None]) -> Iterator[None]:
    """Give the disk back what a shard had staged when its work is cut short."""
    try:
        yield
    except BaseException:
        if (unfinished := sink()) is not None:
            unfinished.staging.discard()
        raise


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool; work that is cut short does not wait for what is being computed.

    Each thread asks for one of OpenMP, as `configure` did for the one that it was called in: MKL
    else wakes a second one for a root of a hundred numbers, which takes a hundred times as long.
    """
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _commit(sink: Sink, sheet: Timesheet) -> ShardReport:
    with sheet.writing():
        report = sink.commit()
    if sink.plan.device == "cuda":
        sheet.gpu(torch.cuda.get_device_name(), torch.cuda.max_memory_reserved())
    return replace(report, effort=sheet.close())


def _absorb(
    sink: Sink,
    scenes: Scenes,
    loaded: Loaded,
    outcomes: Sequence[Outcome],
    sheet: Timesheet,
) -> Progress:
    """Keep what was computed of a load; tiles of a scene until it is complete.

    What is still in flight of one that failed says nothing more: its first failure counts.
    """
    for spent in (loaded, *outcomes):
        sheet.add(spent.seconds)
    if loaded.peak:  # by another process than this one
        sheet.peak("read", loaded.peak)
    if loaded.job.turn is not None and not scenes.wanted(loaded.job.tiles[0]):
        return Progress(0, 0)
    with sheet.writing():
        return _keep(sink, scenes, loaded, outcomes)


def _keep(sink: Sink, scenes: Scenes, loaded: Loaded, outcomes: Sequence[Outcome]) -> Progress:
    sink.identify(loaded)
    for source, _ in loaded.failures:
        scenes.end(source.key)
    results: list[Result] = []
    pixels = 0
    for outcome in outcomes:
        result = scenes.add(outcome) if isinstance(outcome, Piece) else outcome
        if isinstance(outcome, Piece):
            pixels += outcome.pixels
        elif outcome.failure is None:
            pixels += sum(source.pixels for source in outcome.sources)
        results += [] if result is None else [result]
    sink.add(results)
    sources = [source for result in results for source in result.sources]
    for source in sources:
        scenes.end(source.key)
    return Progress(len(sources) + len(loaded.failures), pixels)


def _in_order(
    pool: ThreadPoolExecutor, lanes: Lanes, plan: Plan, batches: Iterator[Loaded], scenes: Scenes
) -> Iterator[tuple[Loaded, Sequence[Outcome]]]:
    """Compute in the pool, and hand results out in order; one load more than there are lanes waits.

    A further pass over a scene begins when all of the one before it is gathered; one that is held
    is done before anything else once its last tile is there. Small images, of
    which several are one load, are not read by this process while its only thread computes: reading
    them is mostly Python, whose lock makes both slower (10 % of the CPU time), and none is done
    sooner.
    """
    in_turn = plan.device == "cpu" and lanes.count == 1 and not plan.workers
    flying: deque[tuple[Loaded, Future[Sequence[Outcome]]]] = deque()
    for loaded in batches:
        while flying and loaded.job.turn and loaded.job.first:
            first, future = flying.popleft()
            yield first, future.result()
        tile, held = loaded.job.tiles[0], False
        if loaded.job.turn is None:
            task = partial(_images, plan, loaded)
        elif scenes.wanted(tile):
            held = scenes.holds(tile)
            task = partial(_tiles, plan, loaded, scenes.briefs(tile), held=held)
        else:
            continue
        flying.append((loaded, pool.submit(_tried, lanes, task)))
        while len(flying) > (0 if in_turn and len(loaded.job.tiles) > 1 else lanes.count):
            first, future = flying.popleft()
            yield first, future.result()
        if held and loaded.job.last:
            while flying:
                first, future = flying.popleft()
                yield first, future.result()
            yield from _rounds(pool, lanes, loaded.job, scenes)
    for first, future in flying:
        yield first, future.result()


def _rounds(
    pool: ThreadPoolExecutor, lanes: Lanes, job: Job, scenes: Scenes
) -> Iterator[tuple[Loaded, Sequence[Outcome]]]:
    """Do what is left of a scene that is held, round by round."""
    for tasks in scenes.rounds(job.tiles[0]):
        for future in [pool.submit(_tried, lanes, partial(_one, task)) for task in tasks]:
            yield Loaded(job, ()), future.result()


def _one(task: Task) -> Sequence[Outcome]:
    return [task()]


def _tried(lanes: Lanes, compute: Callable[[], Sequence[Outcome]]) -> Sequence[Outcome]:
    """Compute in a lane; what memory did not hold beside others is tried without them.

    What fails must not depend on what happened to be computed at the same time.
    """
    with lanes.one():
        found = compute()
    if lanes.count > 1 and any(_lacked_memory(outcome) for outcome in found):
        del found  # which may hold maps
        with lanes.alone():
            found = compute()
    return found


def _lacked_memory(outcome: Outcome) -> bool:
    failure = outcome.failure if isinstance(outcome, Result) else None
    return failure is not None and failure.kind == "limit"


def _images(plan: Plan, loaded: Loaded) -> Sequence[Outcome]:
    files = () if loaded.encoded is None else (loaded.encoded,)
    return [result for batch in (*loaded.batches, *files) for result in compute(plan, batch)]


def _tiles(
    plan: Plan, loaded: Loaded, briefs: Mapping[Key, Briefs] | None, *, held: bool
) -> Sequence[Outcome]:
    return [
        attempted(
            batch.tiles[0].source,
            partial(hold, plan, batch) if held else partial(compute_tile, plan, batch, briefs),
        )
        for batch in loaded.batches
    ]


def configure(plan: Plan) -> None:
    """Make torch's arithmetic exact and repeatable in this process.

    One thread per batch, because some of torch's sums depend on the number of threads; no TF32,
    whose 10-bit mantissas fail IBSI 1.a.3. Raises DeviceError where the device is missing, or does
    not decode JPEG as it should.
    """
    keep_memory()  # later than the command does it, in an actor
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if plan.device == "cuda":
        if not torch.cuda.is_available():
            message = "no CUDA device here; use --device cpu with another output folder"
            raise DeviceError(message)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    if plan.decodes_jpeg:
        check_decoder(plan.device)

"""Jobs in order -> loaded batches, decoded ahead in reader processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from pipeline.plan import Plan
from pipeline.stages.read import Job, Loaded, Tiles, paths_of
from pipeline.types import Failure, Shard, Source, Tile
from pipeline.workers.bounds import Bounds, unguarded
from pipeline.workers.pool import Crew, in_order


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

    Sources that have a failure already are left out. One whose reading ends its process, or takes
    too long, is a failure as any other; a file that took too long is not opened again. Raises
    ReaderCrashed when processes die and no file is to blame.
    """
    hanging: dict[str, Failure] = {}

    def issue() -> Iterator[Job]:
        for i, shard in enumerate(shards):
            for job in _jobs(plan, i, shard, passes):
                if job.turn is None or wanted(job.tiles[0]):
                    yield job.without_files(hanging)

    with closing(_read(plan, issue())) as loads:
        for loaded in loads:
            for source, failure in loaded.failures:
                if failure.kind == "timeout":
                    hanging |= dict.fromkeys(paths_of(source), failure)
            yield loaded.pinned() if plan.device == "cuda" else loaded


def _read(plan: Plan, jobs: Iterator[Job]) -> Generator[Loaded, None, None]:
    """Do jobs in processes within the config's limits, or in this one without any."""
    tiles, limits = Tiles(plan), plan.config.limits
    if plan.workers:
        bounds = Bounds(limits.seconds_per_file, limits.reader_memory)
        return in_order(tiles, jobs, Crew(plan.workers, "forkserver", bounds))
    return (tiles(job, unguarded) for job in jobs)


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
                    ends = tile is tiles[0], tile is tiles[-1]
                    yield Job(index, (tile,), plan.box(tile), turn, *ends)
        else:
            size = plan.batch_size(sources[0].header)
            for i in range(0, len(tiles), size):
                yield Job(index, tuple(tiles[i : i + size]), plan.box(tiles[0]))

"""What a run would do: everything decided, shards included, before the first pixel is read."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import store
from pipeline.changes import Todo, attempts_of, compare, giving, idle_lines, rows_of
from pipeline.config import Config
from pipeline.config.quantities import written_size
from pipeline.discover import Listing, list_members, slices_of
from pipeline.diskspace import fit
from pipeline.errors import DeviceError, InputError, PlanError
from pipeline.headers import Unit, open_all
from pipeline.keys import escape
from pipeline.lock import refuse_foreign
from pipeline.plan import Plan
from pipeline.refusals import (
    fewer_readers,
    refuse_decoder,
    refuse_executor,
    refuse_memory,
    refuse_other_plan,
    refuse_own_output,
)
from pipeline.shards import cut
from pipeline.stages.mapfiles import require
from pipeline.storage import Place
from pipeline.types import Failure, Shard, Source
from pipeline.version import __version__
from pipeline.workers.start import refuse_few_files


@dataclass(frozen=True)
class Options:
    """How a run happens, from the command line; nothing here changes what is computed."""

    retry_failed: bool = False
    prune: bool = False
    prune_limit: float = 0.1
    if_empty: str = "fail"
    overwrite: str | None = None
    limit: int | None = None
    verify: bool = False


@dataclass(frozen=True)
class Survey:
    """What a run would do: the plan, what is listed, what is stored, and the shards to compute.

    idle: lines of the table that are about no image; empty where not all images are known yet.
    postponed: images that are left as they are, as their results do not fit on the disk now.
    """

    plan: Plan
    listing: Listing
    state: store.State
    todo: Todo
    shards: tuple[Shard, ...]
    pruned: tuple[str, ...] = ()
    idle: tuple[int, ...] = ()
    postponed: tuple[Source, ...] = ()

    @property
    def sources(self) -> list[Source]:
        """Everything to be computed or failed."""
        return [source for shard in self.shards for source in shard.sources]

    @property
    def failed_before(self) -> list[store.Stored]:
        """Failed rows of listed files that stay as they are."""
        redone = {source.key for source in self.sources} | set(self.pruned)
        gone = {row.image for row in self.todo.vanished}
        return [
            row
            for rows in self.state.shards.values()
            for row in rows
            if row.status == "failed" and row.image not in redone | gone
        ]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the folder holds already what a run would leave."""
        state = self.state
        redone = self.shards or self.todo.touched or self.pruned
        lost = bool(state.shards) and not state.filters
        return not (redone or state.unsealed or state.replaced or lost)


def root_of(config: Config) -> Place:
    """The output folder of a config, which may hold the digest, and so the device kind."""
    if "{digest}" in config.output.path:
        return Plan(config, _device(config.run.device, None)).root
    return Plan(config, "cpu").root


def survey(config: Config, options: Options) -> Survey:
    """Decide everything that needs no pixels. Reads headers of new and changed files only.

    Raises InputError when nothing is listed, PlanError when the folder holds another plan or the
    prune guard says no, DeviceError, MissingDependency.
    """
    plan, state = _plan(config, options)
    if not plan.responses:
        message = "the bank has no response; add something to filters"
        raise PlanError(message)
    require(plan)
    refuse_few_files(plan.workers)
    refuse_foreign(plan.root)
    refuse_own_output(config, plan.root)
    refuse_executor(plan)
    refuse_memory(plan)
    refuse_decoder(plan)
    listing = list_members(config.input, output=plan.root, now=time.time())
    if not listing.sources and not listing.waiting:
        _refuse_empty(config, options, listing)
    refuse_other_plan(plan, state)
    todo = compare(
        state,
        listing.sources,
        listing.waiting,
        giving(config.input),
        version=__version__,
        retry_failed=options.retry_failed,
        attempts=attempts_of(plan.root),
        max_attempts=config.run.max_attempts,
        verify=options.verify,
    )
    if options.limit is not None:
        todo = replace(todo, new=todo.new[: options.limit])
    new, redo = _units(plan, state, todo, listing)
    again = {source.key for unit in redo for source in unit}
    todo = replace(todo, vanished=tuple(row for row in todo.vanished if row.image not in again))
    pruned = _pruned(todo, state, options, listing)
    opened = [source for unit in (*new, *redo) for source in unit]
    new, redo, late = fit(plan, state, new, redo)
    shards = tuple(_shards(state, new[: options.limit], redo, pruned))
    known = options.limit is None and not listing.waiting
    idle = idle_lines(config.input, state, listing.sources, opened) if known else ()
    postponed = tuple(source for unit in late for source in unit)
    return Survey(plan, listing, state, todo, shards, pruned, idle, postponed)


def _plan(config: Config, options: Options) -> tuple[Plan, store.State]:
    """The plan and the folder's state; `auto` keeps the device kind of what is stored."""
    state = store.load(root_of(config), overwrite=options.overwrite, verify=options.verify)
    return Plan(config, _device(config.run.device, state.device)), state


def _device(wanted: str, stored: str | None) -> str:
    """The kind of device to run on; torch is asked only for a fresh folder with a driver."""
    kind = wanted if wanted != "auto" else stored
    if kind == "cpu":
        return "cpu"
    has_driver = Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()
    if kind == "cuda" and not has_driver:
        message = "no CUDA device here; use --device cpu (and an output folder of its own)"
        raise DeviceError(message)
    if kind is None and has_driver:
        import torch

        has_driver = torch.cuda.is_available()
    return "cuda" if has_driver else "cpu"


def _refuse_empty(config: Config, options: Options, listing: Listing) -> None:
    if options.prune:
        message = "--prune would remove every image: nothing is listed; is a disk missing?"
        raise PlanError(message)
    if options.if_empty == "skip" and not listing.skipped:
        return
    why = ", ".join(f"{n} {reason}" for reason, n in listing.skipped.most_common())
    message = (
        f"no input matched in {', '.join(config.input.path)}"
        f"{f' ({why})' if why else ''}; check input.path, include and exclude"
    )
    raise InputError(message)


def _pruned(todo: Todo, state: store.State, options: Options, listing: Listing) -> tuple[str, ...]:
    if not options.prune or not todo.vanished:
        return ()
    if listing.unread:
        message = f"--prune would remove images that may be there: {listing.unread}; allow it first"
        raise PlanError(message)
    stored = sum(len(rows) for rows in state.shards.values())
    if len(todo.vanished) > options.prune_limit * stored:
        message = (
            f"--prune would remove {len(todo.vanished)} of {stored} images, more than "
            f"{options.prune_limit:.0%}; is a disk missing? Raise --prune-limit if it is meant"
        )
        raise PlanError(message)
    return tuple(row.image for row in todo.vanished)


def _shards(
    state: store.State, new: Sequence[Unit], redo: Sequence[Unit], gone: Collection[str]
) -> Iterator[Shard]:
    """Shards to do again under their ids, then new ones cut from what no shard holds."""
    redone = {escape(m.name) for unit in redo for m in unit[0].members}
    gone = {*gone, *(source.key for unit in redo for source in unit)}

    def stays(row: store.Stored) -> bool:
        return row.image not in gone and redone.isdisjoint(row.files)

    homes: dict[str, list[Source]] = {
        shard: [] for shard, rows in sorted(state.shards.items()) if not all(map(stays, rows))
    }
    for unit in redo:
        homes[min(row.shard for row in rows_of(state, unit))] += unit
    for shard, sources in homes.items():
        kept = tuple(row.image for row in state.shards[shard] if stays(row))
        yield Shard(shard, tuple(sources), kept, state.torn.get(shard, ()))
    yield from cut(new, taken=set(state.shards))


def _units(
    plan: Plan, state: store.State, todo: Todo, listing: Listing
) -> tuple[list[Unit], list[Unit]]:
    """What is new, and what is to be done again: headers of its files, and of their series.

    A file that came, went or changed may change every series of its folder, so the slices there
    are grouped anew; what then is as it was stored stays.
    """
    fresh = {s.key: s for some in (todo.new, *todo.redo.values()) for s in some}
    folders = {_folder(s) for s in slices_of(fresh.values(), set(map(_folder, fresh.values())))}
    sources = fresh | {s.key: s for s in slices_of(listing.sources, folders)}
    changed = {m.name for source in fresh.values() for m in source.members}
    png = plan.config.output.png
    first = listing.sources[: None if png is None else png.sample]
    shown = {m.name for source in first for m in source.members}
    new: list[Unit] = []
    redo: list[Unit] = []
    config = plan.config
    opened = open_all(tuple(sources.values()), config.input, config.limits, workers=plan.workers)
    for unit in opened:
        names = [m.name for m in unit[0].members]
        rows = rows_of(state, unit)
        if changed.isdisjoint(names) and _is_as_stored(unit, rows):
            continue
        drawn = not shown.isdisjoint(names)
        ready = tuple(replace(checked(plan, source), drawn=drawn) for source in unit)
        (redo if rows else new).append(ready)
    return new, redo


def _folder(source: Source) -> str:
    return source.members[0].folder


def _is_as_stored(unit: Unit, rows: Sequence[store.Stored]) -> bool:
    files = tuple(escape(member.name) for member in unit[0].files)
    keys = {source.key for source in unit}
    return keys == {row.image for row in rows} and all(row.files == files for row in rows)


def checked(plan: Plan, source: Source) -> Source:
    """Fail a source that this bank or this memory cannot do; its header is enough to know."""
    if source.failure is not None:
        return source
    try:
        plan.prepared(source.header)  # steps may ask for more of a header than memory depends on
        need = plan.bytes_needed(source.header)
    except PlanError as error:
        return source.fail(Failure("unsupported", str(error)))
    if need > plan.room:
        left = f", {written_size(max(0, plan.room))} of run.memory are left for images"
        help = f"raise it{fewer_readers(plan)}"
        text = f"needs about {written_size(need)} of memory{_why(plan, source)}{left}; {help}"
        return source.fail(Failure("limit", text))
    return source


def _why(plan: Plan, source: Source) -> str:
    """What in the config keeps a scene from being cut into tiles."""
    names = plan.needs_whole(source.header) if source.header.windowed else ()
    return f" at once, because of {', '.join(names[:3])}" if names else ""

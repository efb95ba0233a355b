"""Do the results of a run fit on the disk? Decided from headers, before the first pixel."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.changes import rows_of
from pipeline.config.quantities import written_size
from pipeline.errors import PlanError
from pipeline.headers import Unit
from pipeline.plan import Plan
from pipeline.stages.mapfiles import needs
from pipeline.storage import local_of
from pipeline.store import State
from pipeline.types import Failure, Source

_WIDTH = {"none": 0, "float32": 4, "float16": 2}


@dataclass(frozen=True, slots=True)
class Space:
    """What is kept of the responses of images, in bytes before packing.

    maps: in the table; files: GeoTIFF and NIfTI files, and how many; meanwhile: what making those
    of one image takes besides.
    """

    maps: int = 0
    count: int = 0
    files: int = 0
    meanwhile: int = 0

    @property
    def least(self) -> int:
        """What must be free at least, as packing does not do better than to halve maps."""
        return (self.maps + self.files + self.meanwhile) // 2


def space_of(plan: Plan, source: Source) -> Space:
    """What an image that can be used will take."""
    info = source.header
    planes = sum(map(len, plan.bands_of(info).values()))
    maps = planes * source.pixels * _WIDTH[plan.config.output.maps]
    needed = needs(plan, source)
    waiting = maps if plan.is_scene(info) else 0
    return Space(maps, needed.files, needed.kept, needed.meanwhile - needed.kept + waiting)


def together(spaces: Sequence[Space]) -> Space:
    """What images will take that are computed one after the other."""
    return Space(
        sum(one.maps for one in spaces),
        sum(one.count for one in spaces),
        sum(one.files for one in spaces),
        max((one.meanwhile for one in spaces), default=0),
    )


def fit(
    plan: Plan, state: State, new: Sequence[Unit], redo: Sequence[Unit]
) -> tuple[list[Unit], list[Unit], list[Unit]]:
    """Part what is new, and what is to be done again, from what has to wait for space on the disk.

    An image whose results alone are larger than the disk fails, and stops no other. Where they are
    larger than what is free now its files wait, and so do all others of a shard that is damaged.
    """
    disk = _disk(plan)
    if disk is None:
        return list(new), list(redo), []
    total, free = disk

    def fitting(source: Source) -> Source:
        least = 0 if source.failure is not None else space_of(plan, source).least
        if least <= total:
            return source
        text = f"its maps need at least {written_size(least)} of disk, more than there is"
        return source.fail(Failure("limit", f"{text}; {_FEWER}"))

    def late(unit: Unit) -> bool:
        usable = (source for source in unit if source.failure is None)
        return any(space_of(plan, source).least > free for source in usable)

    new, redo = ([tuple(map(fitting, unit)) for unit in units] for units in (new, redo))
    held = {row.shard for unit in redo if late(unit) for row in rows_of(state, unit)}
    held &= state.damaged.keys()

    def waits(unit: Unit) -> bool:
        return late(unit) or (bool(held) and any(r.shard in held for r in rows_of(state, unit)))

    return (
        [unit for unit in new if not waits(unit)],
        [unit for unit in redo if not waits(unit)],
        [unit for unit in (*new, *redo) if waits(unit)],
    )


def refuse_small_disk(plan: Plan, sources: Sequence[Source]) -> None:
    """Raise PlanError where what is kept of all images cannot fit on the disk."""
    disk = _disk(plan)
    if disk is not None and (least := _least(plan, sources)) > disk[1]:
        remedy = _FEWER if least > disk[0] else f"free the disk, or {_FEWER}"
        message = (
            f"maps need at least {written_size(least)}; they do not fit on the disk of "
            f"{plan.root} ({written_size(disk[1])} free); {remedy}"
        )
        raise PlanError(message)


def waiting_for_space(plan: Plan, sources: Sequence[Source]) -> str:
    """How many images were left undone for want of space, and what helps."""
    disk = _disk(plan)
    wait = "1 image waits" if len(sources) == 1 else f"{len(sources)} images wait"
    free = f" ({written_size(disk[1])} free)" if disk else ""
    return (
        f"{wait} for space on the disk of {plan.root}: maps need at least "
        f"{written_size(_least(plan, sources))}{free}; free the disk and run again"
    )


_FEWER = "keep fewer (output.maps, geotiff, nifti)"


def _least(plan: Plan, sources: Sequence[Source]) -> int:
    return together([space_of(plan, one) for one in sources if one.failure is None]).least


def _disk(plan: Plan) -> tuple[int, int] | None:
    """Bytes of the disk, all and free; None where no maps are kept, or not on a disk."""
    output, local = plan.config.output, local_of(plan.root)
    if local is None or (output.maps == "none" and not (output.geotiff or output.nifti)):
        return None
    usage = shutil.disk_usage(next(p for p in (local, *local.parents) if p.exists()))
    return usage.total, usage.free

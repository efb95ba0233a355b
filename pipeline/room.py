"""Do the results of a run fit on the disk? Decided from headers, before the first pixel."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import PlanError
from pipeline.plan import Plan
from pipeline.stages.mapfiles import needs
from pipeline.storage import local_of
from pipeline.survey import Survey
from pipeline.types import Failure, Source

_WIDTH = {"none": 0, "float32": 4, "float16": 2}


@dataclass(frozen=True, slots=True)
class Room:
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


def room_of(plan: Plan, source: Source) -> Room:
    """What an image that can be used will take."""
    info = source.header
    planes = sum(map(len, plan.bands_of(info).values()))
    maps = planes * source.pixels * _WIDTH[plan.config.output.maps]
    needed = needs(plan, source)
    waiting = maps if plan.is_scene(info) else 0
    return Room(maps, needed.files, needed.kept, needed.meanwhile - needed.kept + waiting)


def together(rooms: Sequence[Room]) -> Room:
    """What images will take that are computed one after the other."""
    return Room(
        sum(one.maps for one in rooms),
        sum(one.count for one in rooms),
        sum(one.files for one in rooms),
        max((one.meanwhile for one in rooms), default=0),
    )


def fit(survey: Survey) -> Survey:
    """Fail each image whose results alone do not fit on the disk, so that it stops no other.

    One that never will is over a limit; for another there may be room when it is tried again.
    """
    space = _space(survey.plan)
    if space is None:
        return survey
    total, free = space

    def fitting(source: Source) -> Source:
        if source.failure is not None:
            return source
        least = room_of(survey.plan, source).least
        if least <= free:
            return source
        text = f"its maps need at least {least / 2**30:.1f} GiB of disk, more than "
        text += "there is" if least > total else "is free"
        advice = "; keep fewer (output.maps, geotiff, nifti)"
        return source.fail(Failure("limit" if least > total else "io", text + advice))

    shards = (replace(one, sources=tuple(map(fitting, one.sources))) for one in survey.shards)
    return replace(survey, shards=tuple(shards))


def refuse_small_disk(survey: Survey) -> None:
    """Raise PlanError where what is kept of all images cannot fit on the disk."""
    space = _space(survey.plan)
    if space is None:
        return
    usable = (source for source in survey.sources if source.failure is None)
    least = together([room_of(survey.plan, source) for source in usable]).least
    if least > space[1]:
        message = (
            f"maps need at least {least / 2**30:.1f} GiB; they do not fit on the disk of "
            f"{survey.plan.root} ({space[1] / 2**30:.1f} GiB free); keep fewer (output.maps, "
            "geotiff, nifti)"
        )
        raise PlanError(message)


def _space(plan: Plan) -> tuple[int, int] | None:
    """Bytes of the disk, all and free; None where no maps are kept, or not on a disk."""
    output, local = plan.config.output, local_of(plan.root)
    if local is None or (output.maps == "none" and not (output.geotiff or output.nifti)):
        return None
    usage = shutil.disk_usage(next(p for p in (local, *local.parents) if p.exists()))
    return usage.total, usage.free

"""Where responses are measured: the regions' parts in each tile."""

from __future__ import annotations

from pipeline.plan import Plan
from pipeline.types import Region, Roi, Source


def regions_in(plan: Plan, source: Source, core: Region) -> tuple[Roi, ...]:  # noqa: ARG001
    """The parts of all configured regions that lie in a tile's core."""
    return (Roi("image", "image", None, core),)

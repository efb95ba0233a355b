"""One tile of a scene -> what it says: in a pass over all of them, or kept for further work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from pipeline.plan import Plan
from pipeline.stages import lanes
from pipeline.stages.filter import FAILURES, MapRow, Result, Rows, failure_of, keep, responses
from pipeline.stages.measure import Briefs, States, Tally, parts
from pipeline.stages.prepare import prepare
from pipeline.statistics import accumulators
from pipeline.types import Batch, Region, Response, Roi, Source, Tile
from pipeline.watch import Seconds
from pipeline.writers.png import finite, reduce
from pipeline.writers.thumbnail import pictured

Key: TypeAlias = tuple[str, str, str]
"""Response, band and region."""

STORED = ""
"""In the place of a response's name, for a preview of the pixels as they are stored."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one tile says of its scene in one pass.

    tile: as it was prepared; tallies, from the first pass, or states, from a further one. With the
    first come parts of regions, rows of those that lie in this tile alone, maps, and previews,
    which are like maps of fewer pixels; pixels: what of the tile is done with it, of as many as it
    has; batch: the tile itself, of a scene that is held; seconds: what all this took.
    """

    tile: Tile
    pixels: int
    rois: tuple[Roi, ...] = ()
    rows: Mapping[str, list[Any]] = field(default_factory=dict)
    tallies: Mapping[Key, Tally] = field(default_factory=dict)
    states: Mapping[Key, States] = field(default_factory=dict)
    maps: Sequence[MapRow] = ()
    previews: Sequence[MapRow] = ()
    batch: Batch | None = None
    seconds: Seconds = field(default_factory=dict)


def compute_tile(plan: Plan, batch: Batch, briefs: Mapping[Key, Briefs] | None) -> Piece | Result:
    """Filter and measure one tile; briefs: what to look for, or None in the first pass.

    Raises what `attempted` catches.
    """
    return _first(plan, batch) if briefs is None else _further(plan, batch, briefs)


def attempted(source: Source, compute: Callable[[], Piece | Result]) -> Piece | Result:
    """Do a part of the work on a scene; a failure is that of the scene.

    Raises AcceleratorError when the device is lost.
    """
    try:
        return compute()
    except FAILURES as error:
        return Result((source,), failure=failure_of(error))


def hold(plan: Plan, batch: Batch) -> Piece:
    """Prepare one tile, and keep it. Raises what `attempted` catches."""
    watch = lanes.watch(plan.device)
    step = preview_step(plan, batch.tiles[0].source)
    previews = _stored(batch, step) if step else []
    prepared = prepare(plan, batch)
    (tile,), (rois,) = prepared.tiles, prepared.regions
    valid = None if prepared.valid is None else prepared.valid.clone()
    kept = replace(prepared, valid=valid, sample=None)  # else all that a reader sent would stay
    watch.lap("filter")
    return Piece(tile, 0, rois, previews=previews, batch=kept, seconds=watch.seconds)


def _first(plan: Plan, batch: Batch) -> Piece:
    watch = lanes.watch(plan.device)
    prepared = prepare(plan, batch)
    (tile,) = batch.tiles
    tallies: dict[Key, Tally] = {}
    maps: list[MapRow] = []
    rows = Rows(plan.config.statistics)
    alone, shared = parted(prepared.regions[0])
    step = preview_step(plan, tile.source)
    previews = _stored(batch, step) if step else []
    for response in responses(plan, tile.source.header, prepared):
        watch.lap("filter")
        rows.measure([response], prepared.tiles, alone, single=True)
        for part in parts(response, prepared.tiles, shared, single=True):
            key = response.name, response.bands[part.rows.start], part.region
            tallies[key] = part.tally(rows.statistics)
        watch.lap("measure")
        if plan.keeps:
            maps += keep(response)[0]
        previews += previews_of(plan, response, tile, step)
        watch.lap("render")
    return Piece(
        prepared.tiles[0],
        tile.core.size // plan.passes,
        prepared.regions[0],
        rows.columns,
        tallies,
        maps=maps,
        previews=previews,
        seconds=watch.seconds,
    )


def parted(rois: Sequence[Roi]) -> tuple[list[list[Roi]], list[list[Roi]]]:
    """The regions that lie in one tile alone, and those that it shares with others."""
    return [[roi for roi in rois if roi.whole]], [[roi for roi in rois if not roi.whole]]


def _further(plan: Plan, batch: Batch, briefs: Mapping[Key, Briefs]) -> Piece:
    watch = lanes.watch(plan.device)
    statistics = accumulators(plan.config.statistics)
    prepared = prepare(plan, batch)
    states: dict[Key, States] = {}
    _, shared = parted(prepared.regions[0])
    asked = {name for name, _, _ in briefs}
    for response in responses(plan, batch.tiles[0].source.header, prepared, asked):
        watch.lap("filter")
        for part in parts(response, prepared.tiles, shared, single=True):
            key = response.name, response.bands[part.rows.start], part.region
            if key in briefs:
                states[key] = part.states(statistics, briefs[key])
        watch.lap("measure")
    tile = prepared.tiles[0]
    return Piece(tile, tile.core.size // plan.passes, states=states, seconds=watch.seconds)


# ---------------------------------------------------------------- previews
def preview_step(plan: Plan, source: Source) -> int:
    """How many pixels, per axis, become one of a preview; 0 where nothing is drawn.

    A power of two, so that the blocks do not cross the borders of tiles; at most a tile.
    """
    png = plan.config.output.png
    if png is None or not source.drawn:
        return 0
    step = 1 << max(0, (-(-max(source.header.shape) // png.size) - 1).bit_length())
    return min(step, max(plan.tiles(source)[0].core.shape))


def previews_of(plan: Plan, response: Response, tile: Tile, step: int) -> list[MapRow]:
    """Previews of a response to a tile, where it is drawn; step: of `preview_step`."""
    if not step or not plan.draws(response.name):
        return []
    return [_preview(row, tile.core, step) for row in keep(response)[0]]


def _preview(row: MapRow, core: Region, step: int) -> MapRow:
    """Means of the valid pixels of a map in step x step blocks of a core, NaN where none is."""
    band, name, origin, values = row
    box = Region(origin, tuple(a + n for a, n in zip(origin, values.shape, strict=True)))
    if box != core:
        whole = np.full(core.shape, np.nan, np.float32)
        whole[box.slices(core.start)] = values
        values = whole
    small, usable = reduce(values, finite(values, None), step)
    at = tuple(a // step for a in core.start)
    return band, name, at, np.where(usable, small, np.nan).astype(np.float32)


def _stored(batch: Batch, step: int) -> list[MapRow]:
    """Previews of those bands of the stored pixels that a photograph shows."""
    core, at = batch.tiles[0].core, batch.tiles[0].core.slices(batch.box.start)
    rows = []
    for i, band in enumerate(batch.bands):
        if band in pictured(batch.bands):
            values = batch.values[0, i][at].double()
            if batch.valid is not None:
                values = values.masked_fill(~batch.valid[0, i][at], torch.nan)
            rows.append(_preview((band, STORED, core.start, values.numpy()), core, step))
    return rows

"""Scenes: what tiles say, gathered pass by pass, until it is what a whole image would say.

Over 300 lines, because pieces, scenes and those under way know each other's insides.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

import pipeline.writers.parquet as tables
from pipeline.errors import ReadError
from pipeline.plan import Plan
from pipeline.stages.extents import RegionRows
from pipeline.stages.filter import MapRow, Result, Rows, failure_of, keep, responses
from pipeline.stages.mapfiles import MapFiles
from pipeline.stages.measure import Briefs, States, Tally, merge_states, parts
from pipeline.stages.prepare import prepare
from pipeline.stages.render import Pictures
from pipeline.statistics import accumulators
from pipeline.storage import scratch
from pipeline.types import Batch, Ints, Region, Roi, Source, Tile
from pipeline.watch import Seconds, Watch
from pipeline.writers.png import Floats, finite, reduce
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
    which are like maps of fewer pixels; seconds: what all this took.
    """

    tile: Tile
    rois: tuple[Roi, ...] = ()
    rows: Mapping[str, list[Any]] = field(default_factory=dict)
    tallies: Mapping[Key, Tally] = field(default_factory=dict)
    states: Mapping[Key, States] = field(default_factory=dict)
    maps: Sequence[MapRow] = ()
    previews: Sequence[MapRow] = ()
    seconds: Seconds = field(default_factory=dict)


def compute_tile(plan: Plan, batch: Batch, briefs: Mapping[Key, Briefs] | None) -> Piece | Result:
    """Filter and measure one tile; briefs: what to look for, or None in the first pass.

    A failure is that of the scene. Raises AcceleratorError when the device is lost.
    """
    try:
        return _first(plan, batch) if briefs is None else _further(plan, batch, briefs)
    except (ReadError, RuntimeError) as error:  # of torch and its libraries
        return Result((batch.tiles[0].source,), failure=failure_of(error))


def _first(plan: Plan, batch: Batch) -> Piece:
    watch = Watch()
    statistics = accumulators(plan.config.statistics)
    prepared = prepare(plan, batch)
    (tile,) = batch.tiles
    tallies: dict[Key, Tally] = {}
    maps: list[MapRow] = []
    rows = Rows(plan.config.statistics)
    alone, shared = _parted(prepared.regions[0])
    step = preview_step(plan, tile.source)
    previews = _stored(batch, step) if step else []
    for response in responses(plan, tile.source.header, prepared):
        watch.lap("filter")
        planes = [(tile.source.key, band) for band in response.bands]
        for part in parts(response, prepared.tiles, alone, single=True):
            measured = part.whole(statistics).columns(statistics, plan.config.statistics)
            rows.add(response.name, part.region, planes[part.rows], part.n_pixels, measured)
        for part in parts(response, prepared.tiles, shared, single=True):
            key = response.name, response.bands[part.rows.start], part.region
            tallies[key] = part.tally(statistics)
        watch.lap("measure")
        drawn = step and plan.draws(response.name)
        (kept,) = keep(response) if plan.keeps or drawn else ([],)
        if plan.keeps:
            maps += kept
        if drawn:
            previews += [_preview(row, tile.core, step) for row in kept]
        watch.lap("render")
    return Piece(
        prepared.tiles[0],
        prepared.regions[0],
        rows.columns,
        tallies,
        maps=maps,
        previews=previews,
        seconds=watch.seconds,
    )


def _parted(rois: Sequence[Roi]) -> tuple[list[list[Roi]], list[list[Roi]]]:
    """The regions that lie in one tile alone, and those that it shares with others."""
    return [[roi for roi in rois if roi.whole]], [[roi for roi in rois if not roi.whole]]


def _further(plan: Plan, batch: Batch, briefs: Mapping[Key, Briefs]) -> Piece:
    watch = Watch()
    statistics = accumulators(plan.config.statistics)
    prepared = prepare(plan, batch)
    states: dict[Key, States] = {}
    _, shared = _parted(prepared.regions[0])
    asked = {name for name, _, _ in briefs}
    for response in responses(plan, batch.tiles[0].source.header, prepared, asked):
        watch.lap("filter")
        for part in parts(response, prepared.tiles, shared, single=True):
            key = response.name, response.bands[part.rows.start], part.region
            if key in briefs:
                states[key] = part.states(statistics, briefs[key])
        watch.lap("measure")
    return Piece(prepared.tiles[0], states=states, seconds=watch.seconds)


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


class _Canvas:
    """A plane of float32 on disk, NaN where nothing was put: memory holds none of it."""

    def __init__(self, path: Path, shape: Ints) -> None:
        self.path, self.shape = path, shape
        np.memmap(path, np.float32, "w+", shape=shape)[:] = np.nan

    def put(self, at: Ints, values: Floats) -> None:
        """Write a box that begins `at`."""
        stop = tuple(a + n for a, n in zip(at, values.shape, strict=True))
        np.memmap(self.path, np.float32, "r+", shape=self.shape)[Region(at, stop).slices()] = values

    def read(self) -> Floats:
        """The whole plane."""
        return np.fromfile(self.path, np.float32).reshape(self.shape)


# ---------------------------------------------------------------- gathering
class Scene:
    """One scene while its tiles come in. Call `close` in the end; files in `folder` go with it."""

    def __init__(self, plan: Plan, source: Source, folder: Path) -> None:
        self.plan, self.source, self.folder = plan, source, folder
        self.statistics = accumulators(plan.config.statistics)
        self.briefs: Mapping[Key, Briefs] | None = None
        self._tiles, self._seen, self._passes = len(plan.tiles(source)), 0, 0
        self._rows = Rows(plan.config.statistics)
        self._tallies: dict[Key, Tally] = {}
        self._states: dict[Key, States] = {}
        self._canvases: dict[tuple[str, str], _Canvas] = {}
        self._regions = RegionRows(plan.config.regions.zones)
        folder.mkdir(parents=True)
        self._maps: tables.MapsWriter | None = None
        if plan.config.output.maps != "none":
            schema = tables.maps_schema(plan.config.output.maps)
            self._maps = tables.MapsWriter(folder / "maps.parquet", schema)
        self._files = MapFiles(plan, source, folder)

    def add(self, piece: Piece) -> Result | None:
        """Gather a piece; what there is to say of the whole scene, once nothing is left to ask."""
        # a copy of this thread: small things that stay would pin gaps in the heap that made them
        for key, tally in deepcopy(dict(piece.tallies)).items():
            known = self._tallies.get(key)
            self._tallies[key] = tally if known is None else known.merge(self.statistics, tally)
        for key, states in deepcopy(dict(piece.states)).items():
            found = self._states.get(key)
            self._states[key] = (
                states if found is None else merge_states(self.statistics, found, states)
            )
        if self._maps is not None:
            self._maps.add(self.source.key, piece.maps)
        self._files.add(piece.maps)
        self._regions.add(piece.tile.source, piece.rois)
        for name, column in piece.rows.items():
            self._rows.columns[name] += column
        for row in piece.previews:
            self._draw(row)
        self._seen += 1
        if self._seen < self._tiles:
            return None
        return self._end_pass()

    def _end_pass(self) -> Result | None:
        self._tallies |= {key: self._tallies[key].after(s) for key, s in self._states.items()}
        asked = {key: tally.briefs(self.statistics) for key, tally in self._tallies.items()}
        self.briefs = {key: briefs for key, briefs in asked.items() if briefs is not None}
        self._states, self._seen, self._passes = {}, 0, self._passes + 1
        if self.briefs and self._passes == self.plan.passes:
            message = f"a statistic asks for more than its {self.plan.passes} passes"
            raise AssertionError(message)
        return None if self.briefs else self._finish()

    def _finish(self) -> Result:
        config, key = self.plan.config, self.source.key
        for (name, band, region), tally in self._tallies.items():
            measured = tally.columns(self.statistics, config.statistics)
            self._rows.add(name, region, [(key, band)], tally.n_pixels, measured)
        pictures = Pictures(self.plan, [self.source])
        self._picture(pictures)
        extents = {key: self._regions.rows(self.source)}
        return Result(
            (self.source,),
            self._rows.columns,
            extents,
            maps={key: self._kept()},
            pictures=pictures.finish(),
            files={key: self._files.close()},
        )

    def _kept(self) -> Iterator[MapRow]:
        """The maps, tile by tile, from where they wait for all of the scene to be good."""
        if self._maps is None:
            return
        self._maps.close()
        for group in tables.row_groups_of(self.folder / "maps.parquet", self.source.key):
            yield from tables.map_rows(group)

    def _draw(self, row: MapRow) -> None:
        band, name, at, values = row
        if (name, band) not in self._canvases:
            step = preview_step(self.plan, self.source)
            shape = tuple(-(-n // step) for n in self.source.header.shape)
            path = self.folder / f"{len(self._canvases)}.raw"
            self._canvases[name, band] = _Canvas(path, shape)
        self._canvases[name, band].put(at, values)

    def _picture(self, pictures: Pictures) -> None:
        """Draw the previews as those of a whole image are drawn."""
        stored = {b: canvas.read() for (name, b), canvas in self._canvases.items() if not name}
        if stored:
            pictures.portray(self.source, stored)
        png = self.plan.config.output.png
        step = preview_step(self.plan, self.source)
        for (name, band), canvas in self._canvases.items():
            if name and png is not None:
                plane = canvas.read()
                if (again := -(-max(plane.shape) // png.size)) > 1:  # than a tile allows
                    small, usable = reduce(plane, finite(plane, None), again)
                    plane = np.where(usable, small, np.nan)
                size = "{}x{}".format(*self.source.header.shape)
                text = {"size": size, "reduced": str(step * again)} if step * again > 1 else {}
                pictures.draw(self.source, name, band, plane, None, text)

    def close(self) -> None:
        """Give the disk back what was needed meanwhile."""
        if self._maps is not None:
            self._maps.close()
        self._files.discard()
        shutil.rmtree(self.folder)


class Scenes:
    """The scenes of a run whose tiles are coming in, and those that are over: done, or failed."""

    def __init__(self, plan: Plan, room: str = "") -> None:
        self.plan = plan
        self._folder = scratch(plan.root) / room / "scenes"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._open: dict[str, Scene] = {}
        self._over: set[str] = set()

    def wanted(self, tile: Tile) -> bool:
        """Whether a tile is still to be computed."""
        return tile.source.key not in self._over

    def briefs(self, tile: Tile) -> Mapping[Key, Briefs] | None:
        """What the pass that has begun looks for in a tile."""
        scene = self._open.get(tile.source.key)
        return None if scene is None else scene.briefs

    def add(self, piece: Piece) -> Result | None:
        """Gather a piece; the result of its scene once it is complete. `end` must follow."""
        source = piece.tile.source
        if source.key in self._over:
            return None
        if source.key not in self._open:
            folder = self._folder / str(len(self._over) + len(self._open))
            self._open[source.key] = Scene(self.plan, source, folder)
        return self._open[source.key].add(piece)

    def end(self, key: str) -> None:
        """Forget a scene, also one that failed, and give the disk back what it needed."""
        self._over.add(key)
        if key in self._open:
            self._open.pop(key).close()
            with suppress(OSError):  # another scene is in it
                self._folder.rmdir()

    def close(self) -> None:
        """Forget all that are not complete."""
        for key in tuple(self._open):
            self.end(key)

"""Scenes: what tiles say, gathered pass by pass, until it is what a whole image would say."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

import pipeline.writers.parquet as tables
from pipeline.plan import Plan
from pipeline.stages.extents import RegionRows
from pipeline.stages.filter import MapRow, Result, Rows
from pipeline.stages.held import Held
from pipeline.stages.mapfiles import MapFiles
from pipeline.stages.measure import Briefs, States, Tally, merge_states
from pipeline.stages.render import Pictures
from pipeline.stages.tile import Key, Piece, attempted, preview_step
from pipeline.statistics import accumulators
from pipeline.storage import scratch
from pipeline.types import Ints, Region, Source, Tile
from pipeline.writers.png import Floats, finite, reduce

Task: TypeAlias = Callable[[], Piece | Result]
"""A part of the work on a scene that is held."""


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

    def __init__(self, plan: Plan, source: Source, folder: Path, held: Held | None) -> None:
        self.plan, self.source, self.folder, self._held = plan, source, folder, held
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
        if self._held is not None:
            self._held.add(piece)
            return None
        self._seen += 1
        if self._seen < self._tiles:
            return None
        return self._end_pass()

    def rounds(self) -> Iterator[list[Task]]:
        """What is left to do when all tiles of a scene are held: each round after the one before.

        The last says what there is to say of the whole scene.
        """
        if self._held is None:
            return
        for round in self._held.rounds():
            yield [partial(attempted, self.source, task) for task in round]
        yield [self._finish]

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
        self._held: dict[str, Held | None] = {}
        self._open: dict[str, Scene] = {}
        self._over: set[str] = set()

    def wanted(self, tile: Tile) -> bool:
        """Whether a tile is still to be computed."""
        return tile.source.key not in self._over

    def holds(self, tile: Tile) -> bool:
        """Whether the tiles of a scene are held, so that one reading does."""
        key = tile.source.key
        if key not in self._held:
            self._held[key] = Held.of(self.plan, tile.source)
        return self._held[key] is not None

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
            held = self._held.get(source.key)
            self._open[source.key] = Scene(self.plan, source, folder, held)
        return self._open[source.key].add(piece)

    def rounds(self, tile: Tile) -> Iterator[list[Task]]:
        """What to do once all tiles of its scene are held; nothing after a failure."""
        scene = self._open.get(tile.source.key)
        for tasks in () if scene is None else scene.rounds():
            yield tasks
            if not self.wanted(tile):
                return

    def end(self, key: str) -> None:
        """Forget a scene, also one that failed, and give the disk back what it needed."""
        self._over.add(key)
        self._held.pop(key, None)
        if key in self._open:
            self._open.pop(key).close()
            with suppress(OSError):  # another scene is in it
                self._folder.rmdir()

    def close(self) -> None:
        """Forget all that are not complete."""
        for key in tuple(self._open):
            self.end(key)

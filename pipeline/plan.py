"""Everything decided before the first pixel is read: frozen, picklable, with a digest.

Over 300 lines, because what a job needs of memory follows from all that is decided.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from pipeline.bands import BandPlan, choose_bands, compile_banks
from pipeline.bank.expr import Node
from pipeline.boundary import Boundary
from pipeline.budget import PROCESS, READER, SOUGHT, THREAD, WORKING, live_planes, machine_memory
from pipeline.config import Config, NamedFilter, expanded, response_id
from pipeline.derive import derived_labels
from pipeline.errors import PlanError
from pipeline.fused.choose import COUNTERS
from pipeline.gpu import possible
from pipeline.kept import draws, keeps
from pipeline.readers.picture import COLOUR
from pipeline.responses import any_rank
from pipeline.statistics import accumulators
from pipeline.steps import STEPS
from pipeline.storage import Place, place
from pipeline.types import Grid, ImageInfo, Ints, Region, Source, Tile

NUMERICS = 10
"""Raised when the same config gives other numbers than the version before."""

_PIXELS_PER_BATCH = {"cpu": 1 << 20, "cuda": 1 << 26}
_LANES = 2
"""Batches that a GPU has at once: one is computed while another comes or goes."""

SCENE = 1 << 23
"""Pixels, of all bands, above which an image that can be read by windows is cut into tiles."""
_CORES = (1024, 2048)
_WIDE_HALO = 256
"""Sides of a tile's core, in pixels; the larger one for halos above this. A change changes bits."""
_TOGETHER = 4
"""Responses that are made together of a scene that memory holds: fewer share too little."""
_SEARCHED = 2
"""Planes' worth of memory that measuring a plane of a scene takes at most, besides the plane."""
_FOR_READERS = 4
"""Of the memory that the main process and a thread leave, readers take one such part at most."""
_COUNTED = 1 << 31
"""Pixels of a plane from which on the tables that count them, of int32, might overflow."""
_INTERLEAVED = 4
"""Rows of tiles that are read side by side, so that each reader process goes along one of them."""


@dataclass(frozen=True)
class ResponseInfo:
    """One response of the config, as `filters.parquet` lists it."""

    name: str
    id: str
    filter: NamedFilter


@dataclass(frozen=True)
class Plan:
    """A config and the kind of device it runs on: together they decide every result."""

    config: Config
    device: str

    @cached_property
    def expanded(self) -> dict[str, Any]:
        """The config with every default filled in, without what does not change results.

        And the columns of fields and tables, which patterns make.
        """
        return expanded(self.config) | {"columns": list(self.config.input.columns)}

    @cached_property
    def document(self) -> str:
        """The expanded config as JSON, for the footer of every part."""
        return json.dumps(self.expanded, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides results: the expanded config, NUMERICS, the device kind.

        And whether kernels are fused there, which a GPU's machine may not be able to.
        """
        parts: dict[str, object] = {"config": self.expanded, "numerics": NUMERICS}
        parts |= {"device": self.device, "derive": list(self.expanded["derive"])}  # in this order
        if self.device != "cpu":
            parts |= {"fused": possible(self.device)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def responses(self) -> tuple[ResponseInfo, ...]:
        """Every response of the bank, in the config's order.

        Raises PlanError when a filter exists for no rank, or two responses share a name or id.
        """
        found = [
            ResponseInfo(named.name + suffix, response_id(named.name + suffix), named)
            for named in self.config.filters
            for suffix in any_rank(named)
        ]
        for attribute in ("name", "id"):
            seen: dict[str, ResponseInfo] = {}
            for response in found:
                value = getattr(response, attribute)
                if value in seen:
                    message = (
                        f"{response.filter.line}: two responses have the {attribute} {value!r}; "
                        "give one of them a name:"
                    )
                    raise PlanError(message)
                seen[value] = response
        return tuple(found)

    def example(self, response: ResponseInfo) -> Node:
        """The expression of a response for the first rank it exists for."""
        return any_rank(response.filter)[response.name.removeprefix(response.filter.name)]

    def banks(self, info: ImageInfo) -> tuple[BandPlan, ...]:
        """The compiled banks for images like this one, one per choice of bands.

        Raises PlanError with the reason why such an image cannot be filtered.
        """
        key = (info.bands, self._grid(self.prepared(info)), self.boundary(info))
        if key not in self._compiled:
            self._compiled[key] = compile_banks(self.config, self.device, self.labels(info), *key)
        return self._compiled[key]

    def prepared(self, info: ImageInfo) -> ImageInfo:
        """What is known of such an image after the prepare steps. Raises PlanError."""
        for step in self.config.prepare:
            info = step.info(info)
        return info

    def bands_of(self, info: ImageInfo) -> dict[str, tuple[str, ...]]:
        """The bands of each response to such an image, by its name."""
        return {
            output.name: ("all",) if output.joint else part.labels
            for part in self.banks(info)
            for output in part.bank.outputs
        }

    def boundary(self, info: ImageInfo) -> Boundary:
        """The config's boundary; `auto` makes nothing up beyond the edge of a scene."""
        if self.config.boundary != "auto":
            return self.config.boundary
        return Boundary("nodata" if info.georeferenced else "reflect")

    def _grid(self, info: ImageInfo) -> Grid:
        """What of a grid decides the bank: where no length is physical, its rank alone."""
        physical = any(named.unit for named in self.config.filters)
        return info.grid if physical else Grid((1.0,) * info.grid.ndim)

    @cached_property
    def _compiled(self) -> dict[tuple[tuple[str, ...], Grid, Boundary], tuple[BandPlan, ...]]:
        return {}

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config, "device": self.device}

    def labels(self, info: ImageInfo) -> tuple[str, ...]:
        """The bands that are filtered: of `input.bands`, then derived ones. Raises PlanError."""
        return derived_labels(self.config.derive, self._chosen(info))

    def _chosen(self, info: ImageInfo) -> tuple[str, ...]:
        wanted = self.config.input.bands
        if wanted == "all":
            return info.bands
        if wanted == "luminance":
            if len(info.bands) > 1 and not set(COLOUR) <= set(info.bands):
                message = (
                    "luminance needs one band, or red, green and blue; "
                    f"its bands are {', '.join(info.bands)}"
                )
                raise PlanError(message)
            return ("luminance",)
        return tuple(info.bands[i] for i in choose_bands(wanted, info.bands))

    def batch_size(self, info: ImageInfo) -> int:
        """How many such images are filtered together; never changes a result."""
        if self.is_scene(info):
            return 1
        given, pixels = self.config.run.batch, prod(info.shape) * max(1, len(self.labels(info)))
        most = min(256, _PIXELS_PER_BATCH[self.device] // max(1, pixels))
        size = most if given == "auto" else given
        return max(1, min(size, self.room // max(1, self.bytes_needed(info))))

    def bytes_needed(self, info: ImageInfo) -> int:
        """Working memory, roughly, of one such image from decoding to its last response."""
        key = (info.shape, info.bands, info.dtype, info.grid, self.boundary(info), info.windowed)
        if key not in self._needed:
            self._needed[key] = self._bytes_needed(info)
        return self._needed[key]

    @cached_property
    def _needed(self) -> dict[object, int]:
        return {}

    def _bytes_needed(self, info: ImageInfo) -> int:
        box, labels = max(self._boxes(info), key=prod), len(self.labels(info))
        pixels = prod(box)
        maps = 0 if self.config.output.maps == "none" else 4
        kept = maps * len(self.responses) * labels
        work = max(
            4 * len(part.bands) * (live_planes(schedule, box) + WORKING)
            for part in self.together(info)
            for schedule in (part.bank.fast, part.bank.masked)
        )
        planes = pixels * (16 * max(len(info.bands), labels) + 4 * labels + work + kept)
        counters = self._counters(info) if possible(self.device) else 0
        return planes + counters + (self._gathered(info) if self.is_scene(info) else 0)

    def _gathered(self, info: ImageInfo) -> int:
        """Bytes of what the tiles of a scene say, added up."""
        statistics = sum(one.passes > 1 for one in accumulators(self.config.statistics))
        return SOUGHT * statistics * len(self.responses) * len(self.labels(info))

    def _counters(self, info: ImageInfo) -> int:
        """Bytes in which a walk over responses counts, one by one or in groups."""
        return COUNTERS * max(
            len(part.bands) * max([1, *(len(group.names) for group in part.groups)])
            for part in self.together(info)
        )

    def _boxes(self, info: ImageInfo) -> tuple[Ints, Ints]:
        """Extents of what is computed at once, before and after the prepare steps, in pixels."""
        if not self.is_scene(info):
            return info.shape, self.prepared(info).shape
        halo, side = self.halo(info), self._core(info)
        box = tuple(min(n, side + 2 * h) for n, h in zip(info.shape, halo, strict=True))
        return box, box

    # ---------------------------------------------------------------- scenes and their tiles
    def planes_held(self, info: ImageInfo) -> int:
        """How many planes of responses may be in memory at once, with all of a scene.

        0 where it is no scene, or read and filtered again for each pass: where one pass tells all,
        memory does not hold enough, or pixels are kept, which come tile by tile; where a region
        has any shape, so that nobody knows yet how many pixels all have; where a plane has more
        than tables count; and on a GPU. No bit of a result depends on it.
        """
        shaped = self.config.regions.mask or self.config.regions.zones
        if self.passes == 1 or self.device != "cpu" or self.keeps or shaped:
            return 0
        if info not in self._held:
            held = self.is_scene(info) and 0 < self.pixels_measured(info) < _COUNTED
            self._held[info] = self._most_planes(info) if held else 0
        return self._held[info]

    @cached_property
    def _held(self) -> dict[ImageInfo, int]:
        return {}

    def _most_planes(self, info: ImageInfo) -> int:
        bands = [len(bands) for bands in self.bands_of(info).values()]
        least = min(sum(bands), max(_TOGETHER, *bands))
        free = self.room - self._bytes_of_tiles(info)
        free -= self.threads * (self.bytes_needed(info) + THREAD)
        room = free // self._bytes_of_plane(info)
        planes = max(room // (1 + _SEARCHED), room - self.threads * _SEARCHED)
        most = max(least, -(-_TOGETHER // self.threads) * self.threads)
        return min(planes, most) if planes >= least else 0

    def bytes_held(self, info: ImageInfo) -> int:
        """Memory that a scene takes besides what is computed at once, where all of it is held."""
        if not (planes := self.planes_held(info)):
            return 0
        searched = _SEARCHED * min(planes, self.threads)
        return self._bytes_of_tiles(info) + (planes + searched) * self._bytes_of_plane(info)

    def _bytes_of_tiles(self, info: ImageInfo) -> int:
        """All of a scene, prepared, and where it is valid; with halos."""
        tiles = prod(-(-n // self._core(info)) for n in info.shape)
        return 5 * prod(self._boxes(info)[0]) * tiles * len(self.labels(info))

    def _bytes_of_plane(self, info: ImageInfo) -> int:
        return 4 * self.pixels_measured(info)

    def pixels_measured(self, info: ImageInfo) -> int:
        """Pixels of a band of a response to a scene, as often as regions that tiles share are."""
        regions = self.config.regions
        cut = regions.tiles is not None and self._core(info) % regions.tiles != 0
        return prod(info.shape) * (regions.image + cut)

    def is_scene(self, info: ImageInfo) -> bool:
        """Whether such an image is read and computed in tiles, so that memory does not hold it."""
        large = prod(info.shape) * len(info.bands) > SCENE
        return info.windowed and len(info.shape) == 2 and large and not self.needs_whole(info)

    def needs_whole(self, info: ImageInfo) -> tuple[str, ...]:
        """Prepare steps and responses that depend on all of an image, by name."""
        steps = (STEPS.name_of(type(step)) for step in self.config.prepare if step.whole_image)
        outputs = (output for part in self.banks(info) for output in part.bank.outputs)
        return (*steps, *(output.name for output in outputs if output.needs_whole))

    def tiles(self, source: Source) -> tuple[Tile, ...]:
        """Cut a source into the parts that are computed by themselves: most are one tile.

        A scene's grid is anchored at its origin; a few rows of tiles go side by side, unless all
        readers need the same strips.
        """
        shape = source.header.shape
        if not self.is_scene(source.header):
            return (Tile(source, Region.whole(shape)),)
        side = self._core(source.header)
        rows, columns = (range(0, n, side) for n in shape)
        together = 1 if source.header.strips else _INTERLEAVED
        starts = (
            (row, column)
            for first in range(0, len(rows), together)
            for column in columns
            for row in rows[first : first + together]
        )
        cores = (Region(at, tuple(a + side for a in at)).clip(shape) for at in starts)
        return tuple(Tile(source, core) for core in cores)

    def together(self, info: ImageInfo) -> tuple[BandPlan, ...]:
        """The banks, with the bands that are computed at once: of a tile one, unless some join."""
        if not self.is_scene(info):
            return self.banks(info)
        return tuple(
            BandPlan(part.bands[i : i + many], part.labels[i : i + many], part.bank)
            for part in self.banks(info)
            for many in [len(part.bands) if any(o.joint for o in part.bank.outputs) else 1]
            for i in range(0, len(part.bands), many)
        )

    def halo(self, info: ImageInfo) -> Ints:
        """Pixels around a core that some response depends on, per axis."""
        return tuple(
            max(axis) for axis in zip(*(p.bank.halo for p in self.banks(info)), strict=True)
        )

    def box(self, tile: Tile) -> Region:
        """The pixels to be read of a tile: all that some response in its core depends on."""
        info = tile.source.header
        boxes = [part.bank.box(tile.core, info.shape) for part in self.banks(info)]
        starts = zip(*(box.start for box in boxes), strict=True)
        stops = zip(*(box.stop for box in boxes), strict=True)
        return Region(tuple(map(min, starts)), tuple(map(max, stops)))

    def _core(self, info: ImageInfo) -> int:
        return _CORES[max(self.halo(info)) > _WIDE_HALO]

    @property
    def passes(self) -> int:
        """How often the pixels of a scene are read: as often as some statistic has to see them."""
        return max(one.passes for one in accumulators(self.config.statistics))

    @property
    def root(self) -> Place:
        """The output folder."""
        return place(self.config.output.path.replace("{digest}", self.digest[:16])).absolute()

    @cached_property
    def memory(self) -> int:
        """Bytes the run may use: `run.memory`, or 60 % of what the machine or container has.

        Of a small machine as much as one thread takes for small images.
        """
        given = self.config.run.memory
        return max(_share(), self.standing + 2 * THREAD) if given == "auto" else given

    @property
    def standing(self) -> int:
        """Bytes of the process that computes and of its readers, before the first image."""
        if self.config.run.executor == "processes":  # beside a driver
            return READER + PROCESS + self.readers_each * READER
        return PROCESS + self.workers * READER

    @cached_property
    def room(self) -> int:
        """Bytes that are left for images; below 0 where `run.memory` is less than a run takes."""
        return self.memory - self.standing

    def parallel(self, sources: Iterable[Source]) -> int:
        """How many batches of these sources are computed at once within the memory budget."""
        most = self.threads if self.device == "cpu" else _LANES
        return max(1, min(most, self.room // self._lane(sources)))

    def processes(self, sources: Iterable[Source]) -> int:
        """How many processes of one computing thread each fit into the memory budget.

        Beside a driver that computes nothing, and takes what a reader does.
        """
        each = PROCESS + self.readers_each * READER + self._lane(sources)
        return max(1, min(self.threads, (self.memory - READER) // each))

    @property
    def readers_each(self) -> int:
        """Reader processes of each such process, of which there may be one for each thread."""
        return -(-self.workers // self.threads)

    def _lane(self, sources: Iterable[Source]) -> int:
        """Bytes that a batch of some sources takes, and the thread that computes it."""
        sizes = {source.header for source in sources if source.failure is None}
        need = max((self.bytes_needed(i) * self.batch_size(i) for i in sizes), default=1)
        return need + THREAD

    @property
    def threads(self) -> int:
        """Threads that compute on a CPU; never changes a result."""
        given = self.config.run.threads
        return len(os.sched_getaffinity(0)) if given == "auto" else given

    @cached_property
    def workers(self) -> int:
        """Reader processes: where nobody says how many, they leave most of the memory to images."""
        given, memory = self.config.run.workers, self.config.run.memory
        if given != "auto":
            return given
        free = (_share() if memory == "auto" else memory) - PROCESS - THREAD
        return max(1, min(4, len(os.sched_getaffinity(0)), free // _FOR_READERS // READER))

    @property
    def decodes_jpeg(self) -> bool:
        """Whether the GPU that computes decodes JPEG files as well."""
        return self.config.input.jpeg == "nvjpeg" and self.device == "cuda"

    @property
    def keeps(self) -> bool:
        """Whether some pixels of responses are kept, in tables or files."""
        return keeps(self.config)

    def draws(self, response: str) -> bool:
        """Whether a response gets a PNG of its own or a place on the sheet."""
        return draws(self.config, response)


def _share() -> int:
    """Bytes of this machine, or container, that a run takes where nobody says how many."""
    return int(0.6 * machine_memory())

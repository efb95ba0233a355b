"""Scenes that memory holds: all tiles at once, and a few responses at a time.

Percentiles and the like look at pixels again that have been filtered. Where the responses are still
there, the scene need not be read and filtered again. Every bit is that of passes over its tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import accumulate, groupby
from math import ceil
from operator import itemgetter
from time import thread_time
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.bands import BandPlan
from pipeline.plan import Plan
from pipeline.stages.filter import Rows, of_tile
from pipeline.stages.measure import Tally, parts
from pipeline.stages.tile import Key, Piece, parted, preview_step, previews_of
from pipeline.statistics import accumulators
from pipeline.statistics.gathered import Gathered, Gathering, gather
from pipeline.types import Batch, ImageInfo, Source
from pipeline.watch import Watch

_Unit: TypeAlias = tuple[BandPlan, str, tuple[str, ...]]
"""A response: its bank, its name and its bands."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Responses that are in memory together: of these banks; planes: of each response and band."""

    parts: tuple[BandPlan, ...]
    planes: dict[tuple[str, str], int]


_PROBED, _SLOW = 1 << 26, 1.0 / 2**30
"""Numbers of a plane that are tried, and seconds a byte above which memory is slow to come."""


class Held:
    """A scene, the tiles of which are added one by one."""

    @classmethod
    def of(cls, plan: Plan, source: Source) -> Held | None:
        """None where memory does not hold it, or the system is slow to hand out what it would take.

        Some virtual machines take 2 to 4 s per GiB that they have not handed out yet, or not for a
        while: longer than to read and filter the scene again.
        """
        if not plan.planes_held(source.header):
            return None
        try:
            held = cls(plan, source)
        except MemoryError:  # of a limit that the plan does not know
            return None
        began = thread_time()
        (tried := held._planes[0][:_PROBED])[:: 1 << 10] = 0.0
        return held if thread_time() - began <= tried.nbytes * _SLOW else None

    def __init__(self, plan: Plan, source: Source) -> None:
        self.plan = plan
        self._step = preview_step(plan, source)
        self._groups = _groups(plan, source.header)
        planes = max(len(group.planes) for group in self._groups)
        size = plan.pixels_measured(source.header)
        self._planes = [np.empty(size, np.float32) for _ in range(planes)]
        self._tiles: list[Batch] = []
        self._found: dict[Key, dict[int, tuple[Tally, Gathering]]] = {}

    def add(self, piece: Piece) -> None:
        """Keep a tile."""
        if piece.batch is not None:
            self._tiles.append(piece.batch)

    def rounds(self) -> Iterator[list[Callable[[], Piece]]]:
        """Filter all tiles, and measure the responses to all of them, group by group.

        What a round names may be done at once, when the round before is over.
        """
        self._place()
        for done, group in enumerate(self._groups):
            yield [partial(self._filter, group, done, i) for i in range(len(self._tiles))]
            yield [partial(self._measure, group, key) for key in self._found]
            self._found.clear()

    def _place(self) -> None:
        """Find where in a plane the pixels lie that a region has in a tile, and all that it has."""
        self._at: dict[tuple[str, int], int] = {}
        self._spans: dict[str, slice] = {}
        sizes: dict[str, dict[int, int]] = {}
        for i, batch in enumerate(self._tiles):
            for roi in parted(batch.regions[0])[1][0]:
                sizes.setdefault(roi.region, {})[i] = roi.box.size
        size = 0
        for region, counts in sizes.items():
            starts = accumulate(counts.values(), initial=0)
            self._at |= {(region, i): at for i, at in zip(counts, starts, strict=False)}
            self._spans[region] = slice(size, size := size + sum(counts.values()))

    def _plane(self, group: _Group, key: Key) -> npt.NDArray[np.float32]:
        name, band, region = key
        return self._planes[group.planes[name, band]][self._spans[region]]

    def _filter(self, group: _Group, done: int, i: int) -> Piece:
        """The responses of a group to a tile; they stay where they will be measured.

        done: groups before this one.
        """
        watch, batch = Watch(), self._tiles[i]
        (tile,) = batch.tiles
        rows = Rows(self.plan.config.statistics)
        previews = []
        alone, shared = parted(batch.regions[0])
        for bank in group.parts:
            for response in of_tile(bank, batch):
                watch.lap("filter")
                rows.measure([response], batch.tiles, alone, single=True)
                for part in parts(response, batch.tiles, shared, single=True):
                    key = response.name, response.bands[part.rows.start], part.region
                    plane, at = self._plane(group, key), self._at[part.region, i]
                    gathering = gather(part.block, plane, at)
                    self._found.setdefault(key, {})[i] = part.tally(()), gathering
                watch.lap("measure")
                previews += previews_of(self.plan, response, tile, self._step)
                watch.lap("render")
        size, count = tile.core.size, len(self._groups)
        pixels = size * (done + 1) // count - size * done // count
        return Piece(tile, pixels, rows=rows.columns, previews=previews, seconds=watch.seconds)

    def _measure(self, group: _Group, key: Key) -> Piece:
        """All of a response in a region."""
        watch, statistics = Watch(), accumulators(self.plan.config.statistics)
        found = [told for _, told in sorted(self._found[key].items())]
        tally = reduce(lambda a, b: a.merge((), b), (tally for tally, _ in found))
        block = Gathered.of(self._plane(group, key), [gathering for _, gathering in found])
        tallies = (tally for tally, _ in found)  # moved for good, also where this is tried again
        self._found[key] = dict(enumerate(zip(tallies, block.gatherings, strict=True)))
        measured = tally.measured(statistics, block)
        watch.lap("measure")
        tile = self._tiles[0].tiles[0]
        return Piece(tile, 0, tallies={key: measured}, seconds=watch.seconds)


def _groups(plan: Plan, info: ImageInfo) -> tuple[_Group, ...]:
    """Cut the bank into parts of about equal size, as many planes at a time as memory holds."""
    units = [
        (part, output.name, ("all",) if output.joint else part.labels)
        for part in plan.together(info)
        for output in part.bank.outputs
    ]
    total, widest = sum(len(bands) for *_, bands in units), max(len(bands) for *_, bands in units)
    size = max(widest, ceil(total / ceil(total / plan.planes_held(info))))
    groups: list[list[_Unit]] = [[]]
    for unit in units:
        if sum(len(bands) for *_, bands in [*groups[-1], unit]) > size:
            groups.append([])
        groups[-1].append(unit)
    return tuple(map(_group, groups))


def _group(units: Sequence[_Unit]) -> _Group:
    banks = []
    for part, same in groupby(units, key=itemgetter(0)):
        names = {name for _, name, _ in same}
        banks.append(replace(part, bank=part.bank.only(names)))
    planes = ((name, band) for _, name, bands in units for band in bands)
    return _Group(tuple(banks), {plane: i for i, plane in enumerate(planes)})

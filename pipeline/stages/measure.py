"""Responses -> statistics: one row per image, band, region and response.

What a part of an image says is a `Tally`. Tallies of its other parts merge with it; then it knows
what to look for in the next pass over the same pixels, until nothing is left to ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.fused.block import Walked, walked
from pipeline.gpu import possible
from pipeline.statistics import COLUMNS, Block, Statistic
from pipeline.statistics.base import Counts, Floats
from pipeline.statistics.cells import Cells, sides_of
from pipeline.statistics.ratios import ratios
from pipeline.types import Ints, Region, Response, Roi, Tile

Columns: TypeAlias = dict[str, npt.NDArray[np.float64 | np.int64]]
States: TypeAlias = tuple[Any, ...]
"""Of each statistic; None where one had nothing to look for in this pass."""
Briefs: TypeAlias = tuple[Any, ...]
"""What each statistic looks for in the next pass; None where one needs no more."""

_LEVELS = tuple(name for name, column in COLUMNS.items() if column.level)
"""Columns that change as much as a constant that is added to every pixel."""

_PIXELS = 1 << 20
_PLANES = 16
"""Pixels and planes that a CPU reduces at a time; how many changes no bit."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of P planes in one region after some passes over some of its parts.

    n_pixels: of the region where there is a response; n_valid, (P,): the valid ones among them;
    certain, (P,): those of them in parts where no tap is missed; support: of the others, summed
    in cells; base, (P,): a constant that is still to be added to every pixel, or None for 0.
    """

    n_pixels: int
    n_valid: Counts
    certain: Counts
    support: Cells | None
    states: States
    base: Floats | None

    def merge(self, statistics: Sequence[Statistic], other: Tally) -> Tally:
        """What two parts say together, after the first pass over both."""
        if not np.array_equal(self.base, other.base):  # type: ignore[arg-type]  # None is equal
            message = f"parts of one response with other bases: {self.base}, {other.base}"
            raise ValueError(message)
        backings = [s for s in (self.support, other.support) if s is not None]
        return Tally(
            self.n_pixels + other.n_pixels,
            self.n_valid + other.n_valid,
            self.certain + other.certain,
            backings[0].merge(backings[1]) if len(backings) == 2 else next(iter(backings), None),
            merge_states(statistics, self.states, other.states),
            self.base,
        )

    def after(self, states: States) -> Tally:
        """The same after another pass over all parts."""
        pairs = zip(self.states, states, strict=True)
        return replace(self, states=tuple(a if b is None else b for a, b in pairs))

    def measured(self, statistics: Sequence[Statistic], block: Block) -> Tally:
        """The same, which has no states yet, after all passes over a block that is all there is."""
        states = tuple(statistic.start(block, None) for statistic in statistics)
        tally = replace(self, states=states)
        while (briefs := tally.briefs(statistics)) is not None:
            tally = tally.after(_states(statistics, block, briefs))
        return tally

    def briefs(self, statistics: Sequence[Statistic]) -> Briefs | None:
        """What another pass is to look for; None when all is known."""
        pairs = zip(statistics, self.states, strict=True)
        found = tuple(statistic.next(state) for statistic, state in pairs)
        return None if all(brief is None for brief in found) else found

    def columns(self, statistics: Sequence[Statistic], wanted: Sequence[str]) -> Columns:
        """`n_valid`, `support` and the wanted columns, (P,) each; NaN where nothing is valid."""
        found: dict[str, Floats] = {}
        for statistic, state in zip(statistics, self.states, strict=True):
            found |= statistic.finish(state)
        if self.base is not None:
            found |= _raised(found, self.base, self.n_valid)
        if not found.keys() >= set(wanted):
            found |= ratios(found)
        total = self.certain.astype(np.float64)
        if self.support is not None:
            total += self.support.total()[:, 0]
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
            support = total / self.n_valid
        counts: Columns = {"n_valid": self.n_valid, "support": support}
        return counts | {name: found[name] for name in wanted}


def _states(statistics: Sequence[Statistic], block: Block, briefs: Briefs) -> States:
    return tuple(
        None if brief is None else statistic.start(block, brief)
        for statistic, brief in zip(statistics, briefs, strict=True)
    )


def merge_states(statistics: Sequence[Statistic], a: States, b: States) -> States:
    """The states of two parts after the same pass."""
    return tuple(
        None if one is None else statistic.merge(one, other)
        for statistic, one, other in zip(statistics, a, b, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Part:
    """P planes of a response in a region's part of a tile.

    region: its key; rows: which planes, of all images and bands; n_pixels: of the region where
    there is a response; base: of the planes, (P,), or None for 0.
    """

    region: str
    rows: slice
    block: Block
    support: Tensor | None
    n_pixels: int
    base: Floats | None

    def tally(self, statistics: Sequence[Statistic]) -> Tally:
        """The first pass."""
        block = self.block
        if block.valid is None:
            n_valid = np.full(len(block.values), self.n_pixels)
        else:
            n_valid = block.pixels.counts()
        certain, backing = n_valid, None
        if block.valid is not None and self.support is not None:
            certain, support = np.zeros_like(n_valid), replace(block, values=self.support)
            backing = Cells.of(support, support.pixels.totals())
        states = tuple(statistic.start(block, None) for statistic in statistics)
        return Tally(self.n_pixels, n_valid, certain, backing, states, self.base)

    def states(self, statistics: Sequence[Statistic], briefs: Briefs) -> States:
        """A further pass."""
        return _states(statistics, self.block, briefs)

    @property
    def walked(self) -> bool:
        """Whether all passes are walks over images on a GPU that miss no pixel."""
        block = self.block
        complete = block.valid is None and tuple(block.values.shape[1:]) == block.shape
        return complete and possible(block.values.device.type)

    def whole(self, statistics: Sequence[Statistic]) -> Tally:
        """All passes, where the region has no other part."""
        block = self.block
        if self.walked:
            n = np.full(len(block.values), self.n_pixels)
            found = walked(Walked.stored(block), statistics)
            return Tally(self.n_pixels, n, n, None, found, self.base)
        alone = replace(self.block, alone=True)
        return replace(self, block=alone).tally(()).measured(statistics, alone)


def parts(
    response: Response, tiles: Sequence[Tile], regions: Sequence[Sequence[Roi]], *, single: bool
) -> Iterator[Part]:
    """The planes of a response region by region; single: one by one, else as many as pay.

    Blocks are whole cells, which are anchored at the image's origin: no bit of a region depends on
    how its image was cut into tiles.
    """
    shape = tiles[0].source.header.shape
    bands, planes = len(response.bands), len(response.bands) * len(tiles)
    alike = all(all(r.mask is None for r in rois) and rois == regions[0] for rois in regions)
    groups = [slice(0, planes)] if alike else [slice(n, n + bands) for n in range(0, planes, bands)]
    for group, rois in zip(groups, regions, strict=False):
        for roi in rois:
            inside = roi.box.overlap(response.region)
            box = _cells(inside, shape)
            many = 1 if single else group.stop - group.start
            if response.residual.device.type == "cpu":
                many = max(1, min(many, _PLANES, _PIXELS // box.size))
            for first in range(group.start, group.stop, many):
                rows = slice(first, min(first + many, group.stop))
                yield _part(response, roi, inside, box, rows, shape)


def measured(
    same: Sequence[Part], statistics: Sequence[Statistic], wanted: Sequence[str]
) -> list[Columns]:
    """The wanted columns of the same part of each of some responses, which has no other parts.

    Where all are walked, it is by the same walks: each waits for the GPU.
    """
    if len(same) == 1 or not all(part.walked for part in same):
        return [part.whole(statistics).columns(statistics, wanted) for part in same]
    bases = [part.base for part in same if part.base is not None]
    every = replace(
        same[0],
        block=replace(same[0].block, values=torch.cat([part.block.values for part in same])),
        base=np.concatenate(bases) if bases else None,
    )
    columns = every.whole(statistics).columns(statistics, wanted)
    ends = accumulate((len(part.block.values) for part in same), initial=0)
    return [{name: x[a:b] for name, x in columns.items()} for a, b in pairwise(ends)]


def _cells(box: Region, shape: Ints) -> Region:
    """All pixels of the cells that a box touches; one cell for an empty box."""
    sides = sides_of(shape)
    start = tuple(min(a, n - 1) // k * k for a, n, k in zip(box.start, shape, sides, strict=True))
    ends = (-(-max(b, a + 1) // k) * k for a, b, k in zip(start, box.stop, sides, strict=True))
    return Region(start, tuple(map(min, ends, shape)))


def _part(
    response: Response, roi: Roi, inside: Region, box: Region, rows: slice, shape: Ints
) -> Part:
    """Cut `box` out of some planes; what is not `inside` the region is invalid."""
    have = response.region
    data, valid, support = (
        None if x is None else _cut(x.flatten(0, 1)[rows], have, box)
        for x in (response.residual, response.valid, response.support)
    )
    assert data is not None
    n_pixels = inside.size
    if inside != box or roi.mask is not None:
        mask = np.zeros(box.shape, np.bool_)
        of_region = True if roi.mask is None else roi.mask[inside.slices(roi.box.start)]
        mask[inside.slices(box.start)] = of_region
        n_pixels = int(mask.sum())
        within = torch.from_numpy(mask).to(data.device).expand(data.shape)
        valid = within if valid is None else valid & within
    base = None if response.base is None else response.base.flatten()[rows].cpu().numpy()
    return Part(roi.region, rows, Block(data, valid, box.start, shape), support, n_pixels, base)


def _cut(x: Tensor, have: Region, want: Region) -> Tensor:
    """The pixels of a box, (P, *want.shape), with zeros where `have` has none."""
    if have == want:
        return x
    both = have.overlap(want)
    if both == want:
        return x[(slice(None), *want.slices(have.start))]
    out = x.new_zeros((x.shape[0], *want.shape))
    out[(slice(None), *both.slices(want.start))] = x[(slice(None), *both.slices(have.start))]
    return out


def _raised(found: Mapping[str, Floats], base: Floats, count: Counts) -> Mapping[str, Floats]:
    """The columns that change when the base is added to every pixel, in float64.

    What was measured without the base has all its digits, also where the mean is so large that
    float32 does not tell neighbouring values apart.
    """
    moved = {name: found[name] + base for name in _LEVELS if name in found}
    if "energy" in found:
        cross = 2.0 * base * (found["mean"] * count) + base * base * count
        energy = np.where(base == 0.0, found["energy"], found["energy"] + cross)
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is valid
            moved |= {"energy": energy, "rms": np.sqrt(energy / count)}
    return moved

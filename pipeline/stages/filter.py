"""Batches -> results: prepare, filter, measure, draw. A pure function of plan and batch."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.bands import BandPlan
from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import BankPlan
from pipeline.errors import ReadError
from pipeline.plan import Plan
from pipeline.stages import fused, lanes
from pipeline.stages.decode import decoded
from pipeline.stages.extents import RegionRows
from pipeline.stages.measure import Columns, measured, parts
from pipeline.stages.prepare import prepare, select
from pipeline.stages.render import Pictures
from pipeline.statistics import accumulators
from pipeline.types import Batch, Encoded, Failure, ImageInfo, Response, Roi, Source, Tile
from pipeline.watch import Seconds

FAILURES = (ReadError, RuntimeError, MemoryError)
"""What `failure_of` tells apart: of our own, of torch and its libraries, and of numpy."""

_FULL = re.compile(
    r"CUDA error: out of memory|CU(FFT|BLAS|DNN)_(STATUS_)?ALLOC_FAILED|can't allocate memory"
)

MapRow = tuple[str, str, tuple[int, ...], npt.NDArray[Any]]
"""Band, response, first pixel, values with NaN where invalid."""


@dataclass(frozen=True, slots=True)
class Result:
    """What is kept of images: columns of statistics rows; by image key, the rows of its regions,
    its maps and pictures.

    files: of maps, and where they lie, for a scene, whose maps do not come all at once; failure:
    why there is nothing of these sources; seconds: what they took.
    """

    sources: tuple[Source, ...]
    rows: Mapping[str, list[Any]] = field(default_factory=dict)
    regions: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    maps: Mapping[str, Iterable[MapRow]] = field(default_factory=dict)
    pictures: Mapping[str, Iterable[tuple[str, bytes]]] = field(default_factory=dict)
    files: Mapping[str, Iterable[tuple[str, Path]]] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: Seconds = field(default_factory=dict)


def compute(plan: Plan, batch: Batch | Encoded) -> list[Result]:
    """Filter and measure a batch; halve it where the device's memory does not hold it.

    So it is where a file is not decoded. The halves give the same bits as the whole. What a prepare
    step refuses, and one image that does not fit by itself, are failures of the sources. Raises
    AcceleratorError when the device is lost.
    """
    try:
        return [_compute(plan, batch)]
    except FAILURES as error:
        alike = not (_lacks_memory(error) or isinstance(batch, Encoded))
        if len(batch.tiles) == 1 or alike:
            return [Result(tuple(tile.source for tile in batch.tiles), failure=failure_of(error))]
    torch.cuda.empty_cache()
    middle = len(batch.tiles) // 2
    return [
        result
        for part in (slice(None, middle), slice(middle, None))
        for result in compute(plan, _cut(batch, part))
    ]


def failure_of(error: Exception) -> Failure:
    """What an exception says of the images that were computed; raised where it is not theirs."""
    if isinstance(error, ReadError):
        return Failure(error.kind, str(error))
    if _lacks_memory(error):
        return Failure("limit", "the device's memory does not hold this image and one response")
    raise error


def _lacks_memory(error: Exception) -> bool:
    """numpy and torch for CUDA have exceptions for it; torch for CPUs and libraries have words."""
    said = isinstance(error, RuntimeError) and _FULL.search(str(error)) is not None
    return said or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def _cut(batch: Batch | Encoded, part: slice) -> Batch | Encoded:
    if isinstance(batch, Encoded):
        return replace(
            batch,
            tiles=batch.tiles[part],
            files=batch.files[part],
            turns=batch.turns[part],
            regions=batch.regions[part],
        )
    valid = None if batch.valid is None else batch.valid[part]
    return replace(
        batch,
        tiles=batch.tiles[part],
        values=batch.values[part],
        valid=valid,
        regions=batch.regions[part],
    )


def responses(
    plan: Plan, info: ImageInfo, prepared: Batch, names: Collection[str] | None = None
) -> Iterator[Response]:
    """Every response of a prepared batch that is written, one at a time.

    info: of its images as they are stored; names: of the responses that are wanted, if not all.
    """
    alone = plan.is_scene(info)
    for part in plan.together(info):
        batch = select(prepared, part.bands, part.labels)
        bank = part.rest if part.rest is not None and fused.fits(part, batch) else part.bank
        yield from _answers(bank if names is None else bank.only(names), batch, alone=alone)


def of_tile(part: BandPlan, prepared: Batch) -> Iterator[Response]:
    """Every response of a part of a bank to a prepared tile of a scene, one at a time."""
    return _answers(part.bank, select(prepared, part.bands, part.labels), alone=True)


def _answers(bank: BankPlan, batch: Batch, *, alone: bool) -> Iterator[Response]:
    if alone and batch.valid is not None and batch.valid.all():  # of these bands in this tile
        batch = replace(batch, valid=None)
    return apply_bank(bank, batch)


def _compute(plan: Plan, batch: Batch | Encoded) -> Result:
    watch, config = lanes.watch(plan.device), plan.config
    sources = tuple(tile.source for tile in batch.tiles)
    if isinstance(batch, Encoded):
        batch = decoded(batch, plan.device)
        watch.lap("decode")
    prepared = prepare(plan, batch)
    pictures = Pictures(plan, sources)
    pictures.photograph(batch)
    regions = RegionRows(config.regions.zones)
    for tile, rois in zip(prepared.tiles, prepared.regions, strict=True):
        regions.add(tile.source, rois)
    extents = {tile.source.key: regions.rows(tile.source) for tile in prepared.tiles}
    rows = Rows(config.statistics)
    for found in fused.measure(plan, sources[0].header, prepared, rows.statistics):
        planes = [(source.key, band) for source in sources for band in found.bands]
        rows.add(found.name, found.region, planes, found.n_pixels, found.columns)
    watch.lap("filter")
    maps: dict[str, list[MapRow]] = {s.key: [] for s in sources}
    for together in fused.gathered(responses(plan, sources[0].header, prepared)):
        watch.lap("filter")
        rows.measure(together, prepared.tiles, prepared.regions, single=False)
        watch.lap("measure")
        for response in together:
            if plan.keeps:
                for source, kept in zip(sources, keep(response), strict=True):
                    maps[source.key] += kept
            pictures.add(response)
        del together, response  # before there are others
        watch.lap("render")
    for kept in maps.values():
        kept.sort(key=lambda row: row[:2])
    drawn = pictures.finish()
    watch.lap("render")
    return Result(sources, rows.columns, extents, maps, drawn, seconds=watch.seconds)


class Rows:
    """Statistics rows as columns. wanted: those that are computed."""

    def __init__(self, wanted: Sequence[str]) -> None:
        names = ("image", "band", "region", "filter", "n_pixels", "n_valid", "support", *wanted)
        self.wanted, self.statistics = wanted, accumulators(wanted)
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def measure(
        self,
        together: Sequence[Response],
        tiles: Sequence[Tile],
        regions: Sequence[Sequence[Roi]],
        *,
        single: bool,
    ) -> None:
        """Measure responses of one frame in regions that lie in one tile each.

        single: as `parts` has it.
        """
        planes = [(tile.source.key, band) for tile in tiles for band in together[0].bands]
        every = (parts(response, tiles, regions, single=single) for response in together)
        for same in zip(*every, strict=True):
            found = measured(same, self.statistics, self.wanted)
            for response, part, columns in zip(together, same, found, strict=True):
                self.add(response.name, part.region, planes[part.rows], part.n_pixels, columns)

    def add(
        self,
        name: str,
        region: str,
        planes: Sequence[tuple[str, str]],
        n_pixels: int,
        found: Columns,
    ) -> None:
        """Add what was measured of a response on some planes, (image, band), in one region."""
        columns = self.columns
        columns["image"] += [image for image, _ in planes]
        columns["band"] += [band for _, band in planes]
        columns["region"] += [region] * len(planes)
        columns["filter"] += [name] * len(planes)
        columns["n_pixels"] += [n_pixels] * len(planes)
        columns["n_valid"] += found["n_valid"].tolist()
        for column, values in found.items():
            if column != "n_valid":
                columns[column].append(values)


def keep(response: Response) -> list[list[MapRow]]:
    """Copy a response out of the device's buffers, image by image; invalid pixels are NaN."""
    values = response.values
    if response.valid is not None:
        values = torch.where(response.valid, values, torch.nan)
    kept = values.cpu().numpy().astype(np.float32)
    return [
        [
            (band, response.name, response.region.start, plane)
            for band, plane in zip(response.bands, planes, strict=True)
        ]
        for planes in kept
    ]

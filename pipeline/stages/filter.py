"""Batches -> results: prepare, filter, measure, draw. A pure function of plan and batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.bank.apply import apply_bank
from pipeline.errors import DeviceError, ReadError
from pipeline.plan import Plan
from pipeline.stages.measure import measure
from pipeline.stages.prepare import prepare, select
from pipeline.stages.render import Pictures
from pipeline.statistics import accumulators
from pipeline.types import Batch, Failure, Response, Source

MapRow = tuple[str, str, tuple[int, ...], npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """What is kept of a batch: columns of statistics rows; maps and pictures by image key.

    failure: why there is nothing of these sources.
    """

    sources: tuple[Source, ...]
    rows: dict[str, list[Any]] = field(default_factory=dict)
    maps: Mapping[str, list[MapRow]] = field(default_factory=dict)
    pictures: Mapping[str, list[tuple[str, bytes]]] = field(default_factory=dict)
    failure: Failure | None = None


def compute(plan: Plan, batch: Batch) -> list[Result]:
    """Filter and measure a batch; halve it where the device's memory does not hold it.

    The halves give the same bits as the whole. What a prepare step refuses, and one image that
    does not fit by itself, are failures of the sources. Raises DeviceError when the device is lost.
    """
    try:
        return [_compute(plan, batch)]
    except ReadError as error:
        return [_refused(batch, Failure(error.kind, str(error)))]
    except torch.OutOfMemoryError:
        if len(batch.tiles) == 1:
            text = "the device's memory does not hold this image and one response"
            return [_refused(batch, Failure("limit", text))]
    except torch.AcceleratorError as error:
        raise DeviceError(str(error).splitlines()[0]) from error
    torch.cuda.empty_cache()
    middle = len(batch.tiles) // 2
    return [
        result
        for part in (slice(None, middle), slice(middle, None))
        for result in compute(plan, _cut(batch, part))
    ]


def _refused(batch: Batch, failure: Failure) -> Result:
    return Result(tuple(tile.source for tile in batch.tiles), failure=failure)


def _cut(batch: Batch, part: slice) -> Batch:
    valid = None if batch.valid is None else batch.valid[part]
    return replace(batch, tiles=batch.tiles[part], values=batch.values[part], valid=valid)


def _compute(plan: Plan, batch: Batch) -> Result:
    config = plan.config
    statistics = accumulators(config.statistics)
    sources = tuple(tile.source for tile in batch.tiles)
    prepared = prepare(plan, batch)
    pictures = Pictures(plan, batch)
    rows = _Rows([s.key for s in sources], config.statistics)
    maps: dict[str, list[MapRow]] = {s.key: [] for s in sources}
    for part in plan.banks(sources[0].header):
        for response in apply_bank(part.bank, select(prepared, part.bands, part.labels)):
            rows.add(response, measure(statistics, config.statistics, response))
            if config.output.maps != "none":
                _keep(maps, response, sources)
            pictures.add(response)
    for kept in maps.values():
        kept.sort(key=lambda row: row[:2])
    return Result(sources, rows.columns, maps, pictures.finish())


class _Rows:
    """Statistics rows as columns."""

    def __init__(self, images: list[str], statistics: tuple[str, ...]) -> None:
        self.images = images
        names = ("image", "band", "region", "filter", "n_pixels", "n_valid", "support", *statistics)
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, response: Response, measured: Any) -> None:
        bands, many = len(response.bands), len(response.bands) * len(self.images)
        columns = self.columns
        columns["image"] += [image for image in self.images for _ in range(bands)]
        columns["band"] += list(response.bands) * len(self.images)
        columns["region"] += ["image"] * many
        columns["filter"] += [response.name] * many
        columns["n_pixels"] += [measured.n_pixels] * many
        columns["n_valid"] += measured.n_valid.ravel().tolist()
        columns["support"].append(measured.support.ravel())
        for name, values in measured.columns.items():
            columns[name].append(values.ravel())


def _keep(maps: dict[str, list[MapRow]], response: Response, sources: tuple[Source, ...]) -> None:
    """Copy a response out of the device's buffers; invalid pixels are NaN."""
    values = response.values
    if response.valid is not None:
        values = torch.where(response.valid, values, torch.nan)
    kept = values.cpu().numpy().astype(np.float32)
    for n, source in enumerate(sources):
        for c, band in enumerate(response.bands):
            maps[source.key].append((band, response.name, response.region.start, kept[n, c]))

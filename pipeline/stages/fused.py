"""Batches -> statistics of responses that nobody wants to see, on a GPU: never written at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.bands import BandPlan
from pipeline.bank.apply import input_planes
from pipeline.fused.block import Walked, walked
from pipeline.fused.choose import TOGETHER, Group
from pipeline.fused.pixels import Recomputed
from pipeline.gpu import possible
from pipeline.plan import Plan
from pipeline.stages.measure import Columns, Tally
from pipeline.stages.prepare import select
from pipeline.statistics import Statistic
from pipeline.statistics.base import Floats
from pipeline.types import Batch, ImageInfo, Ints, Region, Response

STORED = 1 << 30
"""Most bytes of responses that wait to be measured together."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Columns of a response to all images and bands of a batch, in one region."""

    name: str
    bands: tuple[str, ...]
    region: str
    n_pixels: int
    columns: Columns


def fits(part: BandPlan, batch: Batch) -> bool:
    """Whether a batch has groups of responses to measure so: no pixel is missing in any region.

    And each region has some pixels of each response.
    """
    regions = batch.regions
    if not part.groups or batch.valid is not None:
        return False
    if any(roi.mask is not None for rois in regions for roi in rois):
        return False
    shape = batch.tiles[0].source.header.shape
    inner = [_inner(group, shape) for group in part.groups]
    some = all(roi.box.overlap(box).size for roi in regions[0] for box in inner)
    return some and all(rois == regions[0] for rois in regions)


def measure(
    plan: Plan, info: ImageInfo, prepared: Batch, statistics: Sequence[Statistic]
) -> Iterator[Measured]:
    """Measure the groups that fit a prepared batch; info: of its images as they are stored."""
    for part in plan.together(info):
        batch = select(prepared, part.bands, part.labels)
        if fits(part, batch):
            for group in part.groups:
                yield from _measure(group, batch, statistics, plan.config.statistics)


def gathered(responses: Iterable[Response]) -> Iterator[list[Response]]:
    """Responses that are walked together, as far as memory goes; one by one where none is."""
    together: list[Response] = []
    for response in responses:
        if together and not _alike(together, response):
            yield together
            together = []
        together.append(response)
        if response.valid is not None or not possible(response.residual.device.type):
            yield together
            together = []
    if together:
        yield together


def _alike(together: Sequence[Response], other: Response) -> bool:
    """Whether another response has the frame of these, and they may wait for it."""
    frames = {
        (one.bands, one.region, one.valid is None, one.base is None) for one in (together[0], other)
    }
    most = min(TOGETHER, STORED // max(1, other.residual.nbytes))
    return len(frames) == 1 and len(together) < most


def _measure(
    group: Group, batch: Batch, statistics: Sequence[Statistic], wanted: Sequence[str]
) -> Iterator[Measured]:
    value = input_planes(group.source, group.margin, batch)
    base = None if value.base is None else _bases(value.base.cpu().numpy(), group)
    shape = batch.tiles[0].source.header.shape
    for roi in batch.regions[0]:
        box = roi.box.overlap(_inner(group, shape))
        computed = Recomputed(value.data, box, group)
        block, n = Walked.of(computed, shape), computed.counts()
        tally = Tally(box.size, n, n, None, walked(block, statistics), base)
        columns = tally.columns(statistics, wanted)
        for f, name in enumerate(group.names):
            mine = {key: column[f :: len(group.names)] for key, column in columns.items()}
            bands = ("all",) if group.joint else batch.bands
            yield Measured(name, bands, roi.region, box.size, mine)


def _inner(group: Group, shape: Ints) -> Region:
    """Where an image of this shape has responses."""
    return Region.whole(shape).grow(tuple((-a, -b) for a, b in group.lost))


def _bases(base: Floats, group: Group) -> Floats:
    """What is still to be added to each plane of the responses: a kernel multiplies a constant."""
    sums = np.array([float(kernel.array.sum()) for kernel in group.kernels])
    return np.ravel(base[:, None] * sums + 0.0)  # no -0.0

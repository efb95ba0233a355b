"""Stored pixels -> prepared planes: chosen bands, prepare steps, float32 without their offset."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np
import torch
from torch import Tensor

from pipeline.bands import choose_bands
from pipeline.bank.memory import roomy
from pipeline.derive import derived
from pipeline.errors import PlanError, ReadError
from pipeline.plan import Plan
from pipeline.readers.picture import COLOUR
from pipeline.steps import Prepared
from pipeline.types import Batch, ImageInfo, Ints, Reach, Region, Tile

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luminance (ITU-R BT.601), as in JPEG and Pillow."""

_SMALL = (torch.uint8, torch.int8, torch.uint16, torch.int16)
"""Types whose numbers, and what lies between two of them, float32 tells apart."""

_SAMPLE = 4096
_BACKGROUND = 1 / 64
"""Share of pixels from which on those that are 0 are a background."""

_NEAR = 1 / 8
"""Most distance, as a share of a median, of what it dwarfs."""

_EXACT = 1 << 22
"""Most of a median that float32 takes from whole numbers up to 2^23 without rounding them."""


def prepare(plan: Plan, batch: Batch) -> Batch:
    """Move a batch to the device and make it ready for the bank.

    Out: values (N, C, *box) float32 with the offset (N, C) removed. Invalid pixels hold 0. The
    sources, boxes and regions are those after the steps. On a CPU there is room around the planes
    for the margin of a bank. Raises ReadError, kind `unsupported`, where a step cannot take the
    images.
    """
    images, bands = _prepared(plan, batch)
    looked = images if batch.sample is None else _prepared(plan, _sample(batch, *batch.sample))[0]
    offset = _offset(looked.values, looked.valid)
    wide, valid = images.values, images.valid
    if offset is not None:
        wide -= offset.to(wide.dtype).reshape(*offset.shape, *(1,) * (wide.ndim - 2))
    tiles = tuple(map(_moved, batch.tiles, images.infos))
    narrow, room = _narrow(wide, tiles[0].core, images.box, plan.halo(batch.tiles[0].source.header))
    if valid is not None:
        narrow.masked_fill_(~valid, 0.0)
    return replace(
        batch,
        tiles=tiles,
        box=images.box,
        bands=bands,
        values=narrow,
        valid=valid,
        offset=offset,
        regions=images.regions,
        room=room,
    )


def _narrow(wide: Tensor, core: Region, box: Region, halo: Ints) -> tuple[Tensor, Reach]:
    """float32; on a CPU with room for what of a core and its halo lies beyond the image."""
    if wide.device.type != "cpu" or not halo:
        return wide.to(torch.float32), ()
    room = tuple(
        (max(0, have - start + h), max(0, stop + h - end))
        for start, stop, have, end, h in zip(
            core.start, core.stop, box.start, box.stop, halo, strict=True
        )
    )
    return roomy(tuple(wide.shape), room).copy_(wide), room


def _sample(batch: Batch, values: Tensor, valid: Tensor | None) -> Batch:
    """The sample of a scene as if it were all of an image."""
    box = Region.whole(tuple(values.shape[2:]))
    return replace(batch, box=box, values=values, valid=valid, regions=())


def _prepared(plan: Plan, batch: Batch) -> tuple[Prepared, tuple[str, ...]]:
    """The chosen bands of a batch after the steps, those derived from them, and their labels."""
    working = torch.float32 if _exact(plan, batch) else torch.float64
    wide = batch.values.to(plan.device, non_blocking=True).to(working, copy=True)
    valid = None if batch.valid is None else batch.valid.to(plan.device, non_blocking=True)
    if valid is not None:
        wide.masked_fill_(~valid, 0.0)
    wide, valid = _choose(plan, wide, valid, batch)
    infos = tuple(tile.source.header for tile in batch.tiles)
    regions = batch.regions or ((),) * len(batch.tiles)
    images = Prepared(wide, valid, batch.box, infos, regions)
    labels = plan.labels(infos[0])[: wide.shape[1]]
    try:
        for step in plan.config.prepare:
            images = step.apply(images)
        wide, valid, bands = derived(plan.config.derive, images.values, images.valid, labels)
    except PlanError as error:
        raise ReadError("unsupported", str(error)) from error
    return replace(images, values=wide, valid=valid), bands


def _exact(plan: Plan, batch: Batch) -> bool:
    """Whether float32 holds all that is computed before the bank: nothing, and whole numbers."""
    config, whole = plan.config, batch.values.dtype in _SMALL
    mixed = config.input.bands == "luminance" and batch.values.shape[1] > 1
    return whole and not (mixed or config.prepare or config.derive)


def _moved(tile: Tile, info: ImageInfo) -> Tile:
    """The tile in the grid after the steps; one that steps resample is the whole image."""
    source = replace(tile.source, info=info)
    core = tile.core if info.shape == tile.source.header.shape else Region.whole(info.shape)
    return Tile(source, core)


def select(batch: Batch, bands: tuple[int, ...], labels: tuple[str, ...]) -> Batch:
    """The batch with some of its bands only."""
    if labels == batch.bands:
        return batch
    first, last = bands[0], bands[-1]
    whole = bands == tuple(range(first, last + 1))
    index = slice(first, last + 1) if whole else list(bands)
    return replace(
        batch,
        bands=labels,
        values=batch.values[:, index],
        valid=None if batch.valid is None else batch.valid[:, index],
        offset=None if batch.offset is None else batch.offset[:, index],
        room=batch.room if whole else (),
    )


def _choose(
    plan: Plan, values: Tensor, valid: Tensor | None, batch: Batch
) -> tuple[Tensor, Tensor | None]:
    """Keep the bands of `input.bands`; luminance of one band is that band."""
    wanted = plan.config.input.bands
    if wanted == "all":
        return values, valid
    if wanted == "luminance" and values.shape[1] == 1:
        return values, valid
    names = COLOUR if wanted == "luminance" else wanted
    index = list(choose_bands(names, batch.bands))
    if valid is not None:
        valid = valid[:, index]
    if wanted != "luminance":
        return values[:, index], valid
    red, green, blue = (values[:, i : i + 1] * w for i, w in zip(index, LUMA, strict=True))
    return red.add_(green).add_(blue), None if valid is None else valid.all(1, keepdim=True)


def _offset(values: Tensor, valid: Tensor | None) -> Tensor | None:
    """A constant per plane, (N, C) float64, or None: the median, or 0.

    Errors of float32 grow with the numbers that are added up: without their median those are what
    varies. Whole numbers stay exact. Others lose digits where they are much nearer to 0 than to it:
    there it is taken only where it dwarfs the spread. So it is with a background of 0, which every
    kernel is to answer with 0. Estimated from a fixed sample of pixels, so that it depends on their
    values alone, and not on the batch.
    """
    flat = values.flatten(2)
    step = max(1, flat.shape[2] // _SAMPLE)
    while gcd(step, flat.shape[2]) > 1:  # else of 4096 lines it sees one column
        step -= 1
    sample = flat[..., ::step].contiguous()
    if not sample.numel():
        return None
    count: Tensor | int = sample.shape[-1]
    if valid is not None:
        seen = valid.flatten(2)[..., ::step]
        sample, count = torch.where(seen, sample, torch.nan), seen.sum(-1)
    centre = _medians(sample)
    size = centre.abs()
    # More than half are near: so is the median of the distances, which is not searched for.
    near = ((sample - centre[..., None]).abs_() < _NEAR * size[..., None]).sum(-1)
    whole = (sample.frac().nan_to_num_() == 0.0).all(-1) & (size <= _EXACT)
    background = (sample == 0.0).sum(-1) > _BACKGROUND * count
    taken = (near > (count - 1) // 2) | (whole & ~background)
    return torch.where(taken, centre, 0.0).nan_to_num().double()


def _medians(sample: Tensor) -> Tensor:
    """Of each line the lower median of what is not NaN."""
    if sample.device.type != "cpu":
        return sample.nanmedian(-1).values
    ordered = np.sort(sample.numpy())  # NaN last; five times as fast as torch selects
    count = ordered.shape[-1] - np.isnan(ordered).sum(-1, keepdims=True)
    found = np.take_along_axis(ordered, (count - 1).clip(0) // 2, -1)
    return torch.from_numpy(found[..., 0])

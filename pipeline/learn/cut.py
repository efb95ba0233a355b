"""Patches out of images, which are read and prepared as those of a run are."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Array
from pipeline.errors import ReadError, TooManyFailed
from pipeline.learn.draw import Draw
from pipeline.types import Failure, Ints, Progress, Tile

if TYPE_CHECKING:
    from pipeline.stages.read import Loaded

Number = TypeVar("Number", np.float64, np.bool_)


@dataclass(frozen=True, slots=True)
class Cut(Progress):
    """Patches (n, *patch) float64 by the key of their image, and images that gave none."""

    patches: Mapping[str, Array]
    failed: Mapping[str, Failure]

    def add_to(self, patches: dict[str, Array]) -> None:
        """Add the patches to those of the same images; a scene's come tile by tile."""
        for key, found in self.patches.items():
            patches[key] = np.concatenate((patches[key], found)) if key in patches else found


def cut(draw: Draw) -> Iterator[Cut]:
    """Read the images of a draw and cut its patches; those that touch an invalid pixel are dropped.

    The places depend on the seed, an image's key and its size only. A file that cannot be read, or
    kills the process reading it, is one failed image. Raises TooManyFailed.
    """
    run = draw.plan.config.run
    budget = run.failures_allowed(len(draw.failed) + len(draw.quotas))
    failed = set(draw.failed)
    for event in _read(draw, failed):
        yield event
        failed |= set(event.failed)
        if budget is not None and len(failed) > budget:
            message = f"{len(failed)} images failed, more than run.max_failed ({budget}); stopped"
            raise TooManyFailed(message)


def _read(draw: Draw, failed: Collection[str]) -> Iterator[Cut]:
    """Read images in order, but no further tile of a scene that has failed."""
    from pipeline.stages.loader import read
    from pipeline.work import configure

    configure(draw.plan)

    def wanted(tile: Tile) -> bool:
        return tile.source.key not in failed

    for loaded in read(draw.plan, draw.shards, passes=1, wanted=wanted):
        yield _cut(draw, loaded)


def _cut(draw: Draw, loaded: Loaded) -> Cut:
    from pipeline.stages.prepare import prepare

    patches: dict[str, Array] = {}
    failed = {source.key: failure for source, failure in loaded.failures}
    pixels = 0
    for batch in loaded.batches:
        sources = [tile.source for tile in batch.tiles]
        try:
            prepared = prepare(draw.plan, batch)
        except ReadError as error:
            failed |= {source.key: Failure(error.kind, str(error)) for source in sources}
            continue
        values = prepared.values.double()
        if prepared.offset is not None:
            values += prepared.offset.reshape(*prepared.offset.shape, *(1,) * (values.ndim - 2))
        valid = None if prepared.valid is None else prepared.valid.numpy()
        for i, tile in enumerate(prepared.tiles):
            core = (slice(None), *tile.core.slices(prepared.box.start))
            seen = None if valid is None else valid[i][core]
            patches[tile.source.key] = _patches(draw, tile, values[i].numpy()[core], seen)
            pixels += tile.core.size
    return Cut((len(patches) + len(failed)) * loaded.job.first, pixels, patches, failed)


def _patches(draw: Draw, tile: Tile, image: Array, valid: npt.NDArray[np.bool_] | None) -> Array:
    """Patches at places drawn without repetition, in the order of drawing.

    A tile of a scene gives its share: as much as its part of the scene's pixels.
    """
    key, core = tile.source.key, tile.core
    windows = _windows(image, draw.patch[1:])
    places = windows.shape[: image.ndim - 1]
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), "<u4").tolist()
    rng = np.random.default_rng([draw.learn.seed, *words, *filter(None, core.start)])
    share = min(prod(places), -(-draw.quotas[key] * core.size // tile.source.pixels))
    at = np.unravel_index(rng.choice(prod(places), share, replace=False), places)
    found = windows[at]
    if valid is not None:
        whole = _windows(valid, draw.patch[1:])[at].reshape(len(found), -1).all(axis=1)
        found = found[whole]
    return np.ascontiguousarray(found)


def _windows(image: npt.NDArray[Number], sizes: Ints) -> npt.NDArray[Number]:
    """A view of (C, *shape) as patches (*places, C, *sizes)."""
    axes = tuple(range(1, image.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(image, sizes, axes)
    return np.moveaxis(windows, 0, image.ndim - 1)

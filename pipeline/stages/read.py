"""Sources -> batches of equal shape, decoded ahead in reader processes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ReadError
from pipeline.fetch import fetched
from pipeline.fingerprint import fingerprint
from pipeline.plan import Plan
from pipeline.readers.nvjpeg import file_of
from pipeline.stages.boxes import read_box
from pipeline.stages.regions import regions_in
from pipeline.storage import is_url
from pipeline.types import Batch, Encoded, Failure, Member, Region, Roi, Source, Tile
from pipeline.watch import Seconds, Watch, peak_memory
from pipeline.workers.bounds import TOO_LARGE, Begin, unguarded

if TYPE_CHECKING:
    from pipeline.readers.base import Mask, Pixels


_COPIES = 6
"""Arrays of an image's size and type, and masks, that its decoder may hold at a time."""
_PATCHES, _PATCH = (8, 32), 8
"""A scene is sampled in 8 x 8 patches of 8 x 8 pixels, or in more where none of those is valid."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a reader process is asked for at once: tiles of one shape, band count and type.

    box: the pixels to be read of each. turn: of a scene's tile, which pass over the scene it is
    for, from 0; None for whole images. first, last: of its sources in that pass.
    failed: tiles not to be read, by their place among all, and why.
    """

    shard: int
    tiles: tuple[Tile, ...]
    box: Region
    turn: int | None = None
    first: bool = True
    last: bool = True
    failed: Mapping[int, Failure] = field(default_factory=dict)

    def alone(self, item: int) -> Job:
        """One tile by itself."""
        return replace(self, tiles=(self.tiles[item],), failed={})

    def without(self, item: int, failure: Failure) -> Job:
        """The same job without a tile; what takes too long does so for each page of its file."""
        if failure.kind == "timeout":
            return self.without_files(dict.fromkeys(paths_of(self.tiles[item].source), failure))
        return replace(self, failed={**self.failed, item: failure})

    def without_files(self, failures: Mapping[str, Failure]) -> Job:
        """The same job without the tiles whose images are made of certain files."""
        if not failures:
            return self
        found = {
            i: failures[path]
            for i, tile in enumerate(self.tiles)
            for path in paths_of(tile.source)
            if path in failures
        }
        return replace(self, failed={**self.failed, **found})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What comes back for a job: batches as stored, and the sources that could not be read.

    fingerprints: SHA-256 of each source's files by key; traces: tracebacks of the unexpected;
    seconds, peak: what it took, and the most memory that its process has had; encoded: files that
    the GPU is to decode.
    """

    job: Job
    batches: tuple[Batch, ...]
    failures: tuple[tuple[Source, Failure], ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)
    traces: tuple[tuple[str, str], ...] = ()
    seconds: Seconds = field(default_factory=dict)
    peak: int = 0
    encoded: Encoded | None = None

    def pinned(self) -> Loaded:
        """The same with pixels in page-locked memory, from where a GPU copies asynchronously."""

        def pin(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.pin_memory()

        pinned = tuple(
            replace(batch, values=batch.values.pin_memory(), valid=pin(batch.valid))
            for batch in self.batches
        )
        return replace(self, batches=pinned)


@dataclass(frozen=True)
class Tiles:
    """A map from jobs to decoded batches, in the manner of torchvision's folder datasets."""

    plan: Plan

    def __getitem__(self, job: Job) -> Loaded:
        return self(job, unguarded)

    def __call__(self, job: Job, begin: Begin) -> Loaded:
        """Do a job. Raises nothing that a file could be the reason of."""
        watch = Watch()
        read: list[Read] = []
        failures, traces, fingerprints = [], [], {}
        needs = _bytes_needed(job)
        for i, tile in enumerate(job.tiles):
            if i in job.failed:
                failures.append((tile.source, job.failed[i]))
                continue
            key, size = tile.source.key, sum(member.bytes for member in tile.source.files)
            begin(i, size=0 if job.turn or not job.first else size, needs=needs)
            try:
                found, digest = _load(self.plan, job, i)
                read.append(found)
                if digest is not None:
                    fingerprints[key] = digest
            except ReadError as error:
                failures.append((tile.source, Failure(error.kind, str(error))))
            except MemoryError:
                failures.append((tile.source, TOO_LARGE))
            except Exception as error:  # a reader's defect must not cost its neighbours
                text = f"unexpected {type(error).__name__}: {error}"
                failures.append((tile.source, Failure("corrupt", text)))
                traces.append((key, traceback.format_exc()))
        begin(None)
        bad = {source.key for source, _ in failures}
        good = [one for one in read if one.tile.source.key not in bad]
        batches, files = _stack(good, job.box), _files(good, job.box)
        watch.lap("read")
        peak = peak_memory() if self.plan.workers else 0
        said = tuple(failures), fingerprints, tuple(traces)
        return Loaded(job, batches, *said, watch.seconds, peak, files)


def _load(plan: Plan, job: Job, item: int) -> tuple[Read, str | None]:
    """Read one tile, and hash its files where nobody has yet. Raises ReadError."""
    tile, digest = job.tiles[item], None
    following = (after.source.members for after in job.tiles[item + 1 : item + 2])
    again = job.turn is not None or tile.source.members in following
    with fetched(tile.source, keep=again) as source:
        before = _status(source.files)
        if not _as_listed(source.files, before):
            message = "the file changed after it was listed; run again when it is at rest"
            raise ReadError("changed", message)
        if job.first and not job.turn:
            digest = fingerprint(source.files, source.given)
        file = file_of(source) if plan.decodes_jpeg else None
        pixels, mask = (None, None) if file else read_box(source, job.box)
        rois = regions_in(plan, source, tile.core)
        sample = None if job.turn is None else _sample(source)
        if before != _status(source.files):
            message = "the file changed while it was read; run again when it is at rest"
            raise ReadError("changed", message)
    return Read(tile, pixels, mask, rois, sample, file), digest


@dataclass(frozen=True, slots=True)
class Read:
    """A tile's pixels as stored, where they are valid, and the parts of regions in its core.

    sample: of the scene that it is a tile of; file: what is to become its pixels, if there are none
    yet: bytes of JPEG, and its orientation.
    """

    tile: Tile
    pixels: Pixels | None
    mask: Mask | None
    rois: tuple[Roi, ...]
    sample: tuple[Tensor, Tensor | None] | None
    file: tuple[Pixels, int] | None


def paths_of(source: Source) -> tuple[str, ...]:
    """The files that a source is an image of, without its masks, which others may have too."""
    return tuple(member.path for member in source.members)


def _bytes_needed(job: Job) -> int:
    """Memory that reading a job may take, as its headers have it."""
    total = 0
    for tile in job.tiles:
        info = tile.source.header
        samples = prod(job.box.shape) * len(info.bands)
        total += _COPIES * samples * (np.dtype(info.dtype).itemsize + 1)
        if job.turn is None:  # many decoders hold the file as well
            total += sum(member.bytes for member in tile.source.files)
    return total


def _files(read: Sequence[Read], box: Region) -> Encoded | None:
    """The tiles of which there is a file."""
    found = [(one, *one.file) for one in read if one.file is not None]
    if not found:
        return None
    return Encoded(
        tuple(one.tile for one, *_ in found),
        box,
        found[0][0].tile.source.header.bands,
        tuple(torch.from_numpy(data) for _, data, _ in found),
        tuple(turn for *_, turn in found),
        tuple(one.rois for one, *_ in found),
    )


def _stack(read: Sequence[Read], box: Region) -> tuple[Batch, ...]:
    """One batch of the tiles that are valid everywhere, one of those that are not."""
    batches = []
    for masked in (False, True):
        part = [one for one in read if one.file is None and (one.mask is not None) == masked]
        if part:
            tiles = tuple(one.tile for one in part)
            # by name, because torch refuses a C type that is another spelling of uint64
            stored = tiles[0].source.header.dtype
            planes = [one.pixels for one in part if one.pixels is not None]
            values = torch.from_numpy(np.stack(planes, dtype=stored))
            masks = [one.mask for one in part if one.mask is not None]
            valid = torch.from_numpy(np.stack(masks)) if masked else None
            bands, rois = tiles[0].source.header.bands, tuple(one.rois for one in part)
            sample = part[0].sample
            batches.append(Batch(tiles, box, bands, values, valid, sample=sample, regions=rois))
    return tuple(batches)


@lru_cache(maxsize=2)
def _sample(source: Source) -> tuple[Tensor, Tensor | None]:
    """A few pixels from all over a scene, as stored, and where they are valid: (1, C, *spatial).

    The same for each of its tiles, as what is estimated from them has to be. Where none is valid,
    others are taken, from more places.
    """
    for patches in _PATCHES:
        values, valid = _patches(source, patches)
        if valid.any():
            break
    return torch.from_numpy(values), None if valid.all() else torch.from_numpy(valid)


def _patches(source: Source, count: int) -> tuple[Pixels, Mask]:
    """Pixels of count x count small patches, and where they are valid."""
    shape = source.header.shape
    side = tuple(min(_PATCH, n) for n in shape)
    axes = (np.linspace(0, n - m, count, dtype=int) for n, m in zip(shape, side, strict=True))
    planes, masks = [], []
    for at in product(*(axis.tolist() for axis in axes)):
        box = Region(at, tuple(a + m for a, m in zip(at, side, strict=True)))
        pixels, mask = read_box(source, box)
        planes.append(pixels)
        masks.append(np.ones(pixels.shape, np.bool_) if mask is None else mask)
    grid = (1, len(source.header.bands), count * side[0], count * side[1])
    return np.stack(planes, 1).reshape(grid), np.stack(masks, 1).reshape(grid)


def is_as_listed(source: Source) -> bool:
    """Whether the files of a source still have the sizes and times that they were listed with."""
    with fetched(source) as here:
        return _as_listed(here.files, _status(here.files))


def _as_listed(members: Sequence[Member], status: Sequence[tuple[int, int, int]]) -> bool:
    """Whether files are; of objects that are read by ranges `fetched` says so."""
    listed = [
        part
        for member in members
        if not is_url(member.path)
        for part in member.parts or ((member.bytes, member.mtime_ns),)
    ]
    return listed == [(size, time) for size, time, _ in status]


def _status(members: Sequence[Member]) -> list[tuple[int, int, int]]:
    try:
        near = [path for member in members for path in member.paths if not is_url(path)]
        found = [Path(path).stat() for path in near]
    except OSError as error:
        raise ReadError("io", error.strerror or type(error).__name__) from error
    return [(status.st_size, status.st_mtime_ns, status.st_ino) for status in found]

"""Patches -> a bank of filters in a file that `kernel` reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from pipeline.bank.expr import Array
from pipeline.commit import replace_file
from pipeline.errors import WriteError
from pipeline.learn.draw import Draw, refuse_few
from pipeline.learn.methods import Bank, Order, Tell, kmeans, pca, zca
from pipeline.plan import NUMERICS
from pipeline.types import Ints
from pipeline.version import versions


@dataclass(frozen=True)
class Learned:
    """A bank that was learned, and where it is. shape: of its weights."""

    path: Path
    shape: Ints
    patches: int
    images: int


def learn(draw: Draw, patches: Mapping[str, Array], tell: Tell = lambda: None) -> Learned:
    """Learn from the patches of each image and write the file, whole or not at all.

    Its tensors are float32: `weights` [count][bands][*size] and `bias` [count]. The same patches
    make the same bytes, in whatever order they were cut. Raises InputError where they are too few,
    PlanError, WriteError, and what `tell` raises.
    """
    used = [patches[key] for key in draw.quotas if key in patches and len(patches[key])]
    found = np.concatenate([*used, np.empty((0, *draw.patch))])
    refuse_few(len(found), draw)
    bank = _bank(draw, found.reshape(len(found), -1), tell)
    weights = bank.filters.reshape(-1, *draw.patch)
    # in C order, because safetensors writes memory as it lies
    narrow = partial(np.ascontiguousarray, dtype=np.float32)
    tensors = {"weights": narrow(weights), "bias": narrow(bank.bias)}
    path = Path(draw.learn.file).absolute()
    # one entry, because safetensors writes several in an order that differs between processes
    metadata = {"filterbank": json.dumps(_told(draw, len(used), len(found)), sort_keys=True)}
    try:
        replace_file(path, save(tensors, metadata))
    except OSError as error:
        message = f"cannot write {draw.learn.file}: {error.strerror}; free the disk or allow it"
        raise WriteError(message) from error
    return Learned(path, weights.shape, len(found), len(used))


def _bank(draw: Draw, patches: Array, tell: Tell) -> Bank:
    learn = draw.learn
    if learn.patches == "pca":
        return pca(patches, draw.count)
    if learn.patches == "zca":
        return zca(patches, draw.count, learn.epsilon, from_the_middle(draw.patch))
    return kmeans(patches, draw.count, learn.epsilon, learn.seed, tell)


def from_the_middle(patch: Ints) -> Order:
    """Pixels of a patch (bands, *size) by their distance from its middle, all bands of each.

    >>> from_the_middle((2, 3))
    array([1, 4, 0, 3, 2, 5])
    """
    offsets = [np.arange(n) - (n - 1) / 2 for n in patch[1:]]
    distance = sum(np.square(part) for part in np.meshgrid(*offsets, indexing="ij"))
    pixels = np.argsort(np.ravel(distance), kind="stable")
    return np.add.outer(pixels, np.arange(patch[0]) * prod(patch[1:])).ravel()


def _told(draw: Draw, images: int, patches: int) -> dict[str, object]:
    """What a bank was made of and by what: for the file's header."""
    settings = {key: value for key, value in asdict(draw.learn).items() if key != "file"}
    read = {key: draw.plan.expanded[key] for key in ("input", "prepare")}
    parts = {"learn": settings, **read, "numerics": NUMERICS}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return {
        "config": digest,
        "learn": settings,
        "images": images,
        "patches": patches,
        "versions": versions(),
    }

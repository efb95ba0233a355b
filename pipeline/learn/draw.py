"""Which patches to learn from: decided from headers alone, before the first pixel is read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

from pipeline.config import Config, Learn
from pipeline.discover import list_members
from pipeline.errors import InputError, PlanError
from pipeline.headers import open_all
from pipeline.plan import Plan
from pipeline.refusals import refuse_memory
from pipeline.shards import SHARD_SOURCES
from pipeline.survey import checked
from pipeline.types import Failure, Ints, Shard, Source

_COPIES = 6
"""Arrays as large as all patches that learning holds at a time."""


@dataclass(frozen=True)
class Draw:
    """How many patches to cut out of which image, and why others are left out.

    patch: the shape of one, (bands, *size). quotas: patches by the key of an image. failed: of
    images whose header cannot be used.
    """

    plan: Plan
    learn: Learn
    patch: Ints
    shards: tuple[Shard, ...]
    quotas: Mapping[str, int]
    left_out: Counter[str]
    failed: Mapping[str, Failure]

    @property
    def count(self) -> int:
        """Number of filters."""
        return self.learn.count or prod(self.patch)


def draw(config: Config) -> Draw:
    """Share the patches out over the images, so that every place in the folder is as likely.

    Images of another rank or number of bands than most are left out. Raises InputError where there
    is too little to learn from, PlanError where there cannot be so many filters or patches.
    """
    assert config.learn is not None
    plan, learn = Plan(config, "cpu"), config.learn
    refuse_memory(plan)
    listing = list_members(config.input, now=time.time())
    sources = [
        checked(plan, source)
        for unit in open_all(listing.sources, config.input, config.limits, workers=plan.workers)
        for source in unit
    ]
    left_out = Counter(listing.skipped)
    failed = {s.key: s.failure for s in sources if s.failure is not None}
    kinds = {s.key: _kind(plan, s) for s in sources if s.failure is None}
    common = Counter(kinds.values()).most_common(1)
    alike = [s for s in sources if common and kinds.get(s.key) == common[0][0]]
    left_out["other rank or bands than most"] += len(kinds) - len(alike)
    places = {s.key: _places(s.header.shape, learn.size) for s in alike}
    left_out["smaller than a patch"] += sum(n == 0 for n in places.values())
    total = sum(places.values())
    if not total:
        raise InputError(_nothing(config, +left_out, failed))
    bands, ndim = common[0][0]
    quotas = _shares(places, min(learn.samples, total))
    found = Draw(
        plan,
        learn,
        (bands, *(learn.size,) * ndim),
        _shards([s for s in alike if quotas[s.key]]),
        quotas,
        +left_out,
        failed,
    )
    _check_count(found)
    refuse_few(sum(quotas.values()), found)
    return found


def refuse_few(patches: int, asked: Draw) -> None:
    """Raise InputError where there are fewer patches than filters or numbers in a patch."""
    need = max(asked.count, prod(asked.patch) + 1)
    if patches < need:
        message = (
            f"{patches} patches of {written(asked.patch)} are too few (at least {need}); "
            "give more images, raise learn.samples, or lower learn.size"
        )
        raise InputError(message)


def written(patch: Ints) -> str:
    """A patch's shape for people: bands apart from its edges."""
    bands, *sizes = patch
    return f"{'x'.join(map(str, sizes))} pixels and {bands} band{'s' * (bands > 1)}"


def _kind(plan: Plan, source: Source) -> tuple[int, int]:
    """Number of bands, rank: what a bank of filters is made for."""
    return len(plan.labels(source.header)), len(source.header.shape)


def _places(shape: Ints, size: int) -> int:
    """At how many places a patch lies inside an image."""
    return prod(max(0, n - size + 1) for n in shape)


def _shares(places: Mapping[str, int], patches: int) -> dict[str, int]:
    """Share patches out in proportion, in whole numbers that add up; none gets more than it has."""
    total = sum(places.values())
    ends = [end * patches // total for end in accumulate(places.values(), initial=0)]
    return {key: b - a for key, (a, b) in zip(places, pairwise(ends), strict=True)}


def _shards(sources: Sequence[Source]) -> tuple[Shard, ...]:
    starts = range(0, len(sources), SHARD_SOURCES)
    return tuple(Shard(str(i), tuple(sources[i : i + SHARD_SOURCES])) for i in starts)


def _check_count(asked: Draw) -> None:
    size, learn = prod(asked.patch), asked.learn
    if learn.patches != "kmeans" and asked.count > size:
        message = (
            f"{learn.patches} of patches of {written(asked.patch)} makes {size} filters "
            f"(got learn.count {learn.count}); lower it, or give a larger learn.size"
        )
        raise PlanError(message)
    need = _COPIES * 8 * size * sum(asked.quotas.values())
    if need > asked.plan.room:
        message = (
            f"learning from {learn.samples} patches needs about {need / 2**30:.1f} GiB of memory; "
            "lower learn.samples or raise run.memory"
        )
        raise PlanError(message)


def _nothing(config: Config, left_out: Counter[str], failed: Mapping[str, Failure]) -> str:
    why = left_out + Counter(f"{failure.kind} image" for failure in failed.values())
    told = ", ".join(f"{n} {reason}" for reason, n in why.most_common())
    return (
        f"no image to learn from in {', '.join(config.input.path)}{f' ({told})' if told else ''}; "
        "check input.path, include, exclude and learn.size"
    )

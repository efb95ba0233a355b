"""Planes of a response whose blocks come one by one; once all are there, each is one block.

The pixels of a block are packed where they belong in the plane, cell after cell, and looked at
while they are in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from pipeline.statistics.base import Block, Counts
from pipeline.statistics.lazy import lazy
from pipeline.statistics.packed import Packed, Pixels, Seen
from pipeline.types import Ints

if TYPE_CHECKING:
    from pipeline.statistics.base import Pixels as Reduced


@dataclass(frozen=True, slots=True)
class Gathering:
    """What is known of a block whose pixels lie in a plane from `at` on.

    first, grid: of its cells; starts: where each begins behind `at`, and the end; seen: what one
    look told.
    """

    at: int
    first: Ints
    grid: Ints
    starts: Counts
    seen: Seen


def gather(block: Block, plane: Pixels, at: int) -> Gathering:
    """Pack the pixels of a block, (1, *spatial), into a plane; no more than are valid there."""
    ((first, grid),), packed = block.grids, cast("Packed", block.pixels)
    return Gathering(at, first, grid, *packed.move(plane[at:]))


@dataclass(frozen=True)
class Gathered(Block):
    """All of a plane as one block; values: its valid pixels, (1, n), cell after cell."""

    gatherings: tuple[Gathering, ...] = ()

    @classmethod
    def of(cls, plane: Pixels, gatherings: Sequence[Gathering]) -> Gathered:
        """Close the gaps that invalid pixels left. plane: (n,), is changed."""
        kept, stop = [], 0
        for one in sorted(gatherings, key=lambda one: one.at):
            count = int(one.starts[-1])
            if one.at > stop:
                plane[stop : stop + count] = plane[one.at : one.at + count]
            kept.append(Gathering(stop, one.first, one.grid, one.starts, one.seen))
            stop += count
        values = torch.from_numpy(plane[:stop])[None]
        return cls(values, None, (0,), (stop,), alone=True, gatherings=tuple(kept))

    @lazy
    def pixels(self) -> Reduced:
        """The pixels, of which much is known."""
        starts = [one.at + one.starts[:-1] for one in self.gatherings]
        low, high = np.stack([one.seen.extremes[0] for one in self.gatherings], 1)
        seen = Seen(
            np.concatenate([one.seen.moments for one in self.gatherings]),
            np.array([[low.min(), high.max()]]),
            np.all([one.seen.integral for one in self.gatherings], 0),
        )
        ends = np.concatenate([*starts, [self.shape[0]]])
        return cast("Reduced", Packed.joined(self.values.numpy()[0], ends, seen))

    @property
    def grids(self) -> tuple[tuple[Ints, Ints], ...]:
        """Of every block."""
        return tuple((one.first, one.grid) for one in self.gatherings)

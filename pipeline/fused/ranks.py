"""Pixels by their ranks, on the device: their keys are found some bits at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.fused.keys import Keys, first_alike
from pipeline.statistics.base import Counts, Floats

STEPS = (14, 9, 9)
"""Bits of a key that a walk finds."""


@dataclass(frozen=True)
class Ranked:
    """A search for pixels at some ranks of each plane.

    leading (P, R): bits of their keys that are known, those of the first `done` steps; ranks
    (P, R): among the pixels whose keys begin alike.
    """

    leading: Tensor
    ranks: Tensor
    done: int = 0

    @classmethod
    def begin(cls, ranks: Counts, device: torch.device) -> Ranked:
        """Nothing is known yet. ranks (P, R): from 0, ascending."""
        wanted = torch.from_numpy(ranks).to(device)
        return cls(torch.zeros_like(wanted), wanted)

    @property
    def complete(self) -> bool:
        """Whether all bits are known."""
        return self.done == len(STEPS)

    @property
    def keys(self) -> Keys:
        """What the next walk has to count."""
        leading = self.leading if self.done else self.leading[:, :1]
        return Keys(leading, STEPS[: self.done + 1])

    def descend(self, counts: Tensor) -> Ranked:
        """Follow the ranks through the counts, (P, slots, 2^bits), of the bits that come next."""
        slots, bins = counts.shape[1:]
        below = counts.cumsum(2, dtype=torch.int32)
        slot = first_alike(self.leading)[:, None]
        wanted = self.ranks[:, None].expand(-1, slots, -1).to(torch.int32).contiguous()
        places = torch.searchsorted(below, wanted, right=True).clamp_(max=bins - 1)
        passed = torch.where(places > 0, below.gather(2, (places - 1).clamp_(min=0)), 0)
        place, skip = (x.gather(1, slot)[:, 0] for x in (places, passed))
        return Ranked(self.leading * bins + place, self.ranks - skip, self.done + 1)

    def values(self) -> Floats:
        """The pixels, (P, R), when all bits are known."""
        keys = self.leading.cpu().numpy().astype(np.uint32)
        bits = np.where(keys >> np.uint32(31), keys ^ np.uint32(1 << 31), ~keys)
        return bits.view(np.float32).astype(np.float64)

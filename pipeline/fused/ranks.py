"""Pixels by their ranks, on the device: their keys are found some bits at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.fused.choose import STEPS
from pipeline.fused.keys import first_alike, keys
from pipeline.fused.reductions import Reduction
from pipeline.statistics.base import Counts, Floats


def ranked(ranks: Counts, device: torch.device) -> Reduction:
    """The pixels at some ranks of each plane, (P, R) from 0, ascending; several walks find them."""
    wanted = torch.from_numpy(ranks).to(device)
    return _search(torch.zeros_like(wanted), wanted, 0)


def _search(leading: Tensor, ranks: Tensor, done: int) -> Reduction:
    """Go on where `done` of the steps are known.

    leading (P, R): their bits of the wanted keys; ranks (P, R): among the pixels whose keys begin
    alike.
    """

    def descend(counts: Tensor) -> Reduction | Floats:
        """Follow the ranks through the counts, (P, slots, 2^bits), of the bits that come next."""
        slots, bins = counts.shape[1:]
        below = counts.cumsum(2, dtype=torch.int32)
        slot = first_alike(leading)[:, None]
        wanted = ranks[:, None].expand(-1, slots, -1).to(torch.int32).contiguous()
        places = torch.searchsorted(below, wanted, right=True).clamp_(max=bins - 1)
        passed = torch.where(places > 0, below.gather(2, (places - 1).clamp_(min=0)), 0)
        place, skip = (x.gather(1, slot)[:, 0] for x in (places, passed))
        found = leading * bins + place
        return _values(found) if done + 1 == len(STEPS) else _search(found, ranks - skip, done + 1)

    counting = keys(leading if done else leading[:, :1], STEPS[: done + 1])
    return replace(counting, answer=descend)


def _values(found: Tensor) -> Floats:
    """The pixels that have these keys, (P, R)."""
    from pipeline.statistics.finish import numbers

    out = np.empty(tuple(found.shape))
    numbers(found.cpu().numpy(), out)
    return out

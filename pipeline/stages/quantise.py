"""Responses -> codes of their previews, where the responses are: one byte of a pixel travels."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.writers.png import Codes, Depth, Limits, checked


def quantise(
    values: Tensor, valid: Tensor | None, limits: Limits | None, depth: Depth
) -> tuple[list[Codes], Tensor]:
    """The codes that `png.render` makes of each plane, to the bit, and what they stand for.

    values: (P, H, W) float32; valid: bool of the same shape, or None for everywhere. Out: (P, H, W)
    uint8 or uint16 on the same device. Takes 32 bytes a pixel.
    """
    usable = values.isfinite()
    if valid is not None:
        usable &= valid
    lines = [Codes.spanning(*ends, depth) for ends in _spans(values, usable, limits)]
    top = 2**depth - 1
    steps = [(line.offset, 1.0 / line.scale if line.scale > 0.0 else 0.0) for line in lines]
    offset, many = torch.tensor(steps, dtype=torch.float64, device=values.device).T[..., None, None]
    codes = values.to(torch.float64).sub_(offset).mul_(many).clamp_(1, top).round_()
    codes = torch.where(many > 0.0, codes, top // 2 + 1)
    codes.masked_fill_(~usable, 0)
    return lines, codes.to(torch.uint8 if depth == 8 else torch.uint16)


def _spans(values: Tensor, usable: Tensor, limits: Limits | None) -> list[Limits]:
    """What the codes of each plane span; (0, 0) where nothing is usable."""
    if limits is not None:
        return [checked(limits)] * len(values)
    low = torch.where(usable, values, torch.inf).flatten(1).amin(1)
    high = torch.where(usable, values, -torch.inf).flatten(1).amax(1)
    ends = torch.stack((low, high), 1).double().tolist()
    return [(lo, hi) if lo <= hi else (0.0, 0.0) for lo, hi in ends]

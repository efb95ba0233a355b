"""What derived maps do to each pixel; one plane at a time where vectorised tails round apart.

(The last few pixels of a tensor go through other instructions than the rest, and with the number
of planes it changes which pixels are the last.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.bank.eigen import eigenvalue, eigenvector
from pipeline.bank.expr import Join, Map

_EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "square": torch.square,
    "sqrt": torch.sqrt,
    "negate": torch.neg,
    "rectify": lambda x: x.clamp_min(0.0),
    "reciprocal": lambda x: torch.where(x == 0.0, 0.0, 1.0 / x),
}
_SCALAR: dict[str, Callable[[Tensor, float], Tensor]] = {
    "add": torch.add,
    "multiply": torch.mul,
    "at_least": lambda x, amount: (x >= amount).to(x.dtype),
}
_ROUNDED: dict[str, Callable[[Tensor, float], Tensor]] = {
    "exp": lambda x, _: x.exp(),
    "expm1": lambda x, _: x.expm1(),
    "log": lambda x, _: x.clamp_min(1e-30).log(),
    "sin": lambda x, _: x.sin(),
    "cos": lambda x, _: x.cos(),
    "power": lambda x, amount: x.abs().pow(amount),
}
_MATRIX: dict[str, Callable[[int, Sequence[Tensor]], Tensor]] = {
    "eigenvalue": eigenvalue,
    "eigenvector": eigenvector,
}


def map_pixels(node: Map, x: Tensor) -> Tensor:
    """Apply the function of a Map to planes (P, *shape) float32."""
    if node.fn in _EXACT:
        return _EXACT[node.fn](x)
    if node.fn in _SCALAR:
        return _SCALAR[node.fn](x, node.amount)
    return torch.stack([_ROUNDED[node.fn](plane, node.amount) for plane in x])


def look_up(table: Sequence[float], x: Tensor) -> Tensor:
    """The entries of a table at whole numbers; what lies beyond its ends takes the nearest."""
    entries = torch.tensor(table, dtype=x.dtype, device=x.device)
    return entries[x.round().to(torch.int64).clamp(0, len(table) - 1)]


def join_pixels(node: Join, parts: Sequence[Tensor]) -> Tensor:
    """Combine planes (P, *shape) float32 by the function of a Join."""
    if node.fn == "atan2":
        return torch.stack([torch.atan2(y, x) for y, x in zip(*parts, strict=True)])
    if node.fn in _MATRIX:
        matrix = _MATRIX[node.fn]
        return torch.stack([matrix(node.index, planes) for planes in zip(*parts, strict=True)])
    if node.fn == "argmax":
        return _argmax(parts)
    total = parts[0].square() if node.fn == "norm" else parts[0]
    for part in parts[1:]:
        if node.fn == "max":
            total = torch.maximum(total, part)
        elif node.fn == "min":
            total = torch.minimum(total, part)
        elif node.fn == "product":
            total = total * part
        else:
            total = total + (part * part if node.fn == "norm" else part)
    if node.fn == "mean":
        return total / len(parts)
    return total.sqrt() if node.fn == "norm" else total


def _argmax(parts: Sequence[Tensor]) -> Tensor:
    best, where = parts[0], torch.zeros_like(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        where = torch.where(part > best, float(i), where)
        best = torch.maximum(best, part)
    return where

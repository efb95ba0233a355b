"""What derived maps do to each pixel; one plane at a time where vectorised tails round apart.

(The last few pixels of a tensor go through other instructions than the rest, and with the number
of planes it changes which pixels are the last.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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


def _norm(_: int, parts: Sequence[Tensor]) -> Tensor:
    total = parts[0].square()
    for part in parts[1:]:
        total += part.square()
    return total.sqrt_()


def _ratio(_: int, parts: Sequence[Tensor]) -> Tensor:
    numerator, denominator = parts
    share = torch.where(denominator.abs() < _FLOAT.tiny, 0.0, numerator / denominator)
    return share.clamp_(-_FLOAT.max, _FLOAT.max)


_DOUBLE: dict[str, Callable[[int, Sequence[Tensor]], Tensor]] = {
    "norm": _norm,
    "ratio": _ratio,
    "eigenvalue": eigenvalue,
    "eigenvector": eigenvector,
}
"""Computed in float64, where no square of a float32 is 0 or infinite."""

_FLOAT = torch.finfo(torch.float32)

_PIECE = 1 << 15
"""Pixels worked on at a time on a CPU: intermediate results stay in a cache, and are never many."""


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
    if node.fn in _DOUBLE:
        function = partial(_DOUBLE[node.fn], node.index)
        return torch.stack([_by_pieces(function, planes) for planes in zip(*parts, strict=True)])
    if node.fn == "argmax":
        return _argmax(parts)
    total = parts[0]
    for part in parts[1:]:
        if node.fn == "max":
            total = torch.maximum(total, part)
        elif node.fn == "min":
            total = torch.minimum(total, part)
        elif node.fn == "product":
            total = total * part
        else:
            total = total + part
    return total / len(parts) if node.fn == "mean" else total


def _by_pieces(function: Callable[[Sequence[Tensor]], Tensor], parts: Sequence[Tensor]) -> Tensor:
    flat = [part.reshape(-1) for part in parts]
    out = torch.empty_like(flat[0])
    step = _PIECE if out.device.type == "cpu" else 128 * _PIECE
    for start in range(0, out.numel(), step):
        piece = slice(start, start + step)
        out[piece] = function([part[piece].double() for part in flat])
    return out.reshape(parts[0].shape)


def _argmax(parts: Sequence[Tensor]) -> Tensor:
    best, where = parts[0], torch.zeros_like(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        where = torch.where(part > best, float(i), where)
        best = torch.maximum(best, part)
    return where

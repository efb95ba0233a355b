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
from pipeline.bank.memory import empty

_EXACT: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "abs": lambda x, _, out: torch.abs(x, out=out),
    "square": lambda x, _, out: torch.square(x, out=out),
    "sqrt": lambda x, _, out: torch.sqrt(x, out=out),
    "negate": lambda x, _, out: torch.neg(x, out=out),
    "rectify": lambda x, _, out: torch.clamp_min(x, 0.0, out=out),
    "add": lambda x, amount, out: torch.add(x, amount, out=out),
    "multiply": lambda x, amount, out: torch.mul(x, amount, out=out),
    "at_least": lambda x, amount, out: torch.ge(x, amount, out=out),
}
_ROUNDED: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "exp": lambda x, _, out: torch.exp(x, out=out),
    "expm1": lambda x, _, out: torch.expm1(x, out=out),
    "log": lambda x, _, out: torch.clamp_min(x, 1e-30, out=out).log_(),
    "sin": lambda x, _, out: torch.sin(x, out=out),
    "cos": lambda x, _, out: torch.cos(x, out=out),
    "power": lambda x, amount, out: torch.abs(x, out=out).pow_(amount),
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

_FOLDED: dict[str, Callable[..., Tensor]] = {
    "sum": torch.add,
    "mean": torch.add,
    "product": torch.mul,
    "max": torch.maximum,
    "min": torch.minimum,
}
"""Done part by part, in their order."""

_FLOAT = torch.finfo(torch.float32)

_PIECE = 1 << 15
"""Pixels worked on at a time on a CPU: intermediate results stay in a cache, and are never many."""


def map_pixels(node: Map, x: Tensor) -> Tensor:
    """Apply the function of a Map to planes (P, *shape) float32."""
    out = empty(x.shape, x.device)
    if node.fn in _EXACT:
        return _EXACT[node.fn](x, node.amount, out)
    for plane, to in zip(x, out, strict=True):
        _ROUNDED[node.fn](plane, node.amount, to)
    return out


def look_up(table: Sequence[float], x: Tensor) -> Tensor:
    """The entries of a table at whole numbers; what lies beyond its ends takes the nearest."""
    entries = torch.tensor(table, dtype=x.dtype, device=x.device)
    return entries[x.round().to(torch.int64).clamp(0, len(table) - 1)]


def join_pixels(node: Join, parts: Sequence[Tensor]) -> Tensor:
    """Combine planes (P, *shape) float32 by the function of a Join."""
    if node.fn == "argmax":
        return _argmax(parts)
    out = empty(parts[0].shape, parts[0].device)
    if node.fn in _FOLDED:
        total = parts[0]
        for part in parts[1:]:
            total = _FOLDED[node.fn](total, part, out=out)
        return torch.div(total, node.count, out=out) if node.fn == "mean" else total
    for to, *planes in zip(out, *parts, strict=True):
        if node.fn == "atan2":
            torch.atan2(*planes, out=to)
        else:
            _by_pieces(partial(_DOUBLE[node.fn], node.index), planes, to)
    return out


def _by_pieces(
    function: Callable[[Sequence[Tensor]], Tensor], parts: Sequence[Tensor], out: Tensor
) -> None:
    flat = [part.reshape(-1) for part in parts]
    to = out.view(-1)
    step = _PIECE if out.device.type == "cpu" else 128 * _PIECE
    for start in range(0, out.numel(), step):
        piece = slice(start, start + step)
        to[piece] = function([part[piece].double() for part in flat])


def _argmax(parts: Sequence[Tensor]) -> Tensor:
    best, where = parts[0], torch.zeros_like(parts[0])
    for i, part in enumerate(parts[1:], start=1):
        where = torch.where(part > best, float(i), where)
        best = torch.maximum(best, part)
    return where

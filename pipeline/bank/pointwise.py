"""What derived maps do to each pixel; one plane at a time where vectorised tails round apart.

(The last few pixels of a tensor go through other instructions than the rest, and with the number
of planes it changes which pixels are the last. Of maxima and minima only the sign of a zero hangs
on that.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

_FOLDING = 1 << 16
"""The same where each takes one addition: asking for it must not take longer."""


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


def join_pixels(node: Join, parts: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Combine planes (P, *shape) float32, each with its base (P,), if any, which is added first.

    Some pixels are done after the others, so that little but the result takes memory.
    """
    first = parts[0][0]
    out = empty(first.shape, first.device)
    level = (-1, *(1,) * (first.ndim - 1))
    leveled = [(data, None if base is None else base.reshape(level)) for data, base in parts]
    if out.numel() <= _FOLDING:
        leveled = [(_plus(data, base, slice(None)), None) for data, base in leveled]
    if node.fn in _FOLDED or node.fn == "argmax":
        for planes, rows in _boxes(out):
            boxes = [_plus(data[planes, rows], base, planes) for data, base in leveled]
            (_argmax if node.fn == "argmax" else _fold)(node, boxes, out[planes, rows])
        return out
    for i, to in enumerate(out):
        if node.fn == "atan2":
            torch.atan2(*(_plus(data[i], base, i) for data, base in leveled), out=to)
        else:
            flat = [(x[i].reshape(-1), None if b is None else b[i].flatten()) for x, b in leveled]
            _by_pieces(partial(_DOUBLE[node.fn], node.index), flat, to.view(-1))
    return out


def _plus(data: Tensor, base: Tensor | None, planes: slice | int) -> Tensor:
    return data if base is None else data + base[planes].to(data.dtype)


def _boxes(x: Tensor) -> Iterator[tuple[slice, slice]]:
    """Planes, and rows of them, that hold a few pixels together; all at once on a GPU."""
    count, rows = x.shape[:2]
    most = _FOLDING if x.device.type == "cpu" else max(1, x.numel())
    size = max(1, x[0].numel())
    many, high = max(1, most // size), max(1, most * rows // size)
    for plane in range(0, count, many):
        for row in range(0, rows, high):
            yield slice(plane, plane + many), slice(row, row + high)


def _fold(node: Join, boxes: Sequence[Tensor], out: Tensor) -> None:
    total = boxes[0]
    for box in boxes[1:]:
        total = _FOLDED[node.fn](total, box, out=out)
    if node.fn == "mean":
        torch.div(total, node.count, out=out)
    elif total is not out:
        out.copy_(total)


def _argmax(_: Join, boxes: Sequence[Tensor], out: Tensor) -> None:
    best = boxes[0]
    out.zero_()
    for i, box in enumerate(boxes[1:], start=1):
        out.masked_fill_(box > best, float(i))
        best = torch.maximum(best, box)


def _by_pieces(
    function: Callable[[Sequence[Tensor]], Tensor],
    parts: Sequence[tuple[Tensor, Tensor | None]],
    out: Tensor,
) -> None:
    step = _PIECE if out.device.type == "cpu" else 128 * _PIECE
    for start in range(0, out.numel(), step):
        piece = slice(start, start + step)
        out[piece] = function([_plus(data[piece], base, 0).double() for data, base in parts])

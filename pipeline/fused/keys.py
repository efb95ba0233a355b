"""Counts of the bits of keys: what percentiles are found by, without a sort."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from pipeline.fused.reductions import Reduction
from pipeline.fused.source import Template
from pipeline.types import Ints

_NAN = 0x7FC00000


def keys(leading: Tensor, steps: Ints) -> Reduction:
    """Count the next bits of the keys that begin with given bits: (P, slots, 2^steps[-1]) int32.

    leading (P, slots): as in `statistics.base.Pixels`, on the device, where the counts stay. Its
    bits, step by step, are a tree, in which a key is followed down from node to node, by a table
    for each step but the last, until it is in a slot or nowhere.
    """
    slots = leading.shape[1]
    tables, parent = [], torch.zeros_like(leading)
    for level, bits in enumerate(steps[:-1]):
        begin = leading >> sum(steps[level + 1 : -1])
        shape = len(leading), (slots if level else 1) << bits
        table = begin.new_full(shape, -1, dtype=torch.int16)
        place = (parent << bits) + (begin & ((1 << bits) - 1))
        parent = first_alike(begin)
        tables.append(table.scatter_(1, place, parent.to(torch.int16)))
    counters = slots, 1 << steps[-1]
    return Reduction(_template(slots, steps), lambda x: x, tuple(tables), counters=counters)


def _template(slots: int, steps: Ints) -> Template:
    """Down the tree by tables of nodes, -1 where there is none."""
    pointers = (*(f"nodes{level}_ptr" for level in range(len(steps) - 1)), "keys_ptr")
    places = []
    for level, (bits, done) in enumerate(zip(steps, accumulate(steps), strict=True)):
        more = f"((key >> {32 - done}) & {(1 << bits) - 1}).to(tl.int32)"
        size = (slots if level else 1) << bits
        places.append(f"{pointers[level]} + q * {size} + (@ * {size} + (node << {bits}) + {more})")
    return Template(
        pointers=pointers,
        each="\n".join(
            [
                "bits = (a@ + 0.0).to(tl.int32, bitcast=True)",  # one zero, no -0.0
                f"bits = tl.where(a@ != a@, {_NAN}, bits)",
                "key = (bits ^ ((bits >> 31) | -2147483648)).to(tl.uint32, bitcast=True)",
                "node = tl.where(ok, 0, -1)",
                *(
                    f"node = tl.load({place}, mask=node >= 0, other=-1).to(tl.int32)"
                    for place in places[:-1]
                ),
                f'tl.atomic_add({places[-1]}, 1, mask=node >= 0, sem="relaxed")',
            ]
        ),
    )


def first_alike(x: Tensor) -> Tensor:
    """The first position, in each row of (P, n), of a number equal to the one that is there."""
    places = torch.arange(x.shape[1], device=x.device)
    return torch.where(x[:, :, None] == x[:, None, :], places, x.shape[1]).amin(2)

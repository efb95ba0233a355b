"""Right-angle rotations of whole expressions: 4 in 2-D, 24 in 3-D, as IBSI 2 wants them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Conv, Join, Kernel, Node, Pool, Spectral, Transfer, rewrite
from pipeline.types import Ints

Pooling: TypeAlias = Literal["none", "max", "mean"]


@dataclass(frozen=True, slots=True)
class Rotation:
    """Axis i of the result is axis order[i] of the argument, reversed where signs[i] is -1."""

    order: Ints
    signs: Ints

    def of(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Rotate an array about its middle."""
        reverse = tuple(slice(None, None, sign) for sign in self.signs)
        return array.transpose(self.order)[reverse]


def right_angles(ndim: int) -> tuple[Rotation, ...]:
    """All axis permutations with all flips whose determinant is +1.

    >>> [len(right_angles(n)) for n in (1, 2, 3)]
    [1, 4, 24]
    """
    return tuple(
        Rotation(order, signs)
        for order in permutations(range(ndim))
        for signs in product((1, -1), repeat=ndim)
        if _parity(order) * prod(signs) == 1
    )


def _parity(order: Ints) -> int:
    n = len(order)
    inversions = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
    return -1 if inversions % 2 else 1


def rotate(node: Node, rotation: Rotation) -> Node:
    """Rotate every kernel, window and transfer function of an expression alike."""

    def change(this: Node) -> Node:
        if isinstance(this, Conv):
            return replace(this, kernel=_rotated(this.kernel, rotation))
        if isinstance(this, Pool):
            return replace(this, shape=tuple(this.shape[i] for i in rotation.order))
        if isinstance(this, Spectral):
            return replace(this, transfer=RotatedTransfer(this.transfer, rotation))
        return this

    return rewrite(node, change)


def _rotated(kernel: Kernel, rotation: Rotation) -> Kernel:
    """An even kernel's origin turns with it."""
    origin = [kernel.origin[i] for i in rotation.order]
    sizes = [kernel.shape[i] for i in rotation.order]
    turned = tuple(
        o if sign == 1 else n - 1 - o
        for o, n, sign in zip(origin, sizes, rotation.signs, strict=True)
    )
    return Kernel.of(rotation.of(kernel.array), turned)


@dataclass(frozen=True, slots=True)
class RotatedTransfer:
    """A transfer function whose frequency axes are rotated."""

    transfer: Transfer
    rotation: Rotation

    def sample(self, shape: Ints) -> npt.NDArray[Any]:
        """As the transfer function would be sampled for an image turned back."""
        before = [0] * len(shape)
        for axis, old in enumerate(self.rotation.order):
            before[old] = shape[axis]
        turned = self.transfer.sample(tuple(before)).transpose(self.rotation.order)
        for axis, sign in enumerate(self.rotation.signs):
            if sign == -1:  # frequency k becomes -k, which stands at n - k
                turned = np.roll(np.flip(turned, axis), 1, axis)
        return turned


def pool_rotations(node: Node, ndim: int, how: Pooling) -> Node:
    """The largest (signed) or the mean response over all right-angle rotations of an expression.

    Equal rotations are computed once: each distinct one occurs equally often.
    """
    if how == "none":
        return node
    distinct: dict[Node, Node] = {}
    for rotation in right_angles(ndim):
        turned = rotate(node, rotation)
        distinct.setdefault(rewrite(turned, _rounded), turned)
    first, *others = distinct.values()
    return Join((first, *others), how) if others else first


def _rounded(node: Node) -> Node:
    """An outer product of the same taps in another order may differ in its last digits."""
    if not isinstance(node, Conv):
        return node
    array = node.kernel.array
    unit = np.abs(array).max() * 1e-12 or 1.0
    return replace(node, kernel=Kernel.of(np.round(array / unit), node.kernel.origin))

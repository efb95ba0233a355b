"""The language in which a filter says what it computes: a handful of frozen nodes of any rank.

Equal nodes are equal values, so filters that share a part share a node; the reach of a response
(its halo) is derived from the expression, never declared. Over 300 lines, because every node and
what walks them all stand together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.boundary import Boundary
from pipeline.errors import PlanError
from pipeline.types import Ints, Reach

Array: TypeAlias = npt.NDArray[np.float64]

MIN_SUPPORT = 0.75
"""Share of a kernel's absolute weight that must lie on valid pixels for a valid response."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """Taps as applied, out[i] = sum_k w[k] x[i + k - origin]; hashable by content.

    `origin` is the tap that lies on the output pixel. The default, size // 2, is scipy.ndimage's
    and OpenCV's, also for even sizes.
    """

    shape: Ints
    data: bytes
    origin: Ints

    @classmethod
    def of(cls, weights: npt.ArrayLike, origin: Ints | None = None) -> Kernel:
        """Freeze weights of any rank, kept in float64. PlanError where one is no number."""
        array = np.ascontiguousarray(weights, dtype=np.float64) + 0.0  # one zero, no -0.0
        if not array.size or not np.isfinite(array).all():
            message = f"kernel weights must be finite and not empty (got shape {array.shape})"
            raise PlanError(message)
        return cls(array.shape, array.tobytes(), origin or tuple(n // 2 for n in array.shape))

    @property
    def array(self) -> Array:
        """The weights, read-only float64."""
        return np.frombuffer(self.data, dtype=np.float64).reshape(self.shape)

    @property
    def reach(self) -> Reach:
        """Pixels needed before and after the output pixel, per axis."""
        return tuple((o, n - 1 - o) for o, n in zip(self.origin, self.shape, strict=True))


@dataclass(frozen=True, slots=True)
class Input:
    """The prepared image: each band by itself, or one band (counted from 0) of all of them."""

    band: int | None = None
    boundary: Boundary | None = None


@dataclass(frozen=True, slots=True)
class Conv:
    """Correlate with a kernel."""

    of: Node
    kernel: Kernel

    def __post_init__(self) -> None:
        """Refuse what is no kernel, where it is written and not where it is computed."""
        kernel: object = self.kernel
        if not isinstance(kernel, Kernel):
            hint = "; separable() makes a whole Conv" if isinstance(kernel, Conv) else ""
            message = (
                f"Conv needs a Kernel (got {type(kernel).__name__}{hint}); write Kernel.of(weights)"
            )
            raise TypeError(message)


@dataclass(frozen=True, slots=True)
class Map:
    """Apply a function to each pixel; `amount` matters to those from `add` on.

    rectify: max(x, 0); log: of max(x, 1e-30); at_least: 1 where x >= amount, else 0; power:
    |x|^amount.
    """

    of: Node
    fn: Literal[
        "abs", "square", "sqrt", "negate", "rectify", "exp", "expm1", "log", "sin", "cos",
        "add", "multiply", "power", "at_least",
    ]  # fmt: skip
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Lookup:
    """Replace whole numbers, counted from 0, by the entries of a table."""

    of: Node
    table: tuple[float, ...]


class _Hashed:
    """Room for a hash that is computed once; pickles leave it behind."""

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class Join(_Hashed):
    """Combine responses pixel by pixel; `index` matters to those of matrices, and to a mean.

    mean: of `index` responses where that is not 0, some of which are added up already; norm: root
    of the sum of squares; ratio: of (x, y) x / y, 0 where y is 0 or has lost digits, below the
    least normal float32; atan2: of (y, x);
    argmax: the position, from 0, of the first largest; eigenvalue: the index-th, ascending, of the
    symmetric matrix whose upper triangle the parts are, row by row (xx, xy, yy); eigenvector: entry
    index % n of the one of eigenvalue index // n of an n x n matrix, of length 1, whose first entry
    that is not 0 is positive.
    """

    of: tuple[Node, ...]
    fn: Literal[
        "sum", "mean", "product", "max", "min", "argmax", "norm", "ratio", "atan2",
        "eigenvalue", "eigenvector",
    ]  # fmt: skip
    index: int = 0

    @property
    def count(self) -> int:
        """How many responses a mean is of."""
        return self.index or len(self.of)

    def __hash__(self) -> int:
        """Parts share parts: without memory, one is visited once for each way down to it."""
        if not hasattr(self, "_hash"):
            object.__setattr__(self, "_hash", hash((self.of, self.fn, self.index)))
        return self._hash


@dataclass(frozen=True, slots=True)
class Pool:
    """The largest or smallest valid value of a window, whose origin is as a kernel's.

    The window's pixels lie `step` apart along every axis.
    """

    of: Node
    shape: Ints
    fn: Literal["max", "min"]
    step: int = 1

    @property
    def reach(self) -> Reach:
        """Pixels needed before and after the output pixel, per axis."""
        return tuple((n // 2 * self.step, (n - 1 - n // 2) * self.step) for n in self.shape)


@dataclass(frozen=True, slots=True)
class Edge:
    """Forget what was computed beyond the image and extend again by the boundary rule."""

    of: Node
    boundary: Boundary | None = None


class Transfer(Protocol):
    """A filter given by its frequency response: a frozen, hashable, picklable value."""

    def sample(self, shape: Ints) -> npt.NDArray[Any]:
        """Values on the discrete frequencies of an image of this shape, in numpy.fft's order."""
        ...


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The Fourier transform of a whole image over its last `rank` axes.

    Before it, the image is extended on each side by `pad` of its size, by the boundary rule;
    with the boundary `wrap` it is periodic as it stands. Invalid pixels count as the mean of the
    valid ones.
    """

    of: Node
    rank: int
    pad: float
    boundary: Boundary | None = None


@dataclass(frozen=True, slots=True)
class Spectral:
    """Multiply a spectrum and transform it back: the real or the imaginary part of the response.

    The reach is the whole image.
    """

    of: Spectrum
    transfer: Transfer
    part: Literal["real", "imaginary"] = "real"


# What the compiler puts in the place of a Conv; filters do not use these.
@dataclass(frozen=True, slots=True)
class Mix:
    """The weighted sum of linear responses of one input."""

    of: tuple[Node, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Correlate with a 1-D kernel of equal weights, by running sums."""

    of: Node
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Blocks:
    """The Fourier transforms of blocks that overlap by the reach of all kernels they serve."""

    of: Node
    reach: Reach


@dataclass(frozen=True, slots=True)
class Product:
    """Correlate with a kernel by multiplying the transforms of blocks."""

    of: Blocks
    kernel: Kernel


@dataclass(frozen=True, slots=True)
class Seen:
    """The pixels with 0 for those that are invalid; no pixel of the result is."""

    of: Node


@dataclass(frozen=True, slots=True)
class Repair:
    """The response of a kernel to `of` by the rule of `bank.holes`; `plain` is that to Seen(of)."""

    plain: Node
    of: Node
    kernel: Kernel


Node: TypeAlias = (
    Input | Conv | Map | Lookup | Join | Pool | Edge | Spectrum | Spectral
    | Mix | Box | Blocks | Product | Seen | Repair
)  # fmt: skip


def children(node: Node) -> tuple[Node, ...]:
    """The nodes this one is computed from."""
    if isinstance(node, Input):
        return ()
    if isinstance(node, Repair):
        return node.plain, node.of
    return node.of if isinstance(node, Join | Mix) else (node.of,)


def with_children(node: Node, parts: tuple[Node, ...]) -> Node:
    """The same node computed from others."""
    if isinstance(node, Input):
        return node
    if isinstance(node, Join | Mix):
        return replace(node, of=parts)
    if isinstance(node, Repair):
        plain, of = parts
        return replace(node, plain=plain, of=of)
    (part,) = parts
    if isinstance(node, Spectral):
        assert isinstance(part, Spectrum)
        return replace(node, of=part)
    if isinstance(node, Product):
        assert isinstance(part, Blocks)
        return replace(node, of=part)
    return replace(node, of=part)


def rewrite(node: Node, change: Callable[[Node], Node]) -> Node:
    """Rebuild an expression from its leaves up, passing every rebuilt node through `change`."""
    done: dict[Node, Node] = {}

    def visit(old: Node) -> Node:
        if old not in done:
            done[old] = change(with_children(old, tuple(visit(part) for part in children(old))))
        return done[old]

    return visit(node)


def nodes_of(node: Node) -> tuple[Node, ...]:
    """Every distinct node of an expression, leaves first."""
    order: dict[Node, None] = {}

    def visit(this: Node) -> None:
        if this not in order:
            for child in children(this):
                visit(child)
            order[this] = None

    visit(node)
    return tuple(order)


@lru_cache(maxsize=4096)
def reach_of(node: Node, ndim: int) -> Reach:
    """Pixels of the input that a response needs before and after its own pixel, per axis."""
    below = [reach_of(child, ndim) for child in children(node)]
    need: Reach = tuple(
        (max(r[axis][0] for r in below), max(r[axis][1] for r in below)) if below else (0, 0)
        for axis in range(ndim)
    )
    if isinstance(node, Conv):
        return add_reach(need, node.kernel.reach)
    return add_reach(need, node.reach) if isinstance(node, Pool) else need


def add_reach(a: Reach, b: Reach) -> Reach:
    """The reach of one convolution after another."""
    return tuple((p + r, q + s) for (p, q), (r, s) in zip(a, b, strict=True))


def bands_of(node: Node) -> tuple[int, ...]:
    """The bands an expression names, from 0; empty when it treats each band by itself."""
    return tuple(
        sorted({n.band for n in nodes_of(node) if isinstance(n, Input) and n.band is not None})
    )


def separable(taps: Sequence[npt.ArrayLike], of: Node | None = None) -> Node:
    """One kernel that is the outer product of 1-D taps; taps[i] runs along spatial axis i."""
    weights = np.ones((), dtype=np.float64)
    for axis_taps in taps:
        weights = np.multiply.outer(weights, np.asarray(axis_taps, dtype=np.float64))
    return Conv(of or Input(), Kernel.of(weights))


Responses: TypeAlias = Mapping[str, Node]

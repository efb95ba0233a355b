"""What a statistic is: a state per plane that can be merged across blocks of one response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipeline.registry import Registry
from pipeline.types import Ints

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Column:
    """What a result column means; becomes Arrow field metadata.

    unit: "response" is the map's own, "response^2" its square, "1" a plain number, "bit" bits.
    ibsi: the identifier of the feature in the IBSI reference manual, or "".
    level: adding a constant to every pixel adds it to the column.
    """

    unit: str
    formula: str
    ibsi: str = ""
    level: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A part of one response: P planes of equal shape, each of one pixel at least.

    values: (P, *spatial) float32; valid: bool of the same shape, or None for everywhere.
    origin: the block's first pixel in the response, whose whole shape is `shape`.
    """

    values: Tensor
    valid: Tensor | None
    origin: Ints
    shape: Ints

    @classmethod
    def whole(cls, values: Tensor, valid: Tensor | None = None) -> Block:
        """The block that is all of a response. values, valid: (P, *spatial)."""
        shape = tuple(values.shape[1:])
        return cls(values, valid, (0,) * len(shape), shape)


class Statistic(Protocol):
    """An accumulator shared by several columns. Constructed without arguments.

    A plane's bits depend on its own pixels only, never on P or on how blocks were cut.
    """

    columns: ClassVar[Mapping[str, Column]]

    def start(self, block: Block, brief: Any) -> Any:
        """The state of one block; brief is None on the first pass over a response."""
        ...

    def merge(self, a: Any, b: Any) -> Any:
        """The state of two disjoint blocks together."""
        ...

    def next(self, state: Any) -> Any:
        """A brief for another pass over the pixels, or None when the state is complete."""
        ...

    def finish(self, state: Any) -> Mapping[str, Tensor]:
        """Columns as float64 tensors (P,) on the CPU; NaN where a plane has no valid pixel."""
        ...


STATISTICS: Registry[Statistic] = Registry("statistic")

"""What a statistic is: a state per plane that can be merged across blocks of one response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from pipeline.registry import Registry
from pipeline.statistics.lazy import lazy
from pipeline.types import Ints

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.statistics.census import Census

Floats: TypeAlias = npt.NDArray[np.float64]
Counts: TypeAlias = npt.NDArray[np.int64]


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


class Pixels(Protocol):
    """The valid pixels of a block, reduced on the device that holds them to arrays on the CPU.

    Sums come per cell (see `cells`), as (P, *cells, ...), all else per plane. Every number depends
    on the pixels of its own cell or plane only.
    """

    def counts(self) -> Counts:
        """How many there are: (P,)."""
        ...

    def extremes(self) -> Floats:
        """Least and greatest value, (P, 2); inf and -inf where none is, NaN where one is NaN."""
        ...

    def totals(self) -> Floats:
        """Sums of x: (P, *cells, 1)."""
        ...

    def deviations(self, centres: Floats) -> Floats:
        """Sums of |x - centre|: centres (P, 2) to (P, *cells, 2)."""
        ...

    def within(self, ends: Floats, centres: Floats) -> Floats:
        """Count, and sums of x and of |x - centre|, of the x between two ends, both included.

        ends (P, 2), centres (P,) to (P, *cells, 3).
        """
        ...

    def moments(self) -> Floats:
        """n, mean, M2, M3, M4 about that mean, sums of x and of x * x: (P, *cells, 7)."""
        ...

    def bins(self, extremes: Floats, count: int) -> Counts:
        """Count equal bins on [min, max], (P, count); nothing where that is not finite.

        bin = floor((x - min) * count / (max - min)) in float64; the last bin is closed.
        """
        ...


class Searched(Pixels, Protocol):
    """Pixels whose ranks are found pass by pass."""

    @property
    def steps(self) -> Ints:
        """How many bits of a key each pass is to count, until all 32 are known."""
        ...

    def census(self, leading: Counts, steps: Ints) -> Census:
        """Count the next steps[-1] bits of the keys that begin with given bits.

        leading: (P, slots), ascending, the first bits, found in steps[:-1]; of equal ones the
        first slot counts.
        """
        ...


@dataclass(frozen=True)
class Block:
    """A part of one response: P planes of equal shape, each of one pixel at least.

    values: (P, *spatial) float32; valid: bool of the same shape, or None for everywhere.
    origin: the block's first pixel in the image, whose whole shape is `shape`.
    alone: no other block of the response will be merged with it.
    """

    values: Tensor
    valid: Tensor | None
    origin: Ints
    shape: Ints
    alone: bool = False

    @classmethod
    def whole(cls, values: Tensor, valid: Tensor | None = None) -> Block:
        """The block that is all of a response. values, valid: (P, *spatial)."""
        shape = tuple(values.shape[1:])
        return cls(values, valid, (0,) * len(shape), shape, alone=True)

    @lazy
    def pixels(self) -> Pixels:
        """The valid pixels: packed for compiled loops on a CPU, where they are elsewhere.

        Raises
        ------
        ValueError
            Where the block is cut through a cell.
        """
        if self.values.device.type == "cpu":
            from pipeline.statistics.packed import Packed

            return Packed.of(self)
        from pipeline.statistics.dense import Dense

        return Dense(self)

    @property
    def grids(self) -> tuple[tuple[Ints, Ints], ...]:
        """Index of the first cell, and number of cells along each axis.

        Raises ValueError where the block is cut through a cell.
        """
        from pipeline.statistics.cells import first_of, grid_of

        return ((first_of(self), grid_of(tuple(self.values.shape[1:]))),)

    def ranked(self, ranks: Counts) -> Floats | None:
        """The pixels at ascending ranks of each plane, (P, R), as float64.

        None where they have to be looked for: in other blocks, too, or bit by bit.
        """
        from pipeline.statistics.packed import Packed

        pixels = self.pixels
        return pixels.ranked(ranks) if self.alone and isinstance(pixels, Packed) else None

    @property
    def numbers(self) -> Census | None:
        """How often each number occurs, by all bits of its key; None unless whole and few.

        For tiles of a scene: it is what they say together.
        """
        from pipeline.statistics.packed import Packed

        pixels = self.pixels
        return None if self.alone or not isinstance(pixels, Packed) else pixels.numbers

    @property
    def searched(self) -> Searched:
        """The pixels, where `ranked` does not know them."""
        return cast("Searched", self.pixels)


class Statistic(Protocol):
    """An accumulator shared by several columns. Constructed without arguments.

    A plane's bits depend on its own pixels only, never on P or on how blocks were cut.
    passes: the most that it asks for over the tiles of a scene.
    """

    columns: ClassVar[Mapping[str, Column]]
    passes: ClassVar[int]

    def start(self, block: Block, brief: Any) -> Any:
        """The state of one block; brief is None on the first pass over a response."""
        ...

    def merge(self, a: Any, b: Any) -> Any:
        """The state of two disjoint blocks together."""
        ...

    def next(self, state: Any) -> Any:
        """A brief for another pass over the pixels, or None when the state is complete."""
        ...

    def finish(self, state: Any) -> Mapping[str, Floats]:
        """Columns, (P,) each; NaN where a plane has no valid pixel."""
        ...


STATISTICS: Registry[Statistic] = Registry("statistic")

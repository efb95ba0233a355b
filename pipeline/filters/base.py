"""What a filter family is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pipeline.bank.expr import Responses
from pipeline.registry import Registry
from pipeline.types import Grid


@runtime_checkable
class Filter(Protocol):
    """A frozen pydantic dataclass of parameters that can write itself as expressions.

    One instance is one point of a parameter sweep: the config loader has already expanded lists.
    An optional classmethod `spread(given) -> given` may turn shorthand (`orientations: 8`) into
    a swept list before that.
    """

    def responses(self, grid: Grid) -> Responses:
        """Expressions for images sampled on this grid, keyed by what the name gets appended.

        A filter with one response returns it under ""; one with several under "[1]", "[2]" ...
        Raises PlanError where the mathematics does not exist for the grid's rank.
        """
        ...


FILTERS: Registry[Filter] = Registry("filter")

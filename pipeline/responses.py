"""A filter of the config as expressions: in which ranks, for which spacing."""

from __future__ import annotations

from functools import lru_cache

from pipeline.bank.expr import Node, Responses
from pipeline.bank.passes import lift
from pipeline.config import NamedFilter
from pipeline.errors import PlanError
from pipeline.types import Grid
from pipeline.units import in_unit

SPACINGS = (1.0, 0.3, 3.0, 0.1, 10.0, 0.01, 100.0, 0.001, 1000.0)
"""Physical lengths may be too small or too large for the spacing 1: then others are tried."""


@lru_cache(maxsize=16)  # a layer's expressions are asked for once per response
def any_rank(named: NamedFilter) -> Responses:
    """Every response that a filter has in some rank, as in the first rank that has it.

    Raises PlanError where it exists for no rank.
    """
    found: dict[str, Node] = {}
    problems = []
    for step in SPACINGS if named.unit else (1.0,):
        for rank in (named.rank,) if named.rank else (2, 3):
            try:
                more = named.filter.responses(Grid((step,) * rank, named.unit))
                found |= {suffix: node for suffix, node in more.items() if suffix not in found}
            except PlanError as error:
                problems.append(str(error))
            if found.keys() == {""}:  # without a name of its own in one rank, so in all
                return found
        if found:
            return found
    message = f"{named.line}: {problems[0]}"
    raise PlanError(message)


def expressions(named: NamedFilter, grid: Grid) -> Responses:
    """A filter's expressions on a grid; a 2-D filter of a volume works slice by slice.

    Raises PlanError where the grid lacks the axes, or a spacing that physical lengths need.
    """
    rank = named.rank or grid.ndim
    if rank > grid.ndim:
        message = f"{named.name} has rank {rank}, the image {grid.ndim} axes"
        raise PlanError(message)
    spacing = in_unit(grid, named.unit).spacing if named.unit else (1.0,) * grid.ndim
    responses = named.filter.responses(Grid(spacing[-rank:], named.unit))
    if rank == grid.ndim:
        return responses
    return {suffix: lift(node, grid.ndim) for suffix, node in responses.items()}

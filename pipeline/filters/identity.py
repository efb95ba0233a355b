"""The image itself."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Input, Responses
from pipeline.filters.base import FILTERS, PARAMETERS
from pipeline.types import Grid


@FILTERS.register("identity")
@dataclass(frozen=True, config=PARAMETERS)
class Identity:
    """The prepared image, unfiltered: its statistics stand beside those of the responses.

    Examples
    --------
    >>> Identity().responses(Grid((1.0, 1.0)))
    {'': Input(band=None, boundary=None)}
    """

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank, with the image's unit."""
        del grid
        return {"": Input()}

"""The image itself."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from pipeline.bank.expr import Input, Responses
from pipeline.filters.base import FILTERS, PARAMETERS, Examples, Topic
from pipeline.types import Grid


@FILTERS.register("identity")
@dataclass(frozen=True, config=PARAMETERS)
class Identity:
    """The prepared image, unfiltered: its statistics stand beside those of the responses.

    References
    ----------
    None: nothing is computed.

    Examples
    --------
    >>> Identity().responses(Grid((1.0, 1.0)))
    {'': Input(band=None, boundary=None)}
    """

    topic: ClassVar[Topic] = "the image itself"
    examples: ClassVar[Examples] = ({},)

    def responses(self, grid: Grid) -> Responses:
        """One response, of any rank, with the image's unit."""
        del grid
        return {"": Input()}

"""Statistics of a plane, enrolled by the import lines below. Importing this loads no torch."""

from pipeline.statistics import extremes as extremes
from pipeline.statistics import histogram as histogram
from pipeline.statistics import moments as moments
from pipeline.statistics import order as order
from pipeline.statistics import robust as robust
from pipeline.statistics import spread as spread
from pipeline.statistics.base import STATISTICS, Block, Column, Statistic
from pipeline.statistics.catalogue import COLUMNS, GROUPS, accumulators, expand

__all__ = [
    "COLUMNS",
    "GROUPS",
    "STATISTICS",
    "Block",
    "Column",
    "Statistic",
    "accumulators",
    "expand",
]

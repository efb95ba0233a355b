"""The columns of the statistics table: their order, their groups, who computes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from pipeline.registry import nearest
from pipeline.statistics.base import STATISTICS, Column, Statistic
from pipeline.statistics.ratios import RATIOS

_ORDER = (
    "mean", "std", "variance", "min", "max", "skewness", "kurtosis", "energy", "rms",
    "p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "iqr", "mad", "entropy",
    "range", "medad", "rmad", "cov", "qcod",
)  # fmt: skip


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


_OWNERS = {name: owner for owner, cls in STATISTICS.items() for name in cls.columns}
_KNOWN = {
    **{name: STATISTICS[owner].columns[name] for name, owner in _OWNERS.items()},
    **{name: ratio.column for name, ratio in RATIOS.items()},
}

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {name: _KNOWN[name] for name in sorted(_KNOWN, key=_rank)}
)
"""Every column in the order of the table; those of later plug-ins come last."""

_IBSI_3_5 = {"TLU2"}  # of the discretised intensities: not among the 18 of section 3.4

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "basic": ("mean", "std", "min", "max"),
        "ibsi": tuple(
            name for name, column in COLUMNS.items() if column.ibsi and column.ibsi not in _IBSI_3_5
        ),
        "all": tuple(COLUMNS),
    }
)
"""Names that stand for several columns. ibsi: the intensity-based statistics of section 3.4."""


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Replace groups by their columns; each column once, in the order of the table.

    Raises KeyError, naming the nearest word, for a name that is neither a column nor a group.

    >>> expand(["entropy", "basic", "mean"])
    ('mean', 'std', 'min', 'max', 'entropy')
    """
    wanted: set[str] = set()
    for name in names:
        if name not in COLUMNS and name not in GROUPS:
            message = f"unknown statistic {name!r}{nearest(name, [*COLUMNS, *GROUPS])}"
            raise KeyError(message)
        wanted.update(GROUPS.get(name, (name,)))
    return tuple(name for name in COLUMNS if name in wanted)


def accumulators(names: Iterable[str]) -> tuple[Statistic, ...]:
    """Construct the few accumulators that compute these columns or groups.

    >>> [type(one).__name__ for one in accumulators(["mean", "p50", "std"])]
    ['Moments', 'Order']
    """
    wanted = expand(names)
    needed = (
        need for name in wanted for need in (RATIOS[name].needs if name in RATIOS else [name])
    )
    owners = {_OWNERS[name] for name in needed}
    return tuple(cls() for owner, cls in STATISTICS.items() if owner in owners)

"""Ratios: columns that are quotients of other columns, once those are what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.statistics.base import Column, Floats


@dataclass(frozen=True, slots=True)
class Ratio:
    """A column made of two others. parts: they -> what is divided, and by what."""

    column: Column
    needs: tuple[str, str]
    parts: Callable[[Floats, Floats], tuple[Floats, Floats]]


RATIOS: Mapping[str, Ratio] = MappingProxyType(
    {
        "cov": Ratio(
            Column("1", "std / mean", "7TET"), ("std", "mean"), lambda std, mean: (std, mean)
        ),
        "qcod": Ratio(
            Column("1", "(p75 - p25) / (p75 + p25)", "9S40"),
            ("p25", "p75"),
            lambda low, high: (high - low, high + low),
        ),
    }
)
"""Of section 3.4 of the IBSI reference manual (UHIW); small denominators make them large."""


def ratios(found: Mapping[str, Floats]) -> dict[str, Floats]:
    """The ratios that finished columns, (P,) each, are enough for; NaN over 0.

    >>> ratios({"mean": np.array([4.0, 0.0]), "std": np.array([2.0, 1.0])})
    {'cov': array([0.5, nan])}
    """
    made = {}
    for name, ratio in RATIOS.items():
        if found.keys() >= set(ratio.needs):
            over, under = ratio.parts(*(found[need] for need in ratio.needs))
            made[name] = over / np.where(under == 0.0, np.nan, under)
    return made

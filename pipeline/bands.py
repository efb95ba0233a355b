"""Which bands are filtered, and the compiled bank for each choice among them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pipeline.bank.compile import BankPlan, compile_bank
from pipeline.boundary import Boundary
from pipeline.config import Config, NamedFilter
from pipeline.errors import PlanError
from pipeline.fused.choose import Group, choose
from pipeline.gpu import possible
from pipeline.kept import only_measured
from pipeline.responses import expressions
from pipeline.types import Grid, Ints


@dataclass(frozen=True)
class BandPlan:
    """A compiled bank and the bands, counted from 0, that it is applied to.

    groups: those of its responses that are filtered and measured at once where no pixel is
    missing; rest: the bank of the others.
    """

    bands: Ints
    labels: tuple[str, ...]
    bank: BankPlan
    groups: tuple[Group, ...] = ()
    rest: BankPlan | None = None


def compile_banks(
    config: Config,
    device: str,
    labels: tuple[str, ...],
    stored: tuple[str, ...],
    grid: Grid,
    boundary: Boundary,
) -> tuple[BandPlan, ...]:
    """The compiled banks of a config, one per choice among the bands that are filtered.

    labels: the bands that are filtered; stored: those of the file. Raises PlanError with the reason
    why such an image cannot be filtered.
    """
    groups: dict[Ints, list[NamedFilter]] = {}
    for named in config.filters:
        chosen = _among(named.bands, labels, stored) if named.bands else range(len(labels))
        groups.setdefault(tuple(chosen), []).append(named)
    plans = []
    for bands, filters in groups.items():
        responses = [
            (named.name + suffix, node, named.boundary or boundary)
            for named in filters
            for suffix, node in expressions(named, grid).items()
        ]
        compiled = partial(
            compile_bank, ndim=grid.ndim, strict=config.strict, min_support=config.min_support
        )
        bank = compiled(responses)
        for output in bank.outputs:
            if output.joint and output.bands[-1] + 1 != len(bands):
                message = (
                    f"{output.name} joins {output.bands[-1] + 1} bands, the image has {len(bands)}"
                    "; choose as many with bands:"
                )
                raise PlanError(message)
        measured = [output for output in bank.outputs if only_measured(config, output.name)]
        fused = choose(measured) if possible(device) else ()
        names = {name for group in fused for name in group.names}
        rest = compiled(r for r in responses if r[0] not in names) if fused else None
        plans.append(BandPlan(bands, tuple(labels[i] for i in bands), bank, fused, rest))
    return tuple(plans)


def choose_bands(wanted: tuple[int | str, ...], labels: tuple[str, ...]) -> Ints:
    """Positions, from 0, of bands named by label or by number from 1. Raises PlanError."""
    out = []
    for want in wanted:
        position = want - 1 if isinstance(want, int) else _find(labels, want)
        if not 0 <= position < len(labels):
            message = f"has no band {want!r}; its bands are {', '.join(labels)}"
            raise PlanError(message)
        out.append(position)
    return tuple(out)


def _among(wanted: tuple[int | str, ...], labels: tuple[str, ...], stored: tuple[str, ...]) -> Ints:
    """Positions in `labels`, the bands that are filtered; numbers count the file's bands from 1."""
    if labels[0] != "luminance":
        wanted = tuple(
            stored[choose_bands((want,), stored)[0]] if isinstance(want, int) else want
            for want in wanted
        )
    return choose_bands(wanted, labels)


def _find(labels: tuple[str, ...], want: str) -> int:
    return labels.index(want) if want in labels else -1

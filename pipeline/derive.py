"""Bands made of other bands: small formulas, evaluated pixel by pixel in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipeline.errors import PlanError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = float(np.finfo(np.float32).max)
"""What filters, which compute in float32, can take."""


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Band:
    """A band by its label."""

    label: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function that numpy and torch both have by this name, applied pixel by pixel."""

    function: str
    arguments: tuple[Formula, ...]


Formula: TypeAlias = Number | Band | Call


@dataclass(frozen=True, slots=True)
class Derived:
    """A band to be made. text: the formula as the config has it."""

    label: str
    text: str
    formula: Formula

    @property
    def bands(self) -> tuple[str, ...]:
        """The labels that the formula names, in order, each once."""
        return tuple(dict.fromkeys(_bands(self.formula)))


def _bands(formula: Formula) -> list[str]:
    if isinstance(formula, Band):
        return [formula.label]
    inner = formula.arguments if isinstance(formula, Call) else ()
    return [label for part in inner for label in _bands(part)]


def derived_labels(derive: Sequence[Derived], labels: Sequence[str]) -> tuple[str, ...]:
    """The labels of an image's bands with those that are made of them, in the config's order.

    A formula may name bands that stand before it.

    Raises
    ------
    PlanError
        Where a formula names a band that is not there, or makes one that is.

    Examples
    --------
    >>> derived_labels([Derived("half", "red / 2", Band("red"))], ["red", "nir"])
    ('red', 'nir', 'half')
    """
    known = list(labels)
    for band in derive:
        missing = next((label for label in band.bands if label not in known), None)
        if missing is not None:
            message = (
                f"has no band {missing!r}, which derive.{band.label} needs; "
                f"its bands are {', '.join(known)}"
            )
            raise PlanError(message)
        if band.label in known:
            message = f"has a band {band.label!r} already; give derive.{band.label} another name"
            raise PlanError(message)
        known.append(band.label)
    return tuple(known)


def derived(
    derive: Sequence[Derived], values: Tensor, valid: Tensor | None, labels: Sequence[str]
) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    """Add bands to planes (N, C, *spatial) float64; whatever is invalid becomes 0 there.

    A new pixel is valid where the pixels it is made of are and the result is a number that float32
    holds: not beside 0 / 0. There is always a mask where a band is added, because the way an image
    is filtered must depend on the config, and not on what else is in its batch.
    """
    import torch

    names = derived_labels(derive, labels)
    if not derive:
        return values, valid, names
    planes = dict(zip(labels, values.unbind(1), strict=True))
    everywhere = torch.ones_like(values[:, 0], dtype=torch.bool)
    masks = {label: everywhere if valid is None else valid[:, i] for i, label in enumerate(labels)}
    for band in derive:
        found = _evaluate(band.formula, planes)
        mask = found.abs() <= LARGEST  # not where it is NaN
        for label in band.bands:
            mask &= masks[label]
        planes[band.label], masks[band.label] = torch.where(mask, found, 0.0), mask
    return torch.stack(list(planes.values()), 1), torch.stack(list(masks.values()), 1), names


def _evaluate(formula: Formula, planes: Mapping[str, Tensor]) -> Tensor:
    """On a CPU by numpy: what torch computes there depends on where its threads part the work."""
    import torch

    some = next(iter(planes.values()))
    if some.is_cuda:
        found: Tensor = _apply(torch, formula, planes, some.new_tensor)
        return found
    arrays = {label: plane.numpy() for label, plane in planes.items()}
    with np.errstate(all="ignore"):  # what is no number becomes invalid
        return torch.from_numpy(_apply(np, formula, arrays, np.float64))


def _apply(library: Any, formula: Formula, planes: Mapping[str, Any], number: Any) -> Any:
    """The value of a formula; `library` is numpy or torch, which name their functions alike."""
    if isinstance(formula, Number):
        return number(formula.value)
    if isinstance(formula, Band):
        return planes[formula.label]
    arguments = (_apply(library, part, planes, number) for part in formula.arguments)
    return getattr(library, formula.function)(*arguments)

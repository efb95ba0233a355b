"""What a filter family is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import ConfigDict, Field

from pipeline.bank.expr import Responses
from pipeline.bank.rotations import Pooling
from pipeline.registry import Registry
from pipeline.types import Grid

PARAMETERS = ConfigDict(extra="forbid", allow_inf_nan=False)
"""How every family checks its fields: an unknown one is refused, and so is `.inf`."""

RotationInvariant: TypeAlias = Annotated[
    Pooling, Field(description="pooling over right-angle rotations")
]
"""The field of families with a direction; `bank.rotations.pool_rotations` does it."""

Topic: TypeAlias = Literal[
    "edges",
    "edges in eight directions",
    "points, relief, sharpness",
    "smoothing",
    "blobs",
    "stripes and directions",
    "texture",
    "whole banks for texture",
    "wavelets",
    "vessels, ridges, shape",
    "local direction",
    "your own weights",
    "the image itself",
]
"""What families are for, in the order of `docs/filters.md` and `configs/catalogue.yaml`."""

Examples: TypeAlias = tuple[Mapping[str, Any], ...]
"""Parameters as a config file gives them, lists and shorthand included."""


@runtime_checkable
class Filter(Protocol):
    """A frozen pydantic dataclass of parameters that can write itself as expressions.

    Two class members tell the documentation about it: its `topic`, and its `examples`, with which
    it stands in `configs/catalogue.yaml`, in the reference with its kernels drawn, and in the
    tests of what every family must do.

    One instance is one point of a parameter sweep: the config loader has already expanded lists.
    Two optional class members tell the loader what to do before that:

    - `not_swept: ClassVar[frozenset[str]]` names the fields that hold lists themselves
      (`weights`); a list given for any other field is one instance per value.
    - the static or class method `spread(given) -> given` turns shorthand into fields
      (`orientations: 8` into a list of `orientation`, `file:` into `weights`). Paths in `given` are
      absolute. What it refuses is a ValueError, to which the loader adds the place in the file.

    Lengths (sigma, wavelength, size) are divided by `grid.spacing`, which is 1.0 in pixel units;
    everything else, derivatives included, counts in pixels.
    """

    topic: ClassVar[Topic]
    examples: ClassVar[Examples]

    def responses(self, grid: Grid) -> Responses:
        """Expressions for images sampled on this grid, keyed by what the name gets appended.

        A filter with one response returns it under ""; a bank of any size under "[1]", "[2]" ...
        Raises PlanError where the mathematics does not exist for the grid's rank or spacing.
        """
        ...


FILTERS: Registry[Filter] = Registry("filter")
"""Plug-ins of this kind, enrolled by the import lines below."""

"""The config as values: every section with its keys, defaults and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from pipeline.bank.expr import MIN_SUPPORT
from pipeline.boundary import Boundary
from pipeline.config.inputs import Input as Input
from pipeline.config.learning import Learn
from pipeline.config.outputs import GeoTiffs, Niftis, placed, switched
from pipeline.config.quantities import (
    Address,
    BoundaryRule,
    Budget,
    Count,
    Labels,
    Memory,
    PreviewRange,
    Seconds,
    Size,
    Text,
)
from pipeline.config.regions import WHOLE, Regions
from pipeline.derive import Derived
from pipeline.filters.base import Filter
from pipeline.steps.base import Step

VERSION = 1
_STRICT = ConfigDict(extra="forbid")


def matches(name: str, globs: Iterable[str]) -> bool:
    """Whether a response name is one of these, or matches one as a glob.

    >>> matches("laws[1]", ["laws[1]"]), matches("log(sigma=2)", ["log(*"])
    (True, True)
    """
    return any(name == glob or fnmatchcase(name, glob) for glob in globs)


def _name(value: str | None) -> str | None:
    if value is not None and (
        not value.isprintable() or not value.strip() or value != value.strip()
    ):
        message = "must be printable text without blanks at its ends; write name: edges"
        raise ValueError(message)
    return value


def _folder(value: str) -> str:
    for name in re.findall(r"\{[^}]*\}?|[}\0]", value):
        if name != "{digest}":
            message = f"holds {name!r}; only {{digest}} stands for something here"
            raise ValueError(message)
    return value


def _textfile(value: str | None) -> str | None:
    if value is not None and not value.endswith(".prom"):
        message = "must end in .prom, as the node exporter reads no other files"
        raise ValueError(message)
    return value


@dataclass(frozen=True, config=_STRICT)
class Png:
    """Which previews are drawn, and how values become gray."""

    what: Annotated[
        Literal["both", "maps", "sheet"], Field(description="one file per map, a sheet, or both")
    ] = "both"
    depth: Annotated[Literal[8, 16], Field(description="bits per pixel of the maps")] = 8
    range: Annotated[
        PreviewRange,
        Field(
            description="auto: what each map spans; [low, high]; or one such pair per glob",
            json_schema_extra={"default": "auto"},
        ),
    ] = ()
    size: Annotated[
        Count, Field(description="longest edge of a map's preview; larger ones are reduced; pixels")
    ] = 2048
    filters: Annotated[
        Annotated[tuple[Text, ...], Field(min_length=1)],
        Field(description="globs of the response names that are drawn"),
    ] = ("*",)
    sample: Annotated[Count | None, Field(description="draw this many images only; null: all")] = (
        None
    )

    def range_of(self, name: str) -> tuple[float, float] | None:
        """The values that become black and white for a response; None: what its map spans."""
        pairs = ((low, high) for glob, low, high in self.range if matches(name, [glob]))
        return next(pairs, None)


@dataclass(frozen=True, config=_STRICT)
class Output:
    """Where results go, and which are kept beside the statistics."""

    path: Annotated[
        Text,
        AfterValidator(_folder),
        Field(description="the results' folder or URL; {digest} becomes the plan's digest"),
    ]
    maps: Annotated[
        Literal["none", "float32", "float16"], Field(description="keep every response's pixels")
    ] = "none"
    png: Annotated[
        Png | None,
        BeforeValidator(switched(Png), json_schema_input_type=bool | Png),
        Field(description="draw previews", json_schema_extra={"default": False}),
    ] = None
    geotiff: Annotated[
        GeoTiffs | None,
        BeforeValidator(switched(GeoTiffs), json_schema_input_type=bool | GeoTiffs),
        Field(
            description="write a GeoTIFF file per response", json_schema_extra={"default": False}
        ),
    ] = None
    nifti: Annotated[
        Niftis | None,
        BeforeValidator(switched(Niftis), json_schema_input_type=bool | Niftis),
        Field(
            description="write a NIfTI file per response and band",
            json_schema_extra={"default": False},
        ),
    ] = None
    stac: Annotated[
        bool,
        AfterValidator(placed),
        Field(description="write a STAC item per scene; needs geotiff or maps"),
    ] = False


@dataclass(frozen=True, config=_STRICT)
class Limits:
    """What is refused, as a failed row: unread, where the header tells."""

    pixels: Annotated[
        Count, Field(description="pixels of an image that is decoded whole, all bands")
    ] = 250_000_000
    scene: Annotated[
        Count, Field(description="pixels of an image that is read by windows, all bands")
    ] = 2_500_000_000
    bytes: Annotated[
        Size,
        Field(
            description="size of a file that is decoded whole",
            json_schema_extra={"default": "4GiB"},
        ),
    ] = 4 << 30
    seconds_per_file: Annotated[
        Seconds | None,
        Field(
            description="time for a header, an image or a tile of a scene, and for each 4 MiB of "
            "its file a second more; null: any",
            json_schema_extra={"default": "2m"},
        ),
    ] = 120.0
    reader_memory: Annotated[
        Size,
        Field(
            description="memory that a reading process may take, or what an image's header says "
            "it takes where that is more",
            json_schema_extra={"default": "2GiB"},
        ),
    ] = 2 << 30


@dataclass(frozen=True, config=_STRICT)
class Run:
    """Where and how a run happens; never what it computes."""

    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="auto: cuda where there is one")
    ] = "auto"
    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=0)],
        Field(description="reading processes; 0: read in the main process"),
    ] = "auto"
    threads: Annotated[
        Literal["auto"] | Count, Field(description="threads that compute on the cpu")
    ] = "auto"
    batch: Annotated[Literal["auto"] | Count, Field(description="images filtered together")] = (
        "auto"
    )
    memory: Annotated[
        Memory, Field(description="bytes the run may use, like 4GiB; auto: 60 % of the machine's")
    ] = "auto"
    max_failed: Annotated[
        Budget, Field(description="stop after this many failures, 20 or 10%; null: never")
    ] = None
    max_attempts: Annotated[
        Count, Field(description="runs that try a file again which crashed or timed out")
    ] = 3
    executor: Annotated[
        Literal["local", "processes", "ray"],
        Field(description="processes: one for each thread that computes; ray: on a Ray cluster"),
    ] = "local"
    address: Annotated[
        Address | None,
        Field(description="of the Ray cluster, host:port; local: of one on this machine"),
    ] = None
    metrics: Annotated[
        Text | None,
        AfterValidator(_textfile),
        Field(description="write gauges of each run here, a Prometheus textfile; null: nowhere"),
    ] = None

    @model_validator(mode="after")
    def _names_its_cluster(self) -> Self:
        if self.executor == "ray" and self.address is None:
            message = "executor: ray needs an address; write address: local, or host:port"
            raise ValueError(message)
        if self.executor != "ray" and self.address is not None:
            message = f"address is a Ray cluster's; leave it out (got executor: {self.executor})"
            raise ValueError(message)
        return self

    def failures_allowed(self, listed: int) -> int | None:
        """How many of the listed sources may fail; None where any number may.

        >>> Run(max_failed="10%").failures_allowed(250)
        25
        """
        if isinstance(self.max_failed, str):
            return int(float(self.max_failed.removesuffix("%")) * listed / 100)
        return self.max_failed


@dataclass(frozen=True, config=_STRICT)
class Common:
    """What every filter takes besides its family's parameters."""

    name: Annotated[
        Annotated[str, Field(max_length=100)] | None,
        AfterValidator(_name),
        Field(description="the response's name; null: made from the parameters"),
    ] = None
    bands: Annotated[
        Labels | None, Field(description="filter these bands only; numbers count from 1")
    ] = None
    units: Annotated[
        Literal["pixels", "physical"],
        Field(description="of its lengths; physical: input.unit, or mm where that is not given"),
    ] = "pixels"
    boundary: Annotated[
        BoundaryRule | None, Field(description="instead of the config's boundary")
    ] = None
    rank: Annotated[
        Literal[2, 3] | None, Field(description="axes filtered together; 2: slice by slice")
    ] = None


@plain_dataclass(frozen=True)
class NamedFilter:
    """One response-to-be: a point of a sweep, its name, and what the config says around it.

    unit: of its lengths; None where they count pixels. `line` says where it stands
    (`edges.yaml:5:5: filters[1]`) and takes no part in equality.
    """

    name: str
    family: str
    filter: Filter
    bands: tuple[int | str, ...] | None = None
    unit: str | None = None
    boundary: Boundary | None = None
    rank: int | None = None
    line: str = field(default="", compare=False)


@plain_dataclass(frozen=True)
class Config:
    """A whole config file, checked, with every default filled in and every sweep written out."""

    version: int
    input: Input
    prepare: tuple[Step, ...]
    boundary: Boundary | Literal["auto"]
    strict: bool
    filters: tuple[NamedFilter, ...]
    statistics: tuple[str, ...]
    output: Output
    limits: Limits
    run: Run
    learn: Learn | None = None
    derive: tuple[Derived, ...] = ()
    regions: Regions = WHOLE
    min_support: float = MIN_SUPPORT

"""The values that flow between stages. Axis order is numpy's (z, y, x) everywhere.

Over 300 lines, because they are all here: most lines say what a field means to who receives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Literal, TypeAlias

from pipeline.errors import FailureKind
from pipeline.watch import Effort

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Ints: TypeAlias = tuple[int, ...]
Reach: TypeAlias = tuple[tuple[int, int], ...]
"""Pixels needed (before, after) a pixel, one pair per spatial axis."""


@dataclass(frozen=True, slots=True)
class Region:
    """A box in an image's own pixel coordinates: one start and one stop per spatial axis."""

    start: Ints
    stop: Ints

    @classmethod
    def whole(cls, shape: Ints) -> Region:
        """Cover a whole image."""
        return cls((0,) * len(shape), shape)

    @property
    def shape(self) -> Ints:
        """Extent along each axis, in pixels."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of pixels."""
        return prod(self.shape)

    def grow(self, reach: Reach) -> Region:
        """Add a margin; the result may lie beyond the image."""
        return Region(
            tuple(a - before for a, (before, _) in zip(self.start, reach, strict=True)),
            tuple(b + after for b, (_, after) in zip(self.stop, reach, strict=True)),
        )

    def clip(self, shape: Ints) -> Region:
        """Keep what lies inside an image of this shape."""
        start = tuple(min(max(a, 0), n) for a, n in zip(self.start, shape, strict=True))
        stop = tuple(min(max(b, a), n) for a, b, n in zip(start, self.stop, shape, strict=True))
        return Region(start, stop)

    def overlap(self, other: Region) -> Region:
        """What both boxes cover; empty where they do not meet."""
        start = tuple(map(max, self.start, other.start))
        ends = zip(start, self.stop, other.stop, strict=True)
        return Region(start, tuple(max(low, min(a, b)) for low, a, b in ends))

    def slices(self, origin: Ints | None = None) -> tuple[slice, ...]:
        """Index an array whose first pixel is `origin` (default: the image's first)."""
        at = origin or (0,) * len(self.start)
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, at, strict=True))


@dataclass(frozen=True, slots=True)
class Grid:
    """What a filter may know of an image: its rank, and how far apart its samples are.

    unit: of the spacing; `unknown` where the file has a spacing without a unit, None where it has
    no spacing, which is then 1.
    """

    spacing: tuple[float, ...]
    unit: str | None = None

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.spacing)


@dataclass(frozen=True, slots=True)
class Georeference:
    """Where an image lies on the ground.

    crs: the coordinate system, `EPSG:32631` or WKT 2; transform: (a, b, c, d, e, f), from pixel
    corners to coordinates: x = a column + b row + c, y = d column + e row + f. None where the file
    has none.
    """

    crs: str | None
    transform: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Uptake:
    """What turns the values of a PET image into standardised uptake values by body weight.

    unit: of the values it is for; factor: g/ml for each of them, None where the header does not
    say it, and why not.
    """

    unit: str | None
    factor: float | None
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a reader knows from the header alone. shape: spatial axes only; bands: labels.

    value_unit: of the pixel values where the file says it (HU); geo: where the image lies, opaque
    to all but readers and writers; windowed: whether a part can be read without decoding the rest;
    strips: whether all of its width is decoded at once;
    uptake: of PET images alone.
    """

    shape: Ints
    bands: tuple[str, ...]
    dtype: str
    grid: Grid
    nodata: float | None = None
    geo: object = None
    value_unit: str | None = None
    windowed: bool = False
    strips: bool = False
    uptake: Uptake | None = None

    @property
    def georeferenced(self) -> bool:
        """Whether the image is a piece of the ground, which goes on beyond its edge."""
        return isinstance(self.geo, Georeference)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a source has a failed row: the kind, and a text without paths of this machine.

    What cannot be printed is written out: the text may quote bytes of a file, or its name.
    """

    kind: FailureKind
    error: str

    def __post_init__(self) -> None:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in self.error)
        object.__setattr__(self, "error", text)


@dataclass(frozen=True, slots=True)
class Member:
    """One file as the listing saw it. path: how to open it; name: relative to the input root.

    beside: paths of files that are a part of it: its mask, the sources of a mosaic. bytes, of all
    of them together; mtime_ns, of the latest; parts: where there are several, the bytes and time of
    each. digests: the SHA-256 that each of `paths` should have, empty text where the manifest does
    not name it; none without a manifest.
    """

    path: str
    name: str
    bytes: int
    mtime_ns: int
    beside: tuple[str, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All files whose bytes decide what it is."""
        return (self.path, *self.beside)

    @property
    def folder(self) -> str:
        """The folder's name, relative to the input root; empty for the root itself."""
        return self.name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Scaling:
    """How stored samples become values: stored * scale + offset, in float64.

    nodata: the stored sample that is invalid, if any.
    """

    scale: float
    offset: float
    nodata: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """One image: its key in every table, the files it is made of, and its header.

    `page` counts from 0 where one file holds several sources. layout: the source is that page, or
    that slice of the file's only page, or all pages (or slices) joined as bands or as a volume, or
    a volume with one slice in each file (`files`) or an image with one band in each (`joined`), in
    the order of `members`.
    masks: (rater, file) of where it is measured, the rater empty where there is but one; qa: the
    file of its classes, of which those in `invalid` are; fields: what its name and the table say,
    by column of the table of images; given: all text that decides results besides its files;
    scaling: how its samples become values where the table says so.
    drawn: it is among the images whose pictures are wanted.
    A source that cannot be used has a `failure`; one whose header cannot be read has no `info`.
    """

    key: str
    members: tuple[Member, ...]
    reader: str
    page: int = 0
    layout: Literal["page", "slice", "bands", "volume", "files", "joined"] = "page"
    info: ImageInfo | None = None
    failure: Failure | None = None
    drawn: bool = True
    masks: tuple[tuple[str, Member], ...] = ()
    qa: Member | None = None
    invalid: Ints = ()
    fields: tuple[tuple[str, str], ...] = ()
    given: tuple[tuple[str, str], ...] = ()
    scaling: Scaling | None = None

    @property
    def files(self) -> tuple[Member, ...]:
        """All files whose bytes decide its results, each once."""
        beside = (*(member for _, member in self.masks), *((self.qa,) if self.qa else ()))
        return tuple(dict.fromkeys((*self.members, *beside)))

    @property
    def header(self) -> ImageInfo:
        """The header of a source that has one."""
        if self.info is None:
            message = f"{self.key}: has no header: {self.failure}"
            raise ValueError(message)
        return self.info

    @property
    def pixels(self) -> int:
        """Number of pixels of one band."""
        return prod(self.header.shape)

    def fail(self, failure: Failure) -> Source:
        """The same source, known to be unusable."""
        return replace(self, failure=failure)


@dataclass(frozen=True, slots=True)
class Tile:
    """The unit of reading: the part of a source whose results we own."""

    source: Source
    core: Region


@dataclass(frozen=True, slots=True)
class Roi:
    """The part of a region of interest that lies in a tile's core.

    region: its key in the tables (`image`, `roi=GTV`, `tile=0,3`, `zone=12`); box: in the image's
    own pixels, empty where nothing of the region lies in the core; mask: bool of the box's shape,
    a numpy array, or None where the region is all of the box; whole: no other tile has any of it.
    """

    region: str
    kind: Literal["image", "roi", "tile", "zone"]
    label: str | None
    box: Region
    mask: npt.NDArray[np.bool_] | None = None
    whole: bool = False

    @property
    def size(self) -> int:
        """Number of its pixels."""
        return self.box.size if self.mask is None else int(self.mask.sum())


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of scheduling, of commit and of retry; a source is never split between shards.

    sources: what is to be computed; kept: images of the shard whose stored rows stay as they are;
    torn: tables of it that are damaged, of which nothing stays.
    """

    id: str
    sources: tuple[Source, ...]
    kept: tuple[str, ...] = ()
    torn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Tiles of one shape on one device. Flows forward; is replaced, never mutated.

    values: (N, C, *box.shape), the pixels of `box` in each tile's image, as stored or prepared.
    valid: bool of the same shape, or None where every pixel is valid.
    offset: (N, C) float64, the constant already removed from `values` (see stages.prepare).
    sample: of a scene that is read in tiles, a few pixels of all of it, as stored, and which of
    them are valid; (1, C, *spatial) each.
    regions: of each tile, where its responses are measured.
    room: pixels of free memory around each plane of `values`, before and after along each axis, in
    which a bank extends it beyond the image without a copy; empty where there is none. With it the
    strides of `values` are those of that memory, also along axes of one pixel.
    """

    tiles: tuple[Tile, ...]
    box: Region
    bands: tuple[str, ...]
    values: Tensor
    valid: Tensor | None = None
    offset: Tensor | None = None
    sample: tuple[Tensor, Tensor | None] | None = None
    regions: tuple[tuple[Roi, ...], ...] = ()
    room: Reach = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """JPEG files of images of one shape, which become a Batch of uint8 on a GPU.

    files: the bytes of each, uint8; turns: the EXIF orientation of each, 1 to 8; the rest is that
    of the batch.
    """

    tiles: tuple[Tile, ...]
    box: Region
    bands: tuple[str, ...]
    files: tuple[Tensor, ...]
    turns: tuple[int, ...]
    regions: tuple[tuple[Roi, ...], ...]


@dataclass(frozen=True, slots=True)
class Response:
    """One filter's answer over the planes it was applied to.

    residual: (N, C, *region.shape) float32; base: (N, C) float64, a constant that is still to be
    added to each plane, or None for 0; support: the residual's shape, in [0, 1], or None for 1;
    valid: bool of the same shape, or None where every pixel is valid. C is len(bands).
    """

    name: str
    bands: tuple[str, ...]
    region: Region
    residual: Tensor
    valid: Tensor | None = None
    support: Tensor | None = None
    base: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """The response itself, as far as float32 holds it."""
        if self.base is None or not self.base.any():
            return self.residual
        ones = (1,) * (self.residual.ndim - 2)
        return self.residual + self.base.to(self.residual.dtype).reshape(*self.base.shape, *ones)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a committed shard tells the driver: small, picklable, JSON-able, no pixels.

    failed: (image, kind, error); traces: (image, traceback) of unexpected exceptions; effort: of
    the worker since its last report.
    """

    shard: str
    done: int
    failed: tuple[tuple[str, str, str], ...] = ()
    pixels: int = 0
    bytes: int = 0
    traces: tuple[tuple[str, str], ...] = ()
    effort: Effort = field(default_factory=Effort)


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last word: images computed, and their pixels."""

    images: int
    pixels: int


@dataclass(frozen=True, slots=True)
class Notice:
    """What an executor has to say of its machines, for log.jsonl: JSON-able details."""

    event: str
    details: Mapping[str, object]

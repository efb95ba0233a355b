"""Where responses are measured: the regions' parts in each tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.footprint import moved, outline, wraps
from pipeline.keys import escape
from pipeline.plan import Plan
from pipeline.polygons import Points, inside
from pipeline.readers.masks import chosen, read_masks
from pipeline.types import Georeference, ImageInfo, Ints, Region, Roi, Source
from pipeline.zones import Zone, Zones

MARGIN = 0.1
"""Of the extent of a scene's outline, which may bulge between its points."""


def regions_in(plan: Plan, source: Source, core: Region) -> tuple[Roi, ...]:
    """The parts of all configured regions that lie in a tile's core.

    A label that the config names and the masks do not hold is an empty part of every tile; a zone
    is a part of each tile that its bounding box meets, also where no pixel's centre is inside.
    Without a mask, where the config allows that, an image is measured as a whole.

    Raises
    ------
    ReadError
        Where a mask cannot be read, or does not fit the image; `unsupported` where zones cannot be
        placed: the image has no coordinate system, or a zone reaches beyond it.
    """
    wanted = plan.config.regions
    found: list[Roi] = []
    if wanted.image or (wanted.mask and not source.masks):
        found.append(Roi("image", "image", None, core))
    if wanted.mask:
        found += _labelled(plan, source, core)
    if wanted.tiles:
        found += squares(core, wanted.tiles, source.header.shape)
    if wanted.zones:
        found += in_zones(wanted.zones, source.header, core)
    return tuple(found)


def _labelled(plan: Plan, source: Source, core: Region) -> Iterator[Roi]:
    mask = plan.config.input.mask
    labels = mask.labels if mask else "all"
    for rater, member in source.masks:
        before = f"{escape(rater)}/" if rater else ""
        for name, pixels in chosen(labels, read_masks(member.path, source.header, core)).items():
            label = escape(name)
            yield part(f"roi={before}{label}", "roi", label, core, pixels)


def squares(core: Region, edge: int, shape: Ints) -> Iterator[Roi]:
    """Squares (cubes, in a volume) of a grid from the image's first pixel; the last are smaller.

    >>> [(s.region, s.box.stop) for s in squares(Region((0, 0), (10, 6)), 8, (10, 6))]
    [('tile=0,0', (8, 6)), ('tile=1,0', (10, 6))]
    """
    ends = zip(core.start, core.stop, strict=True)
    for at in product(*(range(low // edge, -(-high // edge)) for low, high in ends)):
        square = Region(tuple(i * edge for i in at), tuple((i + 1) * edge for i in at)).clip(shape)
        inside = square.overlap(core)
        name = f"tile={','.join(map(str, at))}"
        yield Roi(name, "tile", None, inside, whole=inside == square)


def in_zones(zones: Zones, info: ImageInfo, core: Region) -> Iterator[Roi]:
    """The zones that a tile's core meets, by the pixels whose centres are inside."""
    if not isinstance(info.geo, Georeference) or None in (info.geo.crs, info.geo.transform):
        raise ReadError(
            "unsupported", "has no coordinate system, in which zones lie; give it one, or no zones"
        )
    for zone in _placed(zones, info.geo, info.shape):
        box = zone.box.overlap(core)
        if box.size:
            mask = inside(zone.rings, box)
            roi = part(f"zone={zone.name}", "zone", zone.name, box, mask)
            yield replace(roi, whole=box == zone.box)


def part(
    region: str,
    kind: Literal["roi", "zone"],
    label: str,
    box: Region,
    mask: npt.NDArray[np.bool_] | None,
) -> Roi:
    """The part of a region where a mask of a box's shape says so, in as small a box as holds it."""
    if mask is None or not mask.any():
        return Roi(region, kind, label, Region(box.start, box.start))
    axes = range(mask.ndim)
    spans = [np.flatnonzero(mask.any(tuple(b for b in axes if b != a)))[[0, -1]] for a in axes]
    start = tuple(int(o + span[0]) for o, span in zip(box.start, spans, strict=True))
    stop = tuple(int(o + span[1]) + 1 for o, span in zip(box.start, spans, strict=True))
    tight = Region(start, stop)
    within = mask[tight.slices(box.start)]
    return Roi(region, kind, label, tight, None if within.all() else within.copy())


# ---------------------------------------------------------------- zones in pixels
@dataclass(frozen=True, slots=True)
class _PlacedZone:
    """A zone in an image: rings of (row, column), and the pixels its bounding box meets."""

    name: str
    rings: tuple[Points, ...]
    box: Region


@lru_cache(maxsize=4)
def _placed(zones: Zones, place: Georeference, shape: Ints) -> tuple[_PlacedZone, ...]:
    """The zones whose bounding box meets an image."""
    return tuple(
        placed
        for zone in _near(zones, place, shape)
        if (placed := _place(zone, zones.crs, place, shape)).box.size
    )


def _near(zones: Zones, place: Georeference, shape: Ints) -> Iterator[Zone]:
    """Zones that may meet an image: far ones may have no place in its coordinate system."""
    around = outline(place, Region.whole(shape), zones.crs)
    if around is None or (np.abs(around[:, 0]).max() <= 360 and wraps(around)):
        yield from zones.zones
        return
    low, high = around.min(0), around.max(0)
    (left, bottom), (right, top) = low - MARGIN * (high - low), high + MARGIN * (high - low)
    for zone in zones.zones:
        a, b, c, d = zone.bounds
        if a <= right and c >= left and b <= top and d >= bottom:
            yield zone


def _place(zone: Zone, crs: str, place: Georeference, shape: Ints) -> _PlacedZone:
    rings = [ring for rings in zone.polygons for ring in rings]
    assert place.crs is not None
    assert place.transform is not None
    ground = moved(np.concatenate(rings), crs, place.crs)
    if ground is None:
        raise ReadError(
            "unsupported", f"zone {zone.name!r} reaches beyond its coordinate system; clip the zone"
        )
    a, b, c, d, e, f = place.transform
    x, y = ground[:, 0] - c, ground[:, 1] - f
    corners = np.column_stack([a * y - d * x, e * x - b * y]) / (a * e - b * d)
    low, high = np.floor(corners.min(0)), np.ceil(corners.max(0))
    top, left, bottom, right = (int(v) for v in np.clip([*low, *high], -1, 2**40))
    box = Region((top, left), (bottom, right)).clip(shape)
    ends = np.cumsum([len(ring) for ring in rings])[:-1]
    return _PlacedZone(zone.name, tuple(np.split(corners, ends)), box)

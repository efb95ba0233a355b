"""Regions that lie over several tiles -> the rows of the table of regions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any

from pipeline.footprint import footprint, ground_polygons
from pipeline.gdal import session
from pipeline.readers.georeference import DEGREE
from pipeline.types import Georeference, Region, Roi, Source
from pipeline.writers.geoparquet import located
from pipeline.zones import Zones

_CODE = re.compile(r"[A-Za-z0-9]+:[A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class _Extent:
    """What is known of a region so far: an example of its parts, the box of all, their pixels."""

    roi: Roi
    box: Region | None
    n_pixels: int


class RegionRows:
    """Collects the parts of regions, tile by tile, and says in the end where each region lies."""

    def __init__(self, zones: Zones | None) -> None:
        self.zones = zones
        self._found: dict[str, dict[str, _Extent]] = {}

    def add(self, source: Source, rois: Iterable[Roi]) -> None:
        """Take the parts in one tile of a source; each tile once, in any order."""
        found = self._found.setdefault(source.key, {})
        for roi in rois:
            old = found.get(roi.region, _Extent(roi, None, 0))
            box = old.box if not roi.size else _around(old.box, roi.box)
            found[roi.region] = replace(old, box=box, n_pixels=old.n_pixels + roi.size)

    def rows(self, source: Source) -> list[dict[str, Any]]:
        """The rows of a source, prepared, as `pipeline.writers.parquet.REGIONS` has them."""
        info = source.header
        place = info.geo if isinstance(info.geo, Georeference) else None
        # square degrees are no area
        pixel = None if info.grid.unit in (None, DEGREE) else prod(info.grid.spacing)
        code = place.crs if place and place.crs and _CODE.fullmatch(place.crs) else None
        extents = sorted(self._found.pop(source.key, {}).items())
        with session() if place else nullcontext():  # once, not for each outline
            return [
                {
                    "image": source.key,
                    "region": region,
                    "kind": found.roi.kind,
                    "label": found.roi.label,
                    "start": found.box.start if found.box else None,
                    "stop": found.box.stop if found.box else None,
                    "n_pixels": found.n_pixels,
                    "size": None if pixel is None else found.n_pixels * pixel,
                    "proj:code": code,
                    **located(self._geometry(found, place)),
                }
                for region, found in extents
            ]

    def _geometry(self, found: _Extent, place: Georeference | None) -> bytes | None:
        if found.roi.kind == "zone" and self.zones is not None and found.roi.label is not None:
            return _zone(self.zones, found.roi.label)
        if found.roi.kind in ("image", "tile") and place and found.box:
            return footprint(place, found.box)
        return None


def _around(box: Region | None, other: Region) -> Region:
    """The smallest box that holds both."""
    if box is None:
        return other
    start, stop = zip(box.start, other.start, strict=True), zip(box.stop, other.stop, strict=True)
    return Region(tuple(map(min, start)), tuple(map(max, stop)))


@lru_cache(maxsize=1 << 14)
def _zone(zones: Zones, name: str) -> bytes | None:
    """A zone's own polygons on the ground: they are the same for all scenes."""
    return ground_polygons(_by_name(zones)[name], zones.crs)


@lru_cache(maxsize=2)
def _by_name(zones: Zones) -> dict[str, Any]:
    return {zone.name: zone.polygons for zone in zones.zones}

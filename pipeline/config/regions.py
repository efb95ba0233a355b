"""The section `regions`: where responses are measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as strict_dataclass

from pipeline.config.nodes import Node, gather, problem, shown
from pipeline.config.words import build
from pipeline.registry import nearest
from pipeline.zones import Zones

WORDS = ("image", "mask")
_STRICT = ConfigDict(extra="forbid")


@strict_dataclass(frozen=True, config=_STRICT)
class Squares:
    """A grid over each image."""

    tiles: Annotated[
        int, Field(ge=1, description="edge of the squares (cubes, in a volume); pixels")
    ]


@strict_dataclass(frozen=True, config=_STRICT)
class ZoneFile:
    """Polygons on the ground."""

    zones: Annotated[
        str, Field(min_length=1, description="a .gpkg, .geojson or .shp; from the config's folder")
    ]
    id: Annotated[str, Field(min_length=1, description="the column that names them")]


MAPPINGS = {"tiles": Squares, "zones": ZoneFile}


@dataclass(frozen=True)
class Regions:
    """Which regions are measured, as the config says.

    image: all of each image; mask: the labels of its masks; tiles: the edge of squares, in pixels.
    """

    image: bool = False
    mask: bool = False
    tiles: int | None = None
    zones: Zones | None = None


WHOLE = Regions(image=True)
_Part: TypeAlias = tuple[str, Any]


def regions_of(node: Node | None, folder: Path, *, masked: bool) -> Regions:
    """The regions a config names; none is `[mask]` where `input.mask` is given, else `[image]`.

    folder: of the config file. Raises ConfigError.
    """
    if node is None:
        return Regions(mask=True) if masked else WHOLE
    if not node.items:
        text = f"must be a list of regions (got {shown(node.plain)}); write [image]"
        raise problem(node.place, "regions", text)
    parts: list[_Part] = gather(
        partial(_part, item, f"regions[{i}]", folder, masked=masked)
        for i, item in enumerate(node.items)
    )
    gather(partial(_once, node, parts, i) for i in range(len(parts)))
    return Regions(**dict(parts))


def _part(node: Node, key: str, folder: Path, *, masked: bool) -> _Part:
    if isinstance(node.value, str):
        return _word(node, key, masked=masked)
    for word, cls in MAPPINGS.items():
        if word in node.entries:
            found: Any = build(cls, node, key)
            return word, _read(found, node, key, folder) if word == "zones" else found.tiles
    text = f"is no region (got {shown(node.plain)}); write image, mask, "
    raise problem(node.place, key, f"{text}{{tiles: 256}} or {{zones: fields.gpkg, id: name}}")


def _word(node: Node, key: str, *, masked: bool) -> _Part:
    if node.value not in WORDS:
        known = [*WORDS, *MAPPINGS]
        text = f"unknown region {node.value!r}{nearest(str(node.value), known)}"
        raise problem(node.place, key, text)
    if node.value == "mask" and not masked:
        raise problem(node.place, key, "needs masks; add input.mask: {path: '*_mask.png'}")
    return str(node.value), True


def _read(found: ZoneFile, node: Node, key: str, folder: Path) -> Zones:
    place = node.entries["zones"].node.place
    try:
        return Zones.read(folder / found.zones, found.id)
    except ValueError as error:
        raise problem(place, f"{key}.zones", f"{found.zones!r} {error}") from error


def _once(node: Node, parts: list[_Part], position: int) -> None:
    word = parts[position][0]
    if word in [other for other, _ in parts[:position]]:
        text = f"{word} is given twice, and their rows would have one key; keep one"
        raise problem(node.items[position].place, f"regions[{position}]", text)

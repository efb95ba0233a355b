"""OME-XML in a TIFF file: which directory is which plane (OME-TIFF specification 6.0)."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from pipeline.readers.planes import Stack, grid_of

AXES = "TZC"


def ome_stacks(
    xml: str, file: str, directories: int, samples: Callable[[int], int]
) -> tuple[Stack, ...]:
    """The images of a file, in the order of the XML; none where planes stand in other files.

    file: its name; samples: per pixel, of a directory. Raises ParseError or ValueError where the
    XML cannot be understood or names planes that the file does not have.
    """
    root = ElementTree.fromstring(xml)
    if _stands_elsewhere(root, file):
        return ()
    pixels = [found for image in _all(root, "Image") for found in _all(image, "Pixels")]
    return tuple(_stack(one, directories, samples) for one in pixels)


def _stands_elsewhere(root: Element, file: str) -> bool:
    own = root.get("UUID")
    planes = [uuid for uuid in root.iter() if _tag(uuid) == "UUID"]
    if own is not None:
        return any((uuid.text or "").strip() != own for uuid in planes)
    return any(uuid.get("FileName", file).lower() != file.lower() for uuid in planes)


def _stack(pixels: Element, directories: int, samples: Callable[[int], int]) -> Stack:
    listed = _all(pixels, "TiffData")
    ends = [int(data.get("IFD", 0)) for data in listed]
    if not ends or not 0 <= min(ends) <= max(ends) < directories:
        message = f"directories {ends} of {directories}"
        raise ValueError(message)
    order, together = pixels.get("DimensionOrder", "XYZCT"), samples(min(ends))
    counts = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in AXES}
    counts["C"], rest = divmod(counts["C"], together)
    planes = counts["T"] * counts["Z"] * counts["C"]
    if rest or min(counts.values()) < 1 or order[:2] != "XY" or sorted(order[2:]) != sorted(AXES):
        message = f"axes {order} of {counts} with {together} samples per pixel"
        raise ValueError(message)
    if planes > directories:
        message = f"{planes} planes in {directories} directories"
        raise ValueError(message)
    slowest_first = order[:1:-1]
    found = np.full([counts[axis] for axis in slowest_first], -1, np.int64)
    for data in listed:
        place = [int(data.get(f"First{axis}", 0)) for axis in slowest_first]
        at = int(np.ravel_multi_index(place, found.shape))
        count = int(data.get("PlaneCount", 1 if "IFD" in data.attrib else planes))
        start, count = int(data.get("IFD", 0)), min(count, planes - at)
        found.flat[at : at + count] = np.arange(start, start + count)
    if found.min() < 0 or found.max() >= directories:
        message = f"not all of {planes} planes are in the file"
        raise ValueError(message)
    names = tuple(channel.get("Name", "") for channel in _all(pixels, "Channel"))
    grid = grid_of(
        [float(pixels.get(f"PhysicalSize{axis}", 0)) for axis in "ZYX"],
        [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "ZYX"],
        counts["Z"],
    )
    pages = found.transpose([slowest_first.index(axis) for axis in AXES])
    return Stack(pages, names if len(names) == counts["C"] else ("",) * counts["C"], grid)


def _all(element: Element, tag: str) -> list[Element]:
    """Children of that name, of whatever version of the namespace."""
    return [child for child in element if _tag(child) == tag]


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]

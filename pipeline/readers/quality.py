"""A layer of classes over an image, on its grid or on a coarser one that nests in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import product
from math import hypot

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS, Mask
from pipeline.readers.joined import short_name
from pipeline.readers.recognise import identify
from pipeline.types import Georeference, ImageInfo, Ints, Member, Region

OFF = 0.01
"""How far a layer may lie beside its image, in pixels of the image."""


def check_quality(member: Member, info: ImageInfo) -> None:
    """Raise ReadError where a layer does not lie over an image; reads its header only."""
    with _naming(member):
        name = _reader_of(member)
        nesting(info, READERS[name]().probe(member.path)[0])


def qa_valid(member: Member, info: ImageInfo, region: Region, invalid: Collection[int]) -> Mask:
    """Where no class of a layer is an invalid one, bool of region.shape, for a part of an image.

    A pixel of a coarser layer counts for all pixels below it. Reads the window that is needed.

    Raises
    ------
    ReadError
        `unsupported` where the layer has several bands or does not nest in the image's grid, and
        what its reader raises; each with the layer's name.
    """
    with _naming(member), READERS[_reader_of(member)]().open(member.path, 0) as window:
        factors = nesting(info, window.info)
        start = tuple(a // f for a, f in zip(region.start, factors, strict=True))
        stop = tuple(-(-b // f) for b, f in zip(region.stop, factors, strict=True))
        codes = window.read(Region(start, stop))[0]
    bad = np.isin(codes, list(invalid))
    below = (
        np.arange(a, b) // f - first
        for a, b, f, first in zip(region.start, region.stop, factors, start, strict=True)
    )
    return ~bad[np.ix_(*below)]


def nesting(info: ImageInfo, layer: ImageInfo) -> Ints:
    """How many pixels of an image one of a layer spans along each axis. Raises ReadError."""
    if len(layer.bands) != 1:
        message = f"has {len(layer.bands)} bands; classes are one band"
        raise ReadError("unsupported", message)
    pairs = zip(info.shape, layer.shape, strict=False)
    if len(info.shape) != len(layer.shape) or any(n % m for n, m in pairs):
        message = (
            f"{_times(layer.shape)} pixels do not nest in the image's {_times(info.shape)}; "
            "resample it to the image's grid"
        )
        raise ReadError("unsupported", message)
    factors = tuple(n // m for n, m in zip(info.shape, layer.shape, strict=True))
    if isinstance(info.geo, Georeference) and isinstance(layer.geo, Georeference):
        _check_place(info, layer.geo, info.geo, factors)
    return factors


def _check_place(info: ImageInfo, layer: Georeference, image: Georeference, factors: Ints) -> None:
    """Raise ReadError where the corners of a layer are not those of its image."""
    if layer.crs and image.crs and layer.crs != image.crs:
        message = f"lies in {layer.crs[:40]}, the image in {image.crs[:40]}; reproject it"
        raise ReadError("unsupported", message)
    if layer.transform is None or image.transform is None:
        return
    height, width = info.shape
    a, b, _, d, e, _ = image.transform
    for row, column in product((0, height), (0, width)):
        at = _at(image.transform, row, column)
        found = _at(layer.transform, row / factors[0], column / factors[1])
        if hypot(at[0] - found[0], at[1] - found[1]) > OFF * min(hypot(a, d), hypot(b, e)):
            message = "lies elsewhere than the image; cut both to one extent"
            raise ReadError("unsupported", message)


def _at(transform: tuple[float, ...], row: float, column: float) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * column + b * row + c, d * column + e * row + f


def _reader_of(member: Member) -> str:
    name = identify(member.path)
    if name is None:
        raise ReadError("unsupported", "no reader knows this format; convert it")
    return name


@contextmanager
def _naming(member: Member) -> Iterator[None]:
    try:
        yield
    except ReadError as error:
        raise ReadError(error.kind, f"qa layer {short_name(member)}: {error}") from error


def _times(shape: Ints) -> str:
    return " x ".join(map(str, shape))

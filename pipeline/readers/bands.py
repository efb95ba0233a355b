"""What GDAL says of a raster's bands: which are pixels, their names, nodata and scales."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import Mask, Pixels
from pipeline.readers.picture import label
from pipeline.types import Ints

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

# Colour interpretations of GDAL that are also names of bands in remote sensing.
VISIBLE = frozenset({"red", "green", "blue", "pan", "coastal"})
COMMON_NAMES = VISIBLE | {"rededge", "nir", "swir", "mwir", "lwir", "tir"}
RESERVED = ("all", "luminance")  # words that stand for other things where bands are named


@dataclass(frozen=True, slots=True)
class Bands:
    """The bands of a raster that are pixels.

    indexes: of the bands, from 1, as GDAL counts; alpha: of the band that is validity; nodata: per
    band, as stored; scaling: slope and intercept per band, or None where all are as stored.
    """

    labels: tuple[str, ...]
    indexes: Ints
    alpha: int | None
    stored: np.dtype[np.generic]
    nodata: tuple[float | None, ...]
    scaling: tuple[tuple[float, float], ...] | None

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values: float64 where they are scaled."""
        return self.stored if self.scaling is None else np.dtype(np.float64)

    @property
    def common_nodata(self) -> float | None:
        """The one nodata value of all bands, where values are what is stored."""
        return self.nodata[0] if self.scaling is None and len(set(self.nodata)) == 1 else None

    def scale(self, stored: Pixels) -> Pixels:
        """Values of stored samples, (C, H, W)."""
        if self.scaling is None:
            return stored
        slope, intercept = np.array(self.scaling).T[:, :, None, None]
        return np.asarray(stored * slope + intercept)

    def differs(self, stored: Pixels) -> Mask:
        """Where stored samples, (C, H, W), are not their band's nodata value."""
        planes = [
            np.ones(plane.shape, np.bool_)
            if value is None
            else plane != np.array(value).astype(plane.dtype)
            for plane, value in zip(stored, self.nodata, strict=True)
        ]
        return np.stack(planes)


def bands_of(dataset: DatasetReader) -> Bands:
    """Read the header of an open raster. Raises ReadError for what is no plain number."""
    colours = [colour.name for colour in dataset.colorinterp]
    names = [(text or "").strip() for text in dataset.descriptions]
    alpha = _alpha(colours, names)
    indexes = tuple(i for i in dataset.indexes if i != alpha)
    if not indexes:
        raise ReadError("unsupported", "a raster without a band other than alpha")
    stored = _type({dataset.dtypes[i - 1] for i in indexes})
    scaling = tuple((dataset.scales[i - 1], dataset.offsets[i - 1]) for i in indexes)
    for slope, intercept in scaling:
        if not (slope and isfinite(slope) and isfinite(intercept)):
            message = f"scale {slope:g} and offset {intercept:g}; correct them, or remove them"
            raise ReadError("unsupported", message)
    return Bands(
        labels([names[i - 1] for i in indexes], [colours[i - 1] for i in indexes]),
        indexes,
        alpha,
        stored,
        tuple(_nodata(dataset.nodatavals[i - 1], stored) for i in indexes),
        None if set(scaling) == {(1.0, 0.0)} else scaling,
    )


def _alpha(colours: list[str], names: list[str]) -> int | None:
    """The alpha band, from 1; one that is called otherwise is none, GDAL's default is wrong there.

    GTiff calls the fourth of four bytes alpha unless its writer knew to object.
    """
    pairs = enumerate(zip(colours, names, strict=True), 1)
    return next((i for i, (c, n) in pairs if c == "alpha" and n.lower() in ("", "alpha")), None)


def _type(names: set[str]) -> np.dtype[np.generic]:
    if len(names) > 1:
        message = f"bands of different types ({', '.join(sorted(names))}); convert them to one"
        raise ReadError("unsupported", message)
    (name,) = names
    if name.startswith("complex"):
        message = f"samples of type {name}; convert them to integers or floats of <= 64 bits"
        raise ReadError("unsupported", message)
    return np.dtype(name)


def labels(names: list[str], colours: list[str]) -> tuple[str, ...]:
    """Descriptions, else the common names of colours, else numbers; numbers where two are alike."""
    found = [
        name if _usable(name) else colour if colour in COMMON_NAMES else None
        for name, colour in zip(names, colours, strict=True)
    ]
    count = Counter(found)
    return tuple(
        number if text is None or count[text] > 1 else text
        for text, number in zip(found, label(len(found)), strict=True)
    )


def _usable(name: str) -> bool:
    return bool(name) and name.isprintable() and not name.isdigit() and name not in RESERVED


def _nodata(value: float | None, dtype: np.dtype[np.generic]) -> float | None:
    """None where no sample of this type can have the value, and for NaN, which is never valid."""
    if value is None or isnan(value):
        return None
    if dtype.kind == "f":
        return value
    limits = np.iinfo(dtype.name)
    return value if float(value).is_integer() and limits.min <= value <= limits.max else None

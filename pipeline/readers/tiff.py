"""TIFF and BigTIFF, parsed by tifffile and decoded by imagecodecs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from math import isnan, prod
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar, cast

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.base import READERS, Mask, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.photometric import alpha_of, colours, layout
from pipeline.readers.picture import Parts, Picture, describe
from pipeline.readers.segments import in_parts, part
from pipeline.readers.strips import absent, check_strips
from pipeline.types import Grid, ImageInfo, Region

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

NODATA_TAG = 42113
UIC2_TAG = 33629  # of MetaMorph stacks: one entry per plane
_Picture: TypeAlias = "tuple[TiffPage, TiffPage | None]"  # and its mask page
_Page = TypeVar("_Page")
REDUCED, TRANSPARENCY = 1, 4  # bits of NewSubfileType
MPP = re.compile(r"\|\s*MPP\s*=\s*(\d*\.?\d+)")  # micrometres per pixel, as Aperio writes it
LARGE = 1 << 24
"""Pixels up to which a page is decoded whole."""


@READERS.register("tiff")
class Tiff:
    """TIFF pages of 1 to 64-bit integers and 16 to 64-bit floats, kept at their depth.

    Gray and unnamed samples are bands `1`, `2` ..; RGB is red, green, blue, and so are palettes
    (high byte of the entries), CMYK and 8-bit YCbCr and L*a*b* (the latter two converted by
    Pillow). Integer samples below 8 bits are scaled to uint8 0..255; those of 9 to 15 bits stay as
    they are in uint16. Where white is zero, integers are inverted: larger is brighter. Extra
    samples declared as alpha are validity (colours premultiplied by it stay so); what GDAL's
    metadata says of a sample's role stands above that, since ExtraSamples calls the near infrared
    of many scenes alpha. GDAL_NODATA, compared with the stored samples, is validity too; blocks
    that a sparse file leaves out are invalid. A mask page is validity of the page before it; like
    thumbnails and reduced resolutions it is no page of its own. Of a slide (Aperio, Hamamatsu,
    Philips, PerkinElmer) all pages of another size than the first are such: levels, label, macro.
    Aperio's micrometres per pixel are its spacing. Pages of more than 2^24 pixels are read by
    windows where strips and tiles have up to 2^22 pixels or are not compressed, by the same decoder
    as smaller ones. The Orientation tag is not applied, as in GDAL: georeferencing speaks of stored
    rows. Complex numbers, volumes within one page and subsampled YCbCr outside JPEG are
    `unsupported`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".tif", ".tiff", ".btf", ".tf8")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"II(\*\0|\+\0\x08\0)|MM(\0\*|\0\+\0\x08)")

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture per page, (H, W)."""
        with pages(path) as found:
            return tuple(info_of(page) for page, _ in found)

    def open(self, path: str, page: int) -> Picture | Parts:
        """Decode one page whole, or a large one when a window asks for a part of it."""
        with pages(path) as found:
            picture, mask = pick(found, page)
            info = info_of(picture)
            check_strips(picture)
            if mask is not None:
                _check_mask(mask, info)
            if info.windowed:
                return Parts(info, partial(_reopened, path, page))
            return decoded(path, picture, mask, info)


def _reopened(path: str, page: int, region: Region) -> Picture:
    with pages(path) as found:
        picture, mask = pick(found, page)
        return decoded(path, picture, mask, info_of(picture), region)


@contextmanager
def pages(path: str) -> Iterator[Iterator[_Picture]]:
    """The pages that are pictures of their own, parsed as they are asked for."""
    from tifffile import TiffFile

    with decoding(path, "TIFF") as file, TiffFile(file) as tiff:
        _refuse_stack(tiff)
        yield _pictures(tiff)


def pick(found: Iterator[_Page], page: int) -> _Page:
    """One of the pages, counted from 0. Raises ReadError where there are fewer."""
    picture = next(islice(found, page, None), None)
    if picture is None:
        message = f"no page {page + 1}; has the file changed?"
        raise ReadError("corrupt", message)
    return picture


def _pictures(tiff: TiffFile) -> Iterator[_Picture]:
    picture: TiffPage | None = None
    mask: TiffPage | None = None
    slide = any((tiff.is_svs, tiff.is_ndpi, tiff.is_philips, tiff.is_qpi))
    for page in _chain(tiff):
        if page.subfiletype & REDUCED or (slide and page.shape != tiff.pages.first.shape):
            continue
        if page.subfiletype & TRANSPARENCY:
            mask = page
            continue
        if picture is not None:
            yield picture, mask
        picture, mask = page, None
    if picture is None:
        message = "TIFF without a picture of full resolution (raw camera file?); convert the file"
        raise ReadError("unsupported", message)
    yield picture, mask


def _chain(tiff: TiffFile) -> Iterator[TiffPage]:
    """Every page once: tifffile follows a chain that bites its own tail without end."""
    seen: set[int] = set()
    for page in cast("Iterator[TiffPage]", iter(tiff.pages)):  # frames exist only on request
        if page.offset in seen:
            message = f"damaged TIFF file (page {len(seen) + 1} leads back to an earlier one)"
            raise ReadError("corrupt", message)
        seen.add(page.offset)
        yield page


def _refuse_stack(tiff: TiffFile) -> None:
    """Refuse files whose one directory stands for many pictures: all but one would be lost."""
    count = 1
    if tiff.is_imagej and len(list(islice(_chain(tiff), 2))) == 1:
        count = int((tiff.imagej_metadata or {}).get("images", 1))
    elif tiff.is_stk:
        planes = tiff.pages.first.tags.get(UIC2_TAG)
        count = 1 if planes is None else int(planes.count)
    if count > 1:
        message = f"{count} pictures behind one TIFF directory; save them as a multi-page TIFF"
        raise ReadError("unsupported", message)


def info_of(page: TiffPage) -> ImageInfo:
    """Header knowledge of a page, (H, W)."""
    if page.dtype is None:
        message = f"samples of {page.bitspersample} bits, format {page.sampleformat}; convert them"
        raise ReadError("unsupported", message)
    if page.imagedepth > 1:
        raise ReadError("unsupported", "a volume within one TIFF page; save it as pages")
    shape = (page.imagelength, page.imagewidth)
    bands, dtype = layout(page)
    changed = dtype != page.dtype or len(bands) != page.samplesperpixel
    info = describe(shape, bands, dtype, None if changed else _nodata(page))
    said = MPP.search(page.description) if page.is_svs else None
    step = 0.0 if said is None else float(said[1])
    grid = Grid((step, step), "um") if step else info.grid
    return replace(info, grid=grid, windowed=prod(shape) > LARGE and in_parts(page))


def _nodata(page: TiffPage) -> float | None:
    """GDAL_NODATA, as GDAL reads it; None where no sample of this type can have the value."""
    text = page.tags.valueof(NODATA_TAG)
    if not isinstance(text, str):
        return None
    plain = text.strip("\0 ").replace(",", ".").replace("1.#INF", "inf").replace("1.#QNAN", "nan")
    try:
        value = float(plain)
    except ValueError:
        return None  # metadata that says nothing
    dtype = np.dtype(page.dtype)
    if dtype.kind == "f":
        return None if isnan(value) else value  # NaN pixels are invalid without being told
    limits = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    return value if value.is_integer() and limits.min <= value <= limits.max else None


def decoded(
    path: str,
    page: TiffPage,
    mask: TiffPage | None,
    info: ImageInfo,
    region: Region | None = None,
) -> Picture:
    """Decode a page, or a part of it. Raises ReadError, and what decoders raise."""
    region = region or Region.whole(info.shape)
    stored = np.moveaxis(part(path, page, region), -1, 1)
    samples = stored.reshape(-1, *region.shape)
    alpha = alpha_of(page)
    colour = samples if alpha is None else np.delete(samples, alpha, axis=0)
    seen = None if alpha is None else samples[alpha : alpha + 1] != 0
    values = colours(colour, page)
    masks = [
        seen,
        _differs(colour, _nodata(page)),
        _present(page, alpha, region),
        None if mask is None else part(path, mask, region)[..., 0] != 0,
    ]
    valid = _combined([one for one in masks if one is not None], len(values))
    return Picture(replace(info, shape=region.shape), values, valid)


def _differs(samples: Pixels, nodata: float | None) -> Mask | None:
    """Where stored samples are not the nodata value, compared in the samples' own precision."""
    if nodata is None:
        return None
    with np.errstate(over="ignore"):
        return np.asarray(samples != np.array(nodata).astype(samples.dtype))


def _present(page: TiffPage, alpha: int | None, region: Region) -> Mask | None:
    """Where the file has blocks: (S or 1, H, W) without alpha's plane, or None for everywhere."""
    blocks = absent(page)
    if blocks is None:
        return None
    mask = blocks.within(region)
    return ~(mask if alpha is None or len(mask) == 1 else np.delete(mask, alpha, axis=0))


def _check_mask(mask: TiffPage, info: ImageInfo) -> None:
    """Refuse a mask page that is not one plane of the picture: not 0 is inside, as GDAL has it."""
    if (mask.imagelength, mask.imagewidth, mask.samplesperpixel) != (*info.shape, 1):
        message = f"a mask page of {mask.imagelength}x{mask.imagewidth}; write the file again"
        raise ReadError("unsupported", message)
    check_strips(mask)


def _combined(masks: list[Mask], bands: int) -> Mask | None:
    """A pixel is valid where all masks say so; samples that became other bands stand together."""
    if not masks:
        return None
    alike = [m if len(m) in (1, bands) else m.all(axis=0, keepdims=True) for m in masks]
    return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*alike)))

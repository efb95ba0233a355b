"""Microscopy stacks in TIFF, as OME-XML or ImageJ describes them: channels, slices and frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast
from xml.etree.ElementTree import ParseError

import numpy as np

from pipeline.errors import ReadError
from pipeline.readers.bands import labels
from pipeline.readers.base import READERS, Pixels
from pipeline.readers.decoding import decoding
from pipeline.readers.imagej import imagej_stack
from pipeline.readers.ome import ome_stacks
from pipeline.readers.picture import Parts, Picture, label, refuse_page
from pipeline.readers.planes import Stack
from pipeline.readers.strips import check_strips
from pipeline.readers.tiff import decoded, info_of
from pipeline.types import Grid, ImageInfo, Region

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage


@READERS.register("hyperstack")
class Hyperstack:
    """OME-TIFF, and TIFF as ImageJ writes it: channels are bands, slices a volume (z, y, x).

    A TIFF is read here, and not as `tiff`, where its first page holds OME-XML or ImageJ's
    description. Samples are those of `tiff`. There is one frame per point of time, and per image
    of the OME-XML. Bands are called by the names of their channels where all are different, else
    by numbers; those of a coloured page are red, green, blue. Spacing is PhysicalSize, or ImageJ's
    resolution and spacing with its unit; there is none where an axis lacks it. All planes of a
    stack beyond 4 GiB stand behind one directory, as ImageJ writes them. Resolutions below level 0
    are not read. OME-XML whose planes stand in other files is not followed: such a file is read as
    `tiff`, page by page. Planes that are missing are `corrupt`.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".ome.tif", ".ome.tiff", ".ome.tf8", ".ome.btf")
    signature: ClassVar[re.Pattern[bytes]] = re.compile(rb"(?!)")  # that of TIFF says too little

    def probe(self, path: str) -> Sequence[ImageInfo]:
        """One picture or volume per frame."""
        with _described(path) as (tiff, stacks):
            return tuple(info for one in stacks for info in [_info(tiff, one)] * len(one.pages))

    def open(self, path: str, page: int) -> Parts:
        """Open one frame; planes are decoded when a window asks for them."""
        with _described(path) as (tiff, stacks):
            return Parts(_info(tiff, _frame(stacks, page)), partial(_decode, path, page))


def is_hyperstack(path: str) -> bool:
    """Whether a TIFF is to be read as a stack: by the description of its first page.

    A file that cannot be parsed is not: the reader of plain TIFF says what is wrong with it. Raises
    ReadError, kind `io`.
    """
    from tifffile import TiffFile

    try:
        with decoding(path, "TIFF") as file, TiffFile(file) as tiff:
            try:
                return bool(_stacks(tiff, path))
            except ReadError:
                return True
    except ReadError as error:
        if error.kind == "io":
            raise
        return False


@contextmanager
def _described(path: str) -> Iterator[tuple[TiffFile, tuple[Stack, ...]]]:
    from tifffile import TiffFile

    with decoding(path, "TIFF") as file, TiffFile(file) as tiff:
        stacks = _stacks(tiff, path)
        if not stacks:
            message = "TIFF without a description of its planes; has the file changed?"
            raise ReadError("corrupt", message)
        yield tiff, stacks


def _stacks(tiff: TiffFile, path: str) -> tuple[Stack, ...]:
    """What the first page says of the file; nothing where it says less than its directories."""

    def samples(page: int) -> int:
        return _page(tiff, page).samplesperpixel

    try:
        if tiff.is_ome and (xml := tiff.ome_metadata):
            return ome_stacks(xml, Path(path).name, len(tiff.pages), samples)
        if tiff.is_imagej and (stack := imagej_stack(tiff, len(tiff.pages))):
            return (stack,)
    except (ParseError, ValueError, TypeError, OverflowError) as error:
        message = f"a description of planes that makes no sense ({error}); write the file again"
        raise ReadError("corrupt", message) from error
    return ()


def _frame(stacks: Sequence[Stack], frame: int) -> Stack:
    """One frame of all, as a stack of its own."""
    frames = [(one, at) for one in stacks for at in range(len(one.pages))]
    refuse_page(frame, len(frames))
    stack, at = frames[frame]
    return replace(stack, pages=stack.pages[at : at + 1])


def _info(tiff: TiffFile, stack: Stack) -> ImageInfo:
    """Header knowledge of a frame: (y, x), or (z, y, x) of several slices."""
    first = info_of(_plane(tiff, stack, int(stack.pages[0, 0, 0])))
    _, depth, channels = stack.pages.shape
    bands = first.bands
    if len(bands) == 1:
        bands = labels(list(stack.names), [""] * channels)
    elif channels > 1:
        bands = label(channels * len(bands))
    if depth == 1:
        return replace(first, bands=bands, grid=Grid(stack.grid.spacing[1:], stack.grid.unit))
    shape = (depth, *first.shape)
    return replace(first, shape=shape, bands=bands, grid=stack.grid, windowed=False)


def _plane(tiff: TiffFile, stack: Stack, number: int) -> TiffPage:
    if not stack.one:
        return _page(tiff, number)
    page = copy(tiff.pages.first)
    page.dataoffsets = (page.dataoffsets[0] + number * page.nbytes,)
    page.databytecounts = (page.nbytes,)
    return page


def _page(tiff: TiffFile, number: int) -> TiffPage:
    return cast("TiffPage", tiff.pages[number])  # frames exist only on request


def _decode(path: str, frame: int, region: Region) -> Picture:
    """A part of a frame, plane by plane."""
    with _described(path) as (tiff, stacks):
        stack = _frame(stacks, frame)
        info = _info(tiff, stack)
        deep = region if len(info.shape) == 3 else Region((0, *region.start), (1, *region.stop))
        box = Region(deep.start[1:], deep.stop[1:])
        wanted = stack.pages[0, deep.start[0] : deep.stop[0]]
        planes = [[_plane(tiff, stack, int(n)) for n in channels] for channels in wanted]
        values: Pixels = np.empty((len(info.bands), *deep.shape), info.dtype)
        valid = np.ones(values.shape, np.bool_)
        size = len(info.bands) // len(stack.names)
        for z, channels in enumerate(planes):
            for channel, page in enumerate(channels):
                bands = slice(channel * size, (channel + 1) * size)
                picture = _alike(path, page, box, info, size)
                values[bands, z] = picture.values
                mask = picture.valid(Region.whole(box.shape))
                if mask is not None:
                    valid[bands, z] = mask
        shape = (len(info.bands), *region.shape)
        mask = None if valid.all() else valid.reshape(shape)
        return Picture(replace(info, shape=region.shape), values.reshape(shape), mask)


def _alike(path: str, page: TiffPage, box: Region, info: ImageInfo, bands: int) -> Picture:
    """A part of one plane, which must be like the first."""
    found = info_of(page)
    if (found.shape, found.dtype, len(found.bands)) != (info.shape[-2:], info.dtype, bands):
        message = "planes of one stack differ in size, type or samples; save them as an image each"
        raise ReadError("corrupt", message)
    check_strips(page)
    return decoded(path, page, None, found, box)

"""What the samples of a TIFF page mean, as gray or as red, green, blue (TIFF 6.0 specification)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.errors import ReadError
from pipeline.readers.picture import COLOUR, label

if TYPE_CHECKING:
    from tifffile import TiffPage

Samples: TypeAlias = npt.NDArray[Any]  # arithmetic on whatever number type the file has

MINISWHITE, MINISBLACK, RGB, PALETTE, MASK, CMYK, YCBCR = range(7)
CIELAB, ICCLAB, LINEAR_RAW = 8, 9, 34892
AS_STORED = (MINISWHITE, MINISBLACK, RGB, MASK, LINEAR_RAW)
# Samples that together make one colour.
COLOURS = {RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
# Compressions of the JPEG family: tifffile converts their YCbCr to RGB while decoding.
JPEGS = (6, 7, 33007, 34892)
ALPHA = (1, 2)  # ExtraSamples: associated, unassociated
GDAL_METADATA = 42112
ROLE = re.compile(r'name="COLORINTERP" sample="(\d+)" role="colorinterp">(\w+)<')
COEFFICIENTS, REFERENCE = (0.299, 0.587, 0.114), (0, 255, 128, 255, 128, 255)


def _roles(page: TiffPage) -> dict[int, str]:
    """What GDAL's metadata says each sample is: `red`, `alpha`, `undefined` .., by index from 0."""
    text = page.tags.valueof(GDAL_METADATA)
    found = ROLE.findall(text) if isinstance(text, str) else []
    return {int(sample): role.lower() for sample, role in found}


def alpha_of(page: TiffPage) -> int | None:
    """Which sample, from 0, is alpha: the first that is declared so, never the first of all.

    GDAL's metadata is believed before ExtraSamples, which cannot say "near infrared".
    """
    roles = _roles(page)
    if roles:
        return next((i for i, role in sorted(roles.items()) if role == "alpha" and i > 0), None)
    first = page.samplesperpixel - len(page.extrasamples)
    found = [i for i, kind in enumerate(page.extrasamples, first) if kind in ALPHA and i > 0]
    return found[0] if found else None


def meaning(page: TiffPage) -> int:
    """The photometric interpretation; MINISBLACK where samples or GDAL's metadata belie it."""
    kind = int(page.photometric)
    if kind not in (*AS_STORED, *COLOURS):
        raise _refusal("colour space", _name(page))
    colour = page.samplesperpixel - (alpha_of(page) is not None)
    other_inks = kind == CMYK and page.tags.valueof(332, 1) != 1
    other_bands = kind == RGB and _roles(page).get(0, "red") != "red"
    return MINISBLACK if other_inks or other_bands or COLOURS.get(kind, 0) > colour else kind


def layout(page: TiffPage) -> tuple[tuple[str, ...], np.dtype[np.generic]]:
    """Band labels and type of what `colours` will return."""
    kind, dtype = meaning(page), np.dtype(page.dtype)
    samples = page.samplesperpixel - (alpha_of(page) is not None)
    if kind in COLOURS:
        samples += len(COLOUR) - COLOURS[kind]
    if kind in (PALETTE, CIELAB, ICCLAB) or dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    return label(samples, COLOUR if kind in COLOURS else ()), dtype


def colours(samples: Samples, page: TiffPage) -> Samples:
    """Turn stored samples (S, H, W), alpha taken out, into the bands of `layout`, (C, H, W)."""
    kind = meaning(page)
    if kind == PALETTE:
        return np.concatenate([_palette(samples[0], page), _widen(samples[1:], page)])
    wide = _widen(samples, page)
    if kind == MINISWHITE:
        return _inverted(wide, page)
    if kind not in COLOURS or kind == RGB or (kind == YCBCR and page.compression in JPEGS):
        return wide
    ink, rest = wide[: COLOURS[kind]], wide[COLOURS[kind] :]
    if kind == CMYK:
        return np.concatenate([cmyk_to_rgb(ink, max(_bits(page), 8)), rest])
    return np.concatenate([_converted(ink, page, kind), rest])


def _name(page: TiffPage) -> str:
    return str(getattr(page.photometric, "name", page.photometric))


def _bits(page: TiffPage) -> int:
    """Bits per sample; unequal ones (RGB 565) have been scaled to the whole type by tifffile."""
    alike = np.ndim(page.bitspersample) == 0
    return int(page.bitspersample) if alike else 8 * np.dtype(page.dtype).itemsize


def _widen(samples: Samples, page: TiffPage) -> Samples:
    """Scale samples below 8 bits to 0..255, rounded to nearest; exact for 1, 2 and 4 bits."""
    bits = _bits(page)
    if bits >= 8 or samples.dtype.kind not in "bu":
        return samples
    top = 2**bits - 1
    table = ((np.arange(top + 1) * 510 + top) // (2 * top)).astype(np.uint8)
    return np.asarray(table[samples.astype(np.uint8)])


def _inverted(samples: Samples, page: TiffPage) -> Samples:
    """Make larger brighter. Floats have no white, so they stay; signed ones reflect about -1/2."""
    if samples.dtype.kind == "f":
        return samples
    if samples.dtype.kind == "i" or _bits(page) < 8:
        return np.invert(samples)
    return np.asarray(samples.dtype.type(2 ** _bits(page) - 1) - samples)


def _palette(index: Samples, page: TiffPage) -> Samples:
    """Look indices up: (3, H, W) uint8, the high byte of the 16-bit entries, as libtiff does.

    A table with no entry above 255 was written in bytes by mistake and is taken as such.
    """
    table = page.colormap
    if table is None or index.dtype.kind not in "bu" or int(index.max()) >= table.shape[1]:
        message = "damaged TIFF file (no colour in the table for some pixel); write it again"
        raise ReadError("corrupt", message)
    shift = 8 if int(table.max()) > 255 else 0
    return (table >> shift).astype(np.uint8)[:, index.astype(np.intp)]


def cmyk_to_rgb(ink: Samples, bits: int) -> Samples:
    """Convert (4, H, W) to (3, H, W) as Pillow does, (1 - ink) * (1 - black), at any depth.

    Unsigned integers of up to 16 bits, rounded to nearest, or floats that lie in 0..1.
    """
    if ink.dtype.kind == "f":
        return np.asarray((1 - ink[:3]) * (1 - ink[3]))
    if ink.dtype.kind != "u" or ink.dtype.itemsize > 2:
        raise _refusal("CMYK of type", ink.dtype.name)
    top = 2**bits - 1
    wide = ink.astype(np.uint64)
    light = top - wide[3]
    return np.asarray((light - (wide[:3] * light + top // 2) // top).astype(ink.dtype))


def _converted(samples: Samples, page: TiffPage, kind: int) -> Samples:
    """YCbCr (ITU-R BT.601, full range) or CIE L*a*b* (D50, to sRGB) to RGB, by Pillow, 8 bits."""
    from PIL import Image, ImageCms

    if samples.dtype != np.uint8 or _bits(page) != 8:
        raise _refusal("samples of more or less than 8 bits in", _name(page))
    height, width = samples.shape[1:]
    if kind == ICCLAB:  # its a* and b* are stored plus 128, those of CIELAB signed
        samples = samples ^ np.array([0, 128, 128], np.uint8)[:, None, None]
    data = np.ascontiguousarray(np.moveaxis(samples, 0, -1)).tobytes()
    if kind == YCBCR:
        _refuse_coefficients(page)
        image = Image.frombytes("YCbCr", (width, height), data).convert("RGB")
    else:
        image = Image.frombytes("LAB", (width, height), data, "raw", "LAB")
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        turn = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        image = ImageCms.applyTransform(image, turn) or image
    return np.moveaxis(np.asarray(image), -1, 0)


def _refuse_coefficients(page: TiffPage) -> None:
    for code, usual in ((529, COEFFICIENTS), (532, REFERENCE)):
        value = page.tags.valueof(code)
        if value is None:
            continue
        pairs = np.asarray(value, np.float64).reshape(-1, 2)
        if not np.allclose(pairs[:, 0] / pairs[:, 1], usual, atol=1e-3):
            raise _refusal("YCbCr with coefficients of its own", value)


def _refusal(what: str, found: object) -> ReadError:
    return ReadError("unsupported", f"{what} {found}; convert the file to gray or RGB")

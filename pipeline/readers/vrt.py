"""Which VRT files are read: plain mosaics of TIFF and JPEG 2000 files, nothing that does more.

What is read is written anew from the elements known here, so that GDAL, which takes names in any
case and attributes for elements, gets to see nothing that has not been checked.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pipeline.errors import ReadError
from pipeline.readers.decoding import decoding

VRT_SUFFIX = ".vrt"
MASK_SUFFIX = ".msk"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\0")

# Elements of a mosaic as gdalbuildvrt and gdal_translate write it, each with those inside it.
SOURCE = ("SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect")
BAND = ("Description", "UnitType", "Offset", "Scale", "NoDataValue", "HideNoDataValue")
INSIDE: dict[str, tuple[str, ...]] = {
    "VRTDataset": ("SRS", "GeoTransform", "BlockXSize", "BlockYSize", "VRTRasterBand", "MaskBand"),
    "MaskBand": ("VRTRasterBand",),
    "VRTRasterBand": (*BAND, "ColorInterp", "SimpleSource", "ComplexSource"),
    "SimpleSource": SOURCE,
    "ComplexSource": (*SOURCE, "NODATA", "UseMaskBand", "ScaleOffset", "ScaleRatio"),
}
SEVERAL = ("VRTRasterBand", "SimpleSource", "ComplexSource")
RECTANGLE = ("xOff", "yOff", "xSize", "ySize")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "VRTDataset": ("rasterXSize", "rasterYSize"),
    "SRS": ("dataAxisToSRSAxisMapping", "coordinateEpoch"),
    "VRTRasterBand": ("dataType", "band", "blockXSize", "blockYSize"),
    "SourceFilename": ("relativeToVRT", "shared"),
    "SourceProperties": ("RasterXSize", "RasterYSize", "DataType", "BlockXSize", "BlockYSize"),
    "SrcRect": RECTANGLE,
    "DstRect": RECTANGLE,
}
LEFT_OUT = ("Metadata", "GCPList", "OverviewList", "ColorTable", "CategoryNames", "Histograms")
"""Elements that say nothing of the pixels at full resolution, with all that is in them."""

SOURCE_BAND = re.compile(r"(mask,)?\d+")
ROUNDING = 1e-3  # of a pixel, in the decimals of a rectangle
RESAMPLED = "a VRT that resamples its files (SrcRect, DstRect); convert it to GeoTIFF"


def plain_vrt(path: str) -> str:
    """The text of a VRT for GDAL, its sources by absolute names.

    Raises
    ------
    ReadError
        `io` and `corrupt` for what cannot be read or is no XML; `unsupported` for all that is no
        plain mosaic, pixel to pixel, and for sources that are no TIFF or JPEG 2000 file;
        `incomplete` for sources that are missing.
    """
    root = _root(path)
    if root.tag != "VRTDataset":
        _refuse(root.tag)
    with decoding(path, "VRT"):
        return ElementTree.tostring(_checked(root, path), encoding="unicode")


def sources_of(path: str) -> tuple[str, ...]:
    """The files that a VRT names and that are there, each once; none where it is damaged."""
    try:
        found = [_absolute(source, path) for source in _root(path).iter("SourceFilename")]
        return tuple(dict.fromkeys(source for source in found if Path(source).is_file()))
    except (OSError, ReadError):
        return ()


def _root(path: str) -> Element:
    with decoding(path, "VRT") as file:
        return ElementTree.parse(file).getroot()


def _absolute(source: Element, path: str) -> str:
    name = source.text or ""
    beside = source.get("relativeToVRT") == "1"
    return str((Path(path).parent / name if beside else Path(name)).absolute())


def _checked(given: Element, path: str) -> Element:
    """A copy of an element that holds what is known and nothing else."""
    for name in given.attrib:
        if name not in ATTRIBUTES.get(given.tag, ()):
            _refuse(name)
    made = Element(given.tag, given.attrib)
    if given.tag not in INSIDE:
        made.text = given.text
    for inner in given:
        if inner.tag in LEFT_OUT and given.tag in ("VRTDataset", "VRTRasterBand"):
            continue
        again = inner.tag not in SEVERAL and made.find(inner.tag) is not None
        if inner.tag not in INSIDE.get(given.tag, ()) or again:
            _refuse(inner.tag)
        made.append(_checked(inner, path))
    if given.tag in ("SimpleSource", "ComplexSource"):
        _check_source(made, path)
    return made


def _refuse(name: str) -> None:
    message = f"a VRT with {name[:40]!r}, not just a mosaic of files; convert it to GeoTIFF"
    raise ReadError("unsupported", message)


def _check_source(source: Element, path: str) -> None:
    """Check what a source reads and where it lies, and name its file by its absolute name."""
    band, file = source.findtext("SourceBand", "1"), source.find("SourceFilename")
    if file is None or not SOURCE_BAND.fullmatch(band.strip()):
        message = "a VRT with a source that names no file or no band; convert it to GeoTIFF"
        raise ReadError("unsupported", message)
    file.text = _absolute(file, path)
    file.attrib.pop("relativeToVRT", None)
    _check_file(file.text)
    masked = "mask" in band or source.find("UseMaskBand") is not None
    if masked and Path(file.text + MASK_SUFFIX).is_file():
        message = "a VRT of masks beside its files, which are not read; convert it to GeoTIFF"
        raise ReadError("unsupported", message)
    sizes = [_size(r) for r in map(source.find, ("SrcRect", "DstRect")) if r is not None]
    if len(sizes) == 1 or len(set(sizes)) > 1:
        raise ReadError("unsupported", RESAMPLED)


def _size(rectangle: Element) -> tuple[int, ...]:
    """Write a rectangle in whole pixels, which it must be in but for rounding; give its size."""
    for key in RECTANGLE:
        number = float(rectangle.attrib[key])
        if abs(number - round(number)) > ROUNDING:
            raise ReadError("unsupported", RESAMPLED)
        rectangle.set(key, str(round(number)))
    return tuple(int(rectangle.attrib[key]) for key in RECTANGLE[2:])


def _check_file(path: str) -> None:
    name = Path(path).name
    if path.startswith("/vsi") or not path.isprintable():
        message = f"names {name!r} in a folder, or by signs, that GDAL may take for others; move it"
        raise ReadError("unsupported", message)
    if not Path(path).is_file():
        message = f"names {name!r}, which is no file here; put it there"
        raise ReadError("incomplete", message)
    with Path(path).open("rb") as file:
        if not file.read(12).startswith((*TIFF, *JPEG_2000)):
            message = f"names {name!r}, which is neither TIFF nor JPEG 2000; convert it"
            raise ReadError("unsupported", message)

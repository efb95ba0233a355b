"""Which VRT files are read: plain mosaics of TIFF and JPEG 2000 files, nothing that does more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import ReadError

VRT_SUFFIX = ".vrt"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")


def check_vrt(path: str) -> None:
    """Refuse what could read other files than rasters, run code or connect, before GDAL sees it.

    Raises
    ------
    ReadError
        `corrupt` for what is no XML; `unsupported` for warped, raw and computed rasters and for
        sources that are no TIFF or JPEG 2000 file; `incomplete` for sources that are missing.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        message = f"damaged VRT file ({error}); make it again with gdalbuildvrt"
        raise ReadError("corrupt", message) from error
    special = [e.get("subClass") for e in root.iter() if e.get("subClass") is not None]
    if root.tag != "VRTDataset" or special:
        message = f"a VRT of kind {', '.join(map(str, special)) or root.tag}; convert it to GeoTIFF"
        raise ReadError("unsupported", message)
    for source in _sources(root, path):
        _check_source(source)


def sources_of(path: str) -> tuple[str, ...]:
    """The files that a VRT names and that are there, each once; none where it is damaged."""
    try:
        found = _sources(ElementTree.parse(path).getroot(), path)
        return tuple(dict.fromkeys(str(source) for source in found if source.is_file()))
    except (OSError, ElementTree.ParseError):
        return ()


def _sources(root: ElementTree.Element, path: str) -> Iterator[Path]:
    for source in root.iter("SourceFilename"):
        name = source.text or ""
        yield Path(path).parent / name if source.get("relativeToVRT") == "1" else Path(name)


def _check_source(path: Path) -> None:
    if not path.is_file():
        message = f"names {path.name!r}, which is no file here; put it there"
        raise ReadError("incomplete", message)
    with path.open("rb") as file:
        if not file.read(12).startswith((*TIFF, *JPEG_2000)):
            message = f"names {path.name!r}, which is neither TIFF nor JPEG 2000; convert it"
            raise ReadError("unsupported", message)

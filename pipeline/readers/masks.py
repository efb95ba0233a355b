"""Which pixels of an image a mask file labels: label images, segmentations, structure sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.errors import ReadError
from pipeline.keys import escape
from pipeline.readers import rtstruct, seg
from pipeline.readers.alignment import millimetres
from pipeline.readers.base import Mask
from pipeline.readers.decoding import decoding
from pipeline.readers.dicom import OFFSETS, SAMPLES
from pipeline.readers.dicom_header import SEGMENTATIONS, read_elements
from pipeline.readers.labels import label_image
from pipeline.readers.recognise import identify
from pipeline.types import ImageInfo, Region

STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"

Draw = Callable[[], Mask]


@dataclass(frozen=True, slots=True)
class Masks(Mapping[str, Mask]):
    """Label -> mask, drawn when it is asked for: a file may hold hundreds of large ones."""

    path: str
    draw: Mapping[str, Draw]

    def __getitem__(self, label: str) -> Mask:
        """Where the label is, as bool. Raises ReadError."""
        draw = self.draw[label]
        with _naming(self.path), decoding(self.path, "mask", private=True):
            return draw()

    def __iter__(self) -> Iterator[str]:
        return iter(self.draw)

    def __len__(self) -> int:
        return len(self.draw)


def read_masks(path: str, info: ImageInfo, region: Region) -> Mapping[str, Mask]:
    """The labels of a mask file, each as bool of `region.shape`, in the pixels of an image.

    A label image (any format with one band) labels pixels by whole numbers; 0 and invalid pixels
    are nothing. The segments of a DICOM segmentation and the ROIs of a structure set have names;
    names that are empty, occur twice or are the number of one become the segment's or ROI's number.
    What a label image does not hold within the region is not listed, while segments and ROIs always
    are.

    Parameters
    ----------
    path
        The mask file.
    info
        The image, as its own file has it.
    region
        Of the image, in its own pixels.

    Raises
    ------
    ReadError
        Where the mask cannot be read or does not fit: `unsupported` for another grid, type or kind
        of file, `incomplete` where it labels slices that the image does not have. Names the file.
        Also raised when a mask is taken out of the mapping.
    """
    with _naming(path):
        if identify(path) == "dicom" and (found := _dicom(path, info, region)) is not None:
            return Masks(path, found)
        return Masks(path, label_image(path, info, region))


def chosen(
    labels: Literal["all"] | Iterable[tuple[str, str]], found: Mapping[str, Mask]
) -> Mapping[str, Mask | None]:
    """The masks that a config wants by the names it gives them; None for what is absent.

    labels: `all`, which keeps the file's own names, or pairs of a label of the file and a name.

    >>> import numpy as np
    >>> chosen([("1", "GTV"), ("3", "node")], {"1": np.array([True]), "2": np.array([False])})
    {'GTV': array([ True]), 'node': None}
    """
    return found if labels == "all" else {name: found.get(label) for label, name in labels}


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Say which file an error is about: it is not the image."""
    try:
        yield
    except ReadError as error:
        raise ReadError(error.kind, f"mask {escape(Path(path).name)}: {error}") from error


def _dicom(path: str, info: ImageInfo, region: Region) -> Mapping[str, Draw] | None:
    """The segments or ROIs of a DICOM file, or None where it is an image."""
    with decoding(path, "DICOM", private=True) as file:
        kind = str(read_elements(file).get("SOPClassUID", ""))
        if kind != STRUCTURES and kind not in SEGMENTATIONS:
            return None
        image = millimetres(info)
        if image is None:
            message = "places are in mm in a patient, and the image does not say where it lies"
            raise ReadError("unsupported", message)
        file.seek(0)
        volume = len(info.shape) == 3
        box = region if volume else Region((0, *region.start), (1, *region.stop))
        if kind == STRUCTURES:
            dataset = read_elements(file, *rtstruct.ELEMENTS)
            depth = info.shape[0] if volume else None
            drawn = rtstruct.contoured(dataset, image, depth, box)
            names = rtstruct.names(dataset)
        else:
            dataset = read_elements(file, *seg.ELEMENTS, *SAMPLES, *OFFSETS, pixels=True)
            drawn, names = seg.segmented(dataset, image, info.shape, box), seg.names(dataset)
        return {
            name: draw if volume else partial(_flat, draw)
            for name, draw in zip(_labels(names), drawn.values(), strict=True)
        }


def _labels(names: Mapping[str, str]) -> list[str]:
    """Names that tell what they name apart, also from numbers; else numbers."""
    texts = [name.strip() for name in names.values()]
    count = Counter(texts)
    return [
        text if text and text.isprintable() and count[text] == 1 and text not in names else number
        for text, number in zip(texts, names, strict=True)
    ]


def _flat(draw: Draw) -> Mask:
    mask: Mask = draw()[0]
    return mask

"""Elements of DICOM headers as text, where the config names them and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import MissingDependency
from pipeline.readers.decoding import decoding
from pipeline.readers.dicom_header import read_elements
from pipeline.registry import nearest

if TYPE_CHECKING:
    from pydicom import FileDataset

_NO_TEXT = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN"})


def text_keyword(word: str) -> str:
    """A keyword of DICOM's data dictionary (PS3.6) whose values can be written as text.

    Raises ValueError for any other word, MissingDependency without pydicom.
    """
    try:
        from pydicom.datadict import dictionary_VR, keyword_dict
    except ImportError as error:
        message = "input.metadata needs pydicom; pip install 'filterbank[medical]'"
        raise MissingDependency(message) from error
    if word not in keyword_dict:
        known = nearest(word, keyword_dict, "the keywords of DICOM PS3.6, as in [Modality, KVP]")
        message = f"unknown keyword {word!r}{known}"
        raise ValueError(message)
    if not _NO_TEXT.isdisjoint(dictionary_VR(keyword_dict[word]).split(" or ")):
        message = f"{word!r} holds a sequence or binary data; name elements of text or numbers"
        raise ValueError(message)
    return word


def metadata_of(path: str, keywords: Sequence[str]) -> tuple[tuple[str, str], ...]:
    r"""What a file says under these keywords, the values of each joined by `\`.

    What is missing or empty, or is no text or number, is left out. Raises ReadError.
    """
    with decoding(path, "DICOM", private=True) as file:
        dataset = read_elements(file, *keywords)
        texts = ((keyword, _text(dataset, keyword)) for keyword in keywords)
        return tuple((keyword, text) for keyword, text in texts if text)


def _text(dataset: FileDataset, keyword: str) -> str:
    from pydicom.multival import MultiValue

    holder = dataset.file_meta if keyword in dataset.file_meta else dataset
    if keyword not in holder:
        return ""
    try:
        element = holder[keyword]
    except Exception:  # pydicom raises any: a bad word about an image does not spoil its pixels
        return ""
    if element.is_empty or element.VR in _NO_TEXT:
        return ""
    many = element.value if isinstance(element.value, MultiValue) else (element.value,)
    return "\\".join(map(str, many)).strip()

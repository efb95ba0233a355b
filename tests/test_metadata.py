"""Words of DICOM headers in the tables: those that the config names, and no others."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from running import look, run_bank, write_config
from slices import place, write

from pipeline.config import load
from pipeline.errors import MissingDependency
from pipeline.writers.parquet import IMAGES

PLANE = np.random.default_rng(7).integers(0, 4096, (9, 7), dtype=np.uint16)
NAMED = [
    *("Modality", "PatientAge", "ImageType", "InstanceNumber", "PatientName", "PatientWeight"),
    *("SmallestImagePixelValue", "TransferSyntaxUID"),
]


def config_of(tmp_path: Path, *named: str, **keys: Any) -> Path:
    given = {"path": str(tmp_path / "in"), "metadata": list(named), **keys}
    return write_config(tmp_path / "c.yaml", input=given)


def told(tmp_path: Path, *named: str, **keys: Any) -> dict[str, dict[str, Any]]:
    """By image, what the table has besides its own columns."""
    output = run_bank(config_of(tmp_path, *named, **keys), tmp_path / "out")
    assert output.images.column_names[: len(IMAGES.names)] == IMAGES.names
    columns = output.images.column_names[len(IMAGES.names) :]
    return {
        row["image"]: {name: row[name] for name in columns} for row in output.images.to_pylist()
    }


def test_named_elements_become_columns_of_text(tmp_path: Path) -> None:
    elements = {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": "Weiß^Émile",
        "PatientAge": "061Y",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": "7",
        "PatientWeight": "72.50",
        "SmallestImagePixelValue": 3,
    }
    write(tmp_path / "in/a.dcm", PLANE, **elements)
    np.save(tmp_path / "in/b.npy", PLANE)
    found = told(tmp_path, *NAMED)
    assert found["a.dcm"] == {
        "Modality": "MR",
        "PatientAge": "061Y",
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "InstanceNumber": "7",
        "PatientName": "Weiß^Émile",
        "PatientWeight": "72.50",
        "SmallestImagePixelValue": "3",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
    }
    assert found["b.npy"] == dict.fromkeys(NAMED)


def test_a_series_says_what_its_first_slice_does(tmp_path: Path) -> None:
    for name, z in (("a", 4.0), ("b", 2.0), ("c", 0.0)):
        write(tmp_path / f"in/s1/{name}.dcm", PLANE, **place(z), InstanceNumber=int(z))
    found = told(tmp_path, "InstanceNumber", include=["{subject}/*.dcm"])
    (row,) = found.values()
    assert row == {"subject": "s1", "InstanceNumber": "0"}


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the test writes
def test_what_is_missing_empty_or_no_word_is_null(tmp_path: Path) -> None:
    """A sequence for a word, too: what is in it was not asked for; and a number cut short."""
    nested = Dataset()
    nested.PatientName = "Planted^Name"
    write(tmp_path / "in/a.dcm", PLANE, PatientWeight="72.5", PatientAge="")
    path = tmp_path / "in/a.dcm"
    path.write_bytes(path.read_bytes().replace(b"72.5", b"heav"))
    dataset = dcmread(path)
    dataset.add_new("StudyDescription", "SQ", [nested])
    dataset.add_new("ReferencePixelX0", "SH", "12")
    dataset.save_as(path)
    data = path.read_bytes()
    short = data.replace(b"\x18\x00\x20\x60SH", b"\x18\x00\x20\x60SL")
    assert short != data
    path.write_bytes(short)
    asked = ("PatientWeight", "PatientAge", "StudyDescription", "ReferencePixelX0", "KVP")
    found = told(tmp_path, *asked)
    assert found["a.dcm"] == {**dict.fromkeys(asked), "PatientWeight": "heav"}


def test_failed_images_and_empty_parts_have_the_columns(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.dcm").write_bytes(bytes(128) + b"DICM" + b"nonsense")
    assert told(tmp_path, "Modality", "KVP") == {"a.dcm": {"Modality": None, "KVP": None}}
    output = run_bank(config_of(tmp_path, "Modality", "KVP"), tmp_path / "out")
    assert output.wide().column_names == ["image", "region", "status", "Modality", "KVP"]


def test_the_list_belongs_to_the_plan(tmp_path: Path) -> None:
    write(tmp_path / "in/a.dcm", PLANE)
    digests = {
        look(config_of(tmp_path, *named), tmp_path / "out").plan.digest
        for named in ((), ("Modality",), ("Modality", "KVP"))
    }
    assert len(digests) == 3


def test_without_pydicom_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pydicom.datadict", None)
    load(config_of(tmp_path))
    with pytest.raises(MissingDependency, match=r"filterbank\[medical\]"):
        load(config_of(tmp_path, "Modality"))


# ---------------------------------------------------------------- nothing else
PERSONAL = (
    *("Patient", "Institution", "Referring", "Performing", "Physician", "Operators", "Requesting"),
    *("Station", "Study", "Series", "Accession", "Device", "FrameOfReferenceUID", "Protocol"),
)


def words_of(path: Path) -> Iterator[str]:
    """What a file says of persons and places, by the longer words."""
    for element in dcmread(path, stop_before_pixels=True, force=True).iterall():
        if keyword_for_tag(element.tag).startswith(PERSONAL) and element.VR != "SQ":
            for word in str(element.value).replace("^", " ").split():
                shortest = 8 if word.isdigit() else 6  # such numbers may stand anywhere
                if len(word) >= shortest and len(set(word)) > 3:
                    yield word.lower()


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the files hold
def test_no_word_about_a_person_of_a_real_file_is_in_any_output(
    shared: Path, tmp_path: Path
) -> None:
    """Files have new names: what the input's names say is the user's to choose."""
    folders = [*(shared / "data/ct_dicom_series").iterdir(), shared / "data/dicom_variants"]
    personal: set[str] = set()
    for i, folder in enumerate(sorted(folders)):
        (tmp_path / f"in/{i}").mkdir(parents=True)
        some = sorted(folder.glob("*.dcm"))[: None if folder.name == "dicom_variants" else 2]
        for j, file in enumerate(some):
            shutil.copy(file, tmp_path / f"in/{i}/{j}.dcm")
            personal.update(words_of(file))
    assert len(personal) > 50
    given = {"path": str(tmp_path / "in"), "metadata": ["Modality"]}
    kept = {"path": "unused", "maps": "float16", "nifti": True, "png": True}
    config = write_config(tmp_path / "c.yaml", input=given, output=kept)
    run_bank(config, tmp_path / "out")
    with_uptake = write_config(tmp_path / "d.yaml", input=given, prepare=[{"suv": "bodyweight"}])
    run_bank(with_uptake, tmp_path / "suv")
    texts = []
    for path in (p for out in ("out", "suv") for p in (tmp_path / out).rglob("*")):
        texts.append(path.name)
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
        if path.suffix == ".parquet" and path.parent.name != "maps":
            texts.append(json.dumps(ds.dataset(path).to_table().to_pylist()))
    assert {"run.json", "log.jsonl"} <= {*texts}
    everything = "\n".join(texts).lower()
    assert '"modality": "pt"' in everything
    assert not {word for word in personal if word in everything}

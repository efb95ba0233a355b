"""DICOM folders: series as volumes, in whole runs; nothing about a person leaves a file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import filterbank
from running import failures, look, run_bank, write_config
from slices import FLAT, dataset, place, write

from pipeline.config import load
from pipeline.output import open_output
from pipeline.readers import identify, why_no_image
from pipeline.survey import Options, survey
from pipeline.types import Source

RNG = np.random.default_rng(7)
PLANE = RNG.integers(0, 4096, (9, 7), dtype=np.uint16)
SLICES = RNG.integers(0, 4096, (5, 9, 7), dtype=np.uint16)
TURNED = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
RT_STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"


def series(folder: Path, heights: Sequence[float], **elements: Any) -> list[np.ndarray]:
    """Slices at these heights, in files `0.dcm` .. in this order."""
    planes = [RNG.integers(0, 4096, (9, 7), dtype=np.uint16) for _ in heights]
    for i, (z, plane) in enumerate(zip(heights, planes, strict=True)):
        write(folder / f"{i}.dcm", plane, **{**place(z), **elements})
    return planes


def sources(tmp_path: Path, **keys: Any) -> dict[str, Source]:
    """What a run would read of the folder `in`."""
    config = write_config(tmp_path / "c.yaml", input={"path": str(tmp_path / "in"), **keys})
    return {source.key: source for source in look(config, tmp_path / "out").sources}


def config_of(tmp_path: Path, **sections: Any) -> Path:
    return write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path / "in"), **sections.pop("input", {})},
        output={"path": "unused", "maps": "float32"},
        **sections,
    )


def test_slices_are_ordered_by_place_not_by_name(tmp_path: Path) -> None:
    planes = series(tmp_path / "in/head/a", [7.5, 0, 2.5, 5])
    write(tmp_path / "in/head/z.dcm", PLANE)  # without a place
    output = run_bank(config_of(tmp_path), tmp_path / "out")
    assert failures(output) == {}
    row, single = output.images.sort_by("image").to_pylist()
    assert row["image"].startswith("head/a#series=")
    assert (row["shape"], row["spacing"], row["reader"]) == ([4, 9, 7], [2.5, 0.5, 0.5], "dicom")
    assert row["files"] == [f"head/a/{i}.dcm" for i in (1, 2, 3, 0)]
    assert (single["image"], single["shape"]) == ("head/z.dcm", [9, 7])
    want = np.stack([planes[i] for i in (1, 2, 3, 0)])
    np.testing.assert_array_equal(output.maps(row["image"], "identity"), want)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    """As in PET; the volume has a type that holds all of them, and their unit where all agree."""
    for i, slope in enumerate((1, 0.3, 2)):
        scale = {"RescaleSlope": slope, "RescaleIntercept": 0, "Modality": "PT", "Units": "BQML"}
        write(tmp_path / f"in/{i}.dcm", SLICES[i], **place(i), **scale)
    output = run_bank(config_of(tmp_path), tmp_path / "out")
    (row,) = output.images.to_pylist()
    assert (row["dtype"], row["value_unit"]) == ("float64", "BQML")
    want = SLICES[:3] * np.array([1, 0.3, 2])[:, None, None]
    found = output.maps(row["image"], "identity")
    np.testing.assert_array_equal(found, want.astype(np.float32))


@pytest.mark.parametrize(
    ("heights", "kind", "text"),
    [
        ([0, 1, 2, 4, 5], "incomplete", "the widest step follows slice 3 of 5: is one missing?"),
        ([0, 1, 3], "incomplete", "1 to 2 mm apart"),
        ([0, 1, 2, 1], "incomplete", "4 slices at 3 places"),
        ([0, 1, 1], "incomplete", "3 slices at 2 places"),
    ],
)
def test_gaps_and_doubled_slices_fail_with_the_reason(
    tmp_path: Path, heights: list[float], kind: str, text: str
) -> None:
    series(tmp_path / "in", heights)
    (source,) = sources(tmp_path).values()
    assert len(source.members) == len(heights)
    assert source.failure is not None
    assert source.failure.kind == kind
    assert text in source.failure.error
    flat = sources(tmp_path, pages="sources")
    assert list(flat) == [f"{i}.dcm" for i in range(len(heights))]
    assert all(source.failure is None for source in flat.values())


def test_slices_all_at_one_place_are_images_of_their_own(tmp_path: Path) -> None:
    """Such as one image in several encodings: no volume is missing."""
    series(tmp_path / "in", [3, 3, 3])
    found = sources(tmp_path)
    assert list(found) == ["0.dcm", "1.dcm", "2.dcm"]
    assert all(source.failure is None for source in found.values())


def test_rounded_places_are_no_gap(tmp_path: Path) -> None:
    """0.625 mm written with one decimal: the error of a place does not grow with its number."""
    series(tmp_path / "in", [round(0.625 * i, 1) for i in range(9)])
    (source,) = sources(tmp_path).values()
    assert source.failure is None
    assert source.header.grid.spacing == (0.625, 0.5, 0.5)


def test_a_tilted_gantry_is_refused(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"in/{i}.dcm", PLANE, **place(i) | {"ImagePositionPatient": [0, i, i]})
    (source,) = sources(tmp_path).values()
    assert source.failure is not None
    assert (source.failure.kind, "askew" in source.failure.error) == ("unsupported", True)


@pytest.mark.parametrize(
    ("orientation", "elements"),
    [
        (FLAT, {"SeriesInstanceUID": "1.2.3"}),
        (FLAT, {"PixelSpacing": [0.5, 0.501]}),
        (TURNED, {}),
        ((np.cos(0.002), np.sin(0.002), 0.0, -np.sin(0.002), np.cos(0.002), 0.0), {}),
    ],
    ids=["series", "spacing", "orientation", "a little turned"],
)
def test_what_is_not_alike_is_another_volume(
    tmp_path: Path, orientation: Sequence[float], elements: dict[str, Any]
) -> None:
    series(tmp_path / "in", [0, 1, 2])
    for i, z in enumerate((0.5, 1.5)):
        given = {**place(z, [round(float(v), 9) for v in orientation]), **elements}
        write(tmp_path / f"in/other{i}.dcm", PLANE, **given)
    found = sources(tmp_path).values()
    assert sorted(source.header.shape for source in found) == [(2, 9, 7), (3, 9, 7)]


def test_slices_of_1_mm_and_slices_of_no_known_spacing_have_two_names(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"in/a{i}.dcm", PLANE, **place(i, spacing=1))
        write(tmp_path / f"in/b{i}.dcm", PLANE, **place(i) | {"PixelSpacing": None})
    assert [len(source.members) for source in sources(tmp_path).values()] == [3, 3]


def test_folders_part_a_series_and_a_lone_slice_is_flat(tmp_path: Path) -> None:
    series(tmp_path / "in/a", [0, 1])
    series(tmp_path / "in/b", [2, 3])
    series(tmp_path / "in/c", [4])
    shapes = {key.split("#")[0]: s.header.shape for key, s in sources(tmp_path).items()}
    assert shapes == {"a": (2, 9, 7), "b": (2, 9, 7), "c/0.dcm": (9, 7)}


def test_a_volume_over_the_limit_is_refused(tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 1, 2])
    config = write_config(
        tmp_path / "c.yaml", input={"path": str(tmp_path / "in")}, limits={"pixels": 100}
    )
    (source,) = look(config, tmp_path / "out").sources
    assert source.failure is not None
    assert source.failure.kind == "limit"


def test_a_trial_of_some_sources_counts_series(tmp_path: Path) -> None:
    series(tmp_path / "in/a", [0, 1, 2])
    series(tmp_path / "in/b", [0, 1])
    found = survey(load(config_of(tmp_path), {}), Options(limit=1)).sources
    assert [len(source.members) for source in found] == [3]


# ---------------------------------------------------------------- whole runs
def test_damage_fails_the_volume_and_names_the_file(tmp_path: Path) -> None:
    series(tmp_path / "in/a", [0, 1, 2])
    series(tmp_path / "in/b", [0, 1, 2])
    path = tmp_path / "in/a/1.dcm"
    path.write_bytes(path.read_bytes()[:-9])
    found = failures(run_bank(config_of(tmp_path), tmp_path / "out"))
    (text,) = found.values()
    assert text.startswith("corrupt: 1.dcm: ")


def test_a_slice_that_comes_or_goes_makes_its_volume_anew_and_no_other(tmp_path: Path) -> None:
    """As a run over the final folder would have it; nothing is doubled, nothing stays behind."""
    series(tmp_path / "in/a", [0, 1, 2])
    series(tmp_path / "in/a/other", [0, 1], SeriesInstanceUID="1.2.3")
    series(tmp_path / "in/b", [5])
    config, out = config_of(tmp_path), tmp_path / "out"
    first = run_bank(config, out)
    assert len(first.images) == 3
    assert look(config, out).nothing_to_do
    for name, z in (("a/3", 3), ("b/1", 6)):
        write(tmp_path / f"in/{name}.dcm", PLANE, **place(z))
    todo = look(config, out)
    assert sorted(len(source.members) for source in todo.sources) == [2, 4]
    grown = run_bank(config, out)
    fresh = run_bank(config, tmp_path / "fresh")
    for table in ("images", "statistics", "regions"):
        drop = [name for name in ("mtime_ns",) if name in grown.table(table).column_names]
        rows = [
            output.table(table).drop_columns(drop).sort_by("image").to_pylist()
            for output in (grown, fresh)
        ]
        assert rows[0] == rows[1]
    assert look(config, out).nothing_to_do
    (tmp_path / "in/b/1.dcm").unlink()
    assert {s.key for s in look(config, out).sources} == {"b/0.dcm"}
    keys = run_bank(config, out).images.column("image").to_pylist()
    assert len(keys) == 3
    assert "b/0.dcm" in keys
    assert look(config, out).nothing_to_do


def test_equal_bytes_with_new_times_are_not_computed_again(tmp_path: Path) -> None:
    series(tmp_path / "in", [0, 1, 2])
    config, out = config_of(tmp_path), tmp_path / "out"
    run_bank(config, out)
    (tmp_path / "in/1.dcm").touch()
    todo = look(config, out)
    assert (todo.shards, todo.nothing_to_do) == ((), False)
    run_bank(config, out)
    assert look(config, out).nothing_to_do


def test_a_slice_of_equal_size_and_an_older_time_is_seen(tmp_path: Path) -> None:
    """As `cp -p` and `rsync -a` leave it."""
    series(tmp_path / "in", [0, 1, 2])
    config, out = config_of(tmp_path), tmp_path / "out"
    run_bank(config, out)
    path = tmp_path / "in/1.dcm"
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
    os.utime(path, ns=(7, 7))
    assert len(look(config, out).sources) == 1
    changed, fresh = run_bank(config, out), run_bank(config, tmp_path / "fresh")
    assert changed.images.to_pylist() == fresh.images.to_pylist()
    assert changed.statistics.to_pylist() == fresh.statistics.to_pylist()
    assert look(config, out).nothing_to_do


@pytest.mark.parametrize("prune", [False, True])
def test_a_series_whose_files_have_new_names_is_the_same_series(
    tmp_path: Path, *, prune: bool
) -> None:
    """Its row is made anew in its shard; no key is there twice, nothing has vanished."""
    folder = tmp_path / "in"
    series(folder / "a", [0, 1, 2])
    series(folder / "b", [0, 1])
    config, out = config_of(tmp_path), tmp_path / "out"
    run_bank(config, out)
    for path in sorted((folder / "a").iterdir()):
        path.rename(path.with_name(f"slice{path.name}"))
    todo = look(config, out)
    assert ([len(s.members) for s in todo.sources], todo.todo.vanished) == ([3], ())
    said = filterbank("run", config, "--output", out, *(("--prune",) if prune else ()))
    assert (said.code, "pruned" in said.out) == (0, False), said
    fresh = run_bank(config, tmp_path / "fresh")
    for table in ("images", "statistics", "regions", "maps"):
        here, there = (
            output.table(table).sort_by("image").to_pylist() for output in (open_output(out), fresh)
        )
        assert here == there, table
    assert look(config, out).nothing_to_do
    assert filterbank("verify", out).code == 0


def test_series_of_one_name_in_one_folder_are_one_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.headers.name", lambda info: "12345678")
    series(tmp_path / "in", [0, 1, 2])
    for i in range(2):
        write(tmp_path / f"in/other{i}.dcm", PLANE, SeriesInstanceUID="1.2.3", **place(i))
    todo = look(config_of(tmp_path), tmp_path / "out", tmp_path / "in").sources
    assert [(s.key, len(s.members)) for s in todo] == [("#series=12345678", 5)]
    assert todo[0].failure is not None
    assert "several series of one name" in todo[0].failure.error


def test_a_series_waits_for_its_youngest_slice(tmp_path: Path) -> None:
    series(tmp_path / "in/a", [0, 1, 2])
    series(tmp_path / "in/b", [0, 1, 2])
    for path in (tmp_path / "in").rglob("*.dcm"):
        os.utime(path, (1, 1))
    (tmp_path / "in/a/2.dcm").touch()
    assert [s.members[0].folder for s in sources(tmp_path, min_age="1h").values()] == ["b"]


def test_objects_without_an_image_are_counted_unless_they_are_named(tmp_path: Path) -> None:
    write(tmp_path / "in/a.dcm", PLANE)
    for name in ("rt.dcm", "rt"):
        made = dataset(PLANE, SOPClassUID=RT_STRUCTURES)
        for element in ("PixelData", "Rows", "Columns"):
            delattr(made, element)
        made.save_as(tmp_path / "in" / name)
        assert identify(str(tmp_path / "in" / name)) == "dicom"
        assert why_no_image(str(tmp_path / "in" / name)) == "DICOM without an image"
    config = config_of(tmp_path)
    todo = look(config, tmp_path / "out")
    assert [source.key for source in todo.sources] == ["a.dcm"]
    assert todo.listing.skipped == {"DICOM without an image": 2}
    named = sources(tmp_path, include=["*"])
    assert [key for key, source in named.items() if source.failure] == ["rt", "rt.dcm"]
    assert {s.failure.kind for s in named.values() if s.failure} == {"unsupported"}


def test_a_missing_pydicom_is_a_row_that_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a.dcm", PLANE)
    np.save(tmp_path / "in/b.npy", PLANE)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        output = run_bank(config_of(tmp_path), tmp_path / "out")
    assert failures(output) == {
        "a.dcm": "dependency: DICOM needs pydicom; pip install 'filterbank[medical]' and run again"
    }
    assert failures(run_bank(config_of(tmp_path), tmp_path / "out")) == {}


# ---------------------------------------------------------------- privacy
SECRET = "Planted^Name"
PERSONAL = ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "AccessionNumber")


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the test writes
def test_nothing_about_a_person_leaves_the_file(tmp_path: Path) -> None:
    """Also where it stands in elements that are read, and where these cannot be understood."""
    personal = dict.fromkeys(PERSONAL, SECRET)
    odd = {
        "unit": {"RescaleType": SECRET},
        "colours": {"PhotometricInterpretation": SECRET},
        "modality": {"Modality": SECRET},
        "class": {"SOPClassUID": SECRET},
    }
    for name, elements in odd.items():
        write(tmp_path / f"in/{name}.dcm", PLANE, **personal, **elements)
    series(tmp_path / "in/series", [0, 1], **personal, SeriesInstanceUID=SECRET)
    series(tmp_path / "in/gap", [0, 1, 3], **personal)
    for tag, value in (("PixelSpacing", "0.5\\0.5"), ("RescaleSlope", "2.000")):
        path = write(
            tmp_path / f"in/{tag}.dcm", PLANE, **personal, RescaleSlope="2.000", **place(1)
        )
        data = path.read_bytes()
        assert value.encode() in data
        path.write_bytes(data.replace(value.encode(), SECRET.encode()[: len(value)]))
    data = write(tmp_path / "in/cut.dcm", PLANE, **personal).read_bytes()
    (tmp_path / "in/cut.dcm").write_bytes(data[: data.index(SECRET.encode()) + 9])
    config = config_of(tmp_path)
    said = filterbank("run", config, "--output", tmp_path / "out", "--workers", "0")
    more = filterbank("plan", config, "--output", tmp_path / "new", "--json")
    assert (said.code, more.code) == (5, 0), said.err
    tables = ds_rows(tmp_path / "out")
    texts = [said.out, said.err, more.out, more.err, tables]
    texts += [p.name for p in (tmp_path / "out").rglob("*")]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    assert not [text for text in texts if "plante" in text.lower()]
    assert len(json.loads(tables)) == 9


def ds_rows(out: Path) -> str:
    """Every column of every image, as text: Parquet's pages are compressed."""
    import pyarrow.dataset as ds

    rows = ds.dataset(out / "images").to_table().to_pylist()
    return json.dumps(rows)


def test_a_series_and_its_nifti_have_the_same_statistics(shared: Path, tmp_path: Path) -> None:
    """IBSI's STS_002 CT, in mm on its anisotropic grid."""
    data, folder = shared / "data", tmp_path / "in"
    shutil.copytree(data / "ct_dicom_series" / "ibsi_STS_002_CT", folder / "ct")
    shutil.copy(data / "mri_nifti" / "ibsi_STS_002_CT_image.nii.gz", folder)
    config = config_of(
        tmp_path,
        filters=["identity", {"gaussian": {"sigma": 2, "units": "physical"}}],
        statistics=["all"],
        boundary="reflect",
    )
    output = run_bank(config, tmp_path / "out")
    assert failures(output) == {}
    rows = output.statistics.sort_by([("filter", "ascending"), ("image", "ascending")]).to_pylist()
    assert len(rows) == 4
    for ours, other in (rows[:2], rows[2:]):
        assert {**ours, "image": ""} == {**other, "image": ""}
    by_unit = {row["image"][-3:]: row["value_unit"] for row in output.images.to_pylist()}
    assert set(by_unit.values()) == {"HU", None}

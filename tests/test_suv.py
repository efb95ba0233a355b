"""Standardised uptake values of PET: QIBA's vendor-neutral pseudo-code, by hand."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from running import failures, run_bank, write_config
from slices import dataset, place

from pipeline.config import load
from pipeline.errors import PlanError
from pipeline.readers.base import READERS
from pipeline.readers.dicom_pet import uptake_of_slices
from pipeline.steps.rescale import Rescale
from pipeline.steps.suv import Suv
from pipeline.types import ImageInfo, Uptake

RNG = np.random.default_rng(11)
SLICES = RNG.integers(0, 30000, (3, 9, 7), dtype=np.uint16)
WEIGHT, DOSE, HALF_LIFE = 72.5, 3.7e8, 6586.2  # kg, Bq, s: of fluorine-18
STEP = Suv(by="bodyweight")


def factor(waited: float, weight: float = WEIGHT, dose: float = DOSE) -> float:
    """g/ml for each Bq/ml, so many seconds after the dose was measured."""
    left = dose * math.exp(-math.log(2) * waited / HALF_LIFE)
    return weight * 1000 / left


def pet(path: Path, plane: np.ndarray = SLICES[0], z: float = 0, **changes: Any) -> Path:
    """A PET slice: injected at 8:30:45, scanned from 9:30 on; None leaves an element out.

    `Radio..` go into the sequence; `private` adds elements of other makers.
    """
    private: Callable[[Dataset], None] = changes.pop("private", lambda _: None)
    given: dict[str, Any] = {
        "RadiopharmaceuticalStartTime": "083045.000000",
        "RadionuclideTotalDose": f"{DOSE:.0f}",
        "RadionuclideHalfLife": str(HALF_LIFE),
    }
    elements: dict[str, Any] = {
        "Modality": "PT",
        "Units": "BQML",
        "RescaleSlope": "0.3",
        "RescaleIntercept": "0",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "DecayCorrection": "START",
        "SeriesDate": "20140618",
        "SeriesTime": "093000",
        "AcquisitionDate": "20140618",
        "AcquisitionTime": "093500.250000",
        "PatientWeight": str(WEIGHT),
        **place(z),
    }
    for name, value in changes.items():
        (given if name.startswith("Radio") else elements)[name] = value
    item = Dataset()
    for name, value in given.items():
        if value is not None:
            setattr(item, name, value)
    items = [item] * elements.pop("items", 1)
    kept = {name: value for name, value in elements.items() if value is not None}
    found = dataset(plane, RadiopharmaceuticalInformationSequence=items, **kept)
    private(found)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save_as(path, enforce_file_format=True)
    return path


def block(group: int, creator: str, **elements: str) -> Callable[[Dataset], None]:
    """What adds private elements, `DS00="1.5"`: a type, and a place in the block."""

    def add(found: Dataset) -> None:
        made = found.private_block(group, creator, create=True)
        for name, value in elements.items():
            made.add_new(bytes.fromhex(name[2:])[0], name[:2], value)

    return add


def probe(path: Path) -> ImageInfo:
    (info,) = READERS["dicom"]().probe(str(path))
    return info


def config_of(tmp_path: Path, *steps: Any) -> Path:
    return write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path / "in")},
        prepare=list(steps),
        output={"path": "unused", "maps": "float32"},
    )


# ---------------------------------------------------------------- the factor
def average_of(frame: float) -> float:
    """When within a frame the rate is its average, by adding up."""
    t = (np.arange(200_000) + 0.5) / 200_000 * frame
    rate = math.log(2) / HALF_LIFE
    return -math.log(np.exp(-rate * t).mean()) / rate


PHILIPS = (0x7053, "Philips PET Private Group")
LATER = {"SeriesTime": "140000"}  # of a series that was made after the scan
CASES: dict[str, tuple[dict[str, Any], float]] = {
    "to the start of the scan": ({}, factor(3555)),
    "to the dose": ({"DecayCorrection": "ADMIN", "SeriesTime": None}, factor(0)),
    "with a date": ({"RadiopharmaceuticalStartDateTime": "20140618083000"}, factor(3600)),
    "over midnight": (
        {
            "RadiopharmaceuticalStartTime": "233000",
            "SeriesTime": "001000.5",
            "AcquisitionTime": "001500",
        },
        factor(2400.5),
    ),
    "over midnight, with a date": (
        {
            "RadiopharmaceuticalStartDateTime": "20140617233000.00",
            "SeriesTime": "001000",
            "AcquisitionTime": "001500",
        },
        factor(2400),
    ),
    "of a clock elsewhere": (
        {
            "RadiopharmaceuticalStartDateTime": "20140618063045+0000",
            "TimezoneOffsetFromUTC": "+0200",
        },
        factor(3555),
    ),
    "a later series of GE": (
        {**LATER, "private": block(0x0009, "GEMS_PETD_01", DT0D="20140618093000.00")},
        factor(3555),
    ),
    "a later series, by its frames": (
        {
            **LATER,
            "AcquisitionTime": "095000",  # 20 minutes after the scan began
            "ActualFrameDuration": "180000",
            "FrameReferenceTime": f"{1000 * (1200 + average_of(180)):.3f}",
        },
        factor(3555),
    ),
    "counts of Philips": (
        {"Units": "CNTS", "private": block(*PHILIPS, DS00="0.000551", DS09="1.602563")},
        0.000551,
    ),
    "counts of Philips, by activity": (
        {"Units": "CNTS", "private": block(*PHILIPS, DS00="0", DS09="1.602563")},
        1.602563 * factor(3555),
    ),
    "uptake already": ({"Units": "GML", "PatientWeight": None}, 1.0),
    "uptake already, so told": ({"Units": "GML", "SUVType": "BW"}, 1.0),
}


@pytest.mark.parametrize(("changes", "want"), CASES.values(), ids=list(CASES))
def test_the_factor_is_weight_by_the_dose_that_is_left(
    changes: dict[str, Any], want: float, tmp_path: Path
) -> None:
    info = probe(pet(tmp_path / "a.dcm", **changes))
    assert info.uptake is not None
    assert info.uptake.factor == pytest.approx(want, rel=1e-9)
    assert STEP.info(info).value_unit == "g/ml"


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "no weight": ({"PatientWeight": None}, "PatientWeight is missing, or not a weight in kg"),
    "weight 0": ({"PatientWeight": "0"}, "PatientWeight is missing, or not"),
    "weight in g": ({"PatientWeight": "72500"}, "PatientWeight is missing, or not"),
    "no dose": ({"RadionuclideTotalDose": None}, "RadionuclideTotalDose is missing"),
    "dose 0": ({"RadionuclideTotalDose": "0"}, "RadionuclideTotalDose is missing"),
    "dose in MBq": ({"RadionuclideTotalDose": "370"}, "RadionuclideTotalDose .* a dose in Bq"),
    "no half-life": ({"RadionuclideHalfLife": None}, "RadionuclideHalfLife is missing"),
    "no item": ({"items": 0}, "RadiopharmaceuticalInformationSequence does not hold one item"),
    "two doses": ({"items": 2}, "RadiopharmaceuticalInformationSequence does not hold one item"),
    "not corrected": ({"DecayCorrection": "NONE"}, "DecayCorrection is neither START nor ADMIN"),
    "no correction": ({"DecayCorrection": None}, "DecayCorrection is neither START nor ADMIN"),
    "attenuated": ({"CorrectedImage": ["DECY", "SCAT"]}, "CorrectedImage does not name both"),
    "no corrections": ({"CorrectedImage": None}, "CorrectedImage does not name both"),
    "no unit": ({"Units": None}, "Units is none of BQML, GML and CNTS"),
    "another unit": ({"Units": "PROPCPS"}, "Units is none of BQML, GML and CNTS"),
    "counts": ({"Units": "CNTS"}, "Units is CNTS, and neither"),
    "lean mass": ({"Units": "GML", "SUVType": "LBM"}, "SUVType is not BW"),
    "no start": ({"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime is missing"),
    "starts after": (
        {"RadiopharmaceuticalStartDateTime": "20140618093001"},
        "RadiopharmaceuticalStartDateTime is after the scan",
    ),
    "a day early": (
        {"RadiopharmaceuticalStartDateTime": "20140617083045"},
        "RadiopharmaceuticalStartDateTime is after the scan, or more than 10 half-lives before",
    ),
    "no date": ({"SeriesDate": None}, "SeriesDate is missing"),
    "no acquisition": ({"AcquisitionTime": None}, "AcquisitionTime is missing"),
    "no time at all": (LATER, "SeriesTime is after AcquisitionTime, and FrameReferenceTime"),
}


@pytest.mark.parametrize(("changes", "text"), LACKING.values(), ids=list(LACKING))
def test_what_is_missing_or_cannot_be_is_named(
    changes: dict[str, Any], text: str, tmp_path: Path
) -> None:
    info = probe(pet(tmp_path / "a.dcm", **changes))
    with pytest.raises(PlanError, match=rf"^suv cannot be computed: {text}") as caught:
        STEP.info(info)
    given = [value for value in changes.values() if str(value).isdecimal() and value != "0"]
    assert not [value for value in given if str(value) in str(caught.value)]


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the test writes
@pytest.mark.parametrize("keyword", ["SeriesTime", "TimezoneOffsetFromUTC", "PatientWeight"])
def test_nonsense_spoils_the_factor_and_not_the_image(keyword: str, tmp_path: Path) -> None:
    path = pet(tmp_path / "a.dcm", SeriesTime="091717", TimezoneOffsetFromUTC="+0317")
    told = {"SeriesTime": b"091717", "TimezoneOffsetFromUTC": b"+0317"}
    old = told.get(keyword, str(WEIGHT).encode())
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, b"?" * len(old)))
    info = probe(path)
    assert info.value_unit == "BQML"
    assert info.uptake is not None
    if keyword == "TimezoneOffsetFromUTC":  # which nothing here needs
        assert info.uptake.factor == pytest.approx(factor(2792), rel=1e-9)
    else:
        assert info.uptake.factor is None
        assert info.uptake.lacking.startswith(keyword)


# ---------------------------------------------------------------- the step
def test_a_series_with_a_slope_in_each_slice_becomes_uptake(tmp_path: Path) -> None:
    slopes = (0.3, 2.0, 1.7)
    for i, slope in enumerate(slopes):
        pet(tmp_path / f"in/{i}.dcm", SLICES[i], z=3 * i, RescaleSlope=str(slope))
    output = run_bank(config_of(tmp_path, {"suv": "bodyweight"}), tmp_path / "out")
    assert failures(output) == {}
    (row,) = output.images.to_pylist()
    want = SLICES * np.array(slopes)[:, None, None] * factor(3555)
    found = output.maps(row["image"], "identity")
    np.testing.assert_allclose(found, want, rtol=2**-22)
    (measured,) = output.statistics.to_pylist()
    assert measured["mean"] == pytest.approx(want.mean(), rel=1e-7)


def test_series_have_factors_of_their_own_and_failures_too(tmp_path: Path) -> None:
    """Of one shape, and so in one batch."""
    for name, weight in (("a", "50"), ("b", "100"), ("c", None)):
        pet(tmp_path / f"in/{name}.dcm", PatientWeight=weight)
    np.save(tmp_path / "in/d.npy", SLICES[0])
    output = run_bank(config_of(tmp_path, {"suv": {"by": "bodyweight"}}), tmp_path / "out")
    told = failures(output)
    weightless = "suv cannot be computed: PatientWeight is missing, or not a weight in kg"
    assert told.keys() == {"c.dcm", "d.npy"}
    assert told["c.dcm"] == f"unsupported: {weightless}; correct the DICOM header"
    assert told["d.npy"].startswith("unsupported: suv needs a DICOM PET image, which this is not")
    a, b = (output.maps(f"{name}.dcm", "identity") for name in "ab")
    np.testing.assert_allclose(a, SLICES[0] * 0.3 * factor(3555, 50), rtol=2**-22)
    np.testing.assert_array_equal(b, 2 * a)


def test_slices_that_disagree_have_no_factor(tmp_path: Path) -> None:
    for i, dose in enumerate((3.7e8, 3.7e8, 3.8e8)):
        pet(tmp_path / f"in/{i}.dcm", SLICES[i], z=3 * i, RadionuclideTotalDose=f"{dose:.0f}")
    output = run_bank(config_of(tmp_path, {"suv": "bodyweight"}), tmp_path / "out")
    (told,) = failures(output).values()
    assert "weight, dose, half-life or times differ between slices" in told
    (told,) = failures(run_bank(config_of(tmp_path), tmp_path / "plain")).values() or ("",)
    assert told == ""


def test_a_volume_has_the_factor_of_all_its_slices() -> None:
    half, third = Uptake("BQML", 0.5), Uptake("BQML", 0.50001)
    assert uptake_of_slices([half, third]) == half
    assert uptake_of_slices([half, None]) is None
    lacking = Uptake("BQML", None, "PatientWeight is missing")
    assert uptake_of_slices([half, lacking]) == lacking
    mixed = uptake_of_slices([half, Uptake("GML", 1.0)])
    assert mixed == Uptake(None, None, "Units differs between slices")


def test_times_that_are_rounded_to_seconds_agree(tmp_path: Path) -> None:
    """Beds of a later series, each counted back on its own."""
    for i in range(3):
        pet(
            tmp_path / f"in/{i}.dcm",
            SLICES[i],
            z=3 * i,
            **LATER,
            AcquisitionTime=f"09{35 + 4 * i}00",
            ActualFrameDuration="240000",
            FrameReferenceTime=str(round(300 + 240 * i + average_of(240)) * 1000),
        )
    output = run_bank(config_of(tmp_path, {"suv": "bodyweight"}), tmp_path / "out")
    (row,) = output.images.to_pylist()
    assert row["status"] == "done"
    want = SLICES * 0.3 * factor(3555)
    np.testing.assert_allclose(output.maps(row["image"], "identity"), want, rtol=1e-4)


def test_it_needs_the_values_of_the_file(tmp_path: Path) -> None:
    info = probe(pet(tmp_path / "a.dcm"))
    rescaled = Rescale(**{"from": [0, 1000]}).info(info)
    for changed in (rescaled, STEP.info(info)):
        with pytest.raises(PlanError, match="put it before the other steps, once"):
            STEP.info(changed)


def test_resampling_may_come_before_or_after(tmp_path: Path) -> None:
    for i in range(3):
        pet(tmp_path / f"in/{i}.dcm", SLICES[i], z=3 * i)
    steps: list[Any] = [{"suv": "bodyweight"}, {"resample": {"spacing": [2, None, None]}}]
    found = []
    for name, order in (("first", steps), ("last", steps[::-1])):
        output = run_bank(config_of(tmp_path, *order), tmp_path / name)
        (image,) = output.images.column("image").to_pylist()
        assert output.images.column("value_unit").to_pylist() == ["g/ml"]
        found.append(output.maps(image, "identity"))
    assert found[0].shape == (5, 9, 7)
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)


def test_one_value_stands_for_a_step_of_one_parameter(tmp_path: Path) -> None:
    given = [{"suv": "bodyweight"}, {"zscore": "image"}]
    written = [{"suv": {"by": "bodyweight"}}, {"zscore": {"within": "image"}}]
    first, second = (load(config_of(tmp_path, *steps)).prepare for steps in (given, written))
    assert first == second
    assert first[0] == STEP


def test_real_uptake_stays_as_it_is(shared: Path, tmp_path: Path) -> None:
    """IBSI's STS_003 PET is stored in g/ml."""
    folder = tmp_path / "in"
    folder.mkdir()
    for file in sorted((shared / "data/ct_dicom_series/ibsi_STS_003_PET").glob("*.dcm"))[:3]:
        shutil.copy(file, folder)
    found = []
    for unit, steps in (("GML", ()), ("g/ml", ({"suv": "bodyweight"},))):
        output = run_bank(config_of(tmp_path, *steps), tmp_path / unit[0])
        assert failures(output) == {}
        (row,) = output.images.to_pylist()
        assert (row["shape"][0], row["value_unit"]) == (3, unit)
        found.append(output.maps(row["image"], "identity"))
    np.testing.assert_array_equal(*found)


def test_values_that_a_table_scales_have_no_unit_of_the_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pet(tmp_path / "in" / name / "1.dcm")
    (tmp_path / "cases.csv").write_text("who,scale\na,2\nb,\n")
    config = write_config(
        tmp_path / "c.yaml",
        input={
            "path": str(tmp_path / "in"),
            "include": ["{who}/1.dcm"],
            "table": str(tmp_path / "cases.csv"),
        },
    )
    images = run_bank(config, tmp_path / "out").images.sort_by("image")
    assert images.column("value_unit").to_pylist() == [None, "BQML"]

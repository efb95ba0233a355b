"""`units: physical`: lengths in mm or another unit, divided by each image's own spacing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import failures, look, run_bank, write_config
from scipy import ndimage

from pipeline.config import load
from pipeline.describe import describe_survey
from pipeline.errors import ConfigError, PlanError
from pipeline.plan import Plan
from pipeline.types import Grid, ImageInfo
from pipeline.units import in_unit

VOXELS = np.random.default_rng(8).normal(size=(9, 16, 21))


def config(folder: Path, filters: list[Any], **given: Any) -> Path:
    return write_config(
        folder / "c.yaml",
        input={"path": str(folder), "include": ["*.npy"], **given},
        filters=filters,
        output={"path": "unused", "maps": "float32"},
    )


def names(path: Path) -> list[str]:
    return [named.name for named in load(path).filters]


def test_names_carry_the_unit(tmp_path: Path) -> None:
    filters = [
        {"log": {"sigma": [1, 2.5], "units": "physical", "rank": 2}},
        {"log": {"sigma": 1, "units": "pixels"}},
        {"log": {"sigma": [3, 4], "units": "physical", "name": "own"}},
        {"disk": {"radius": 2, "units": "physical"}},
    ]
    path = config(tmp_path, filters)
    assert names(path) == [
        "log(sigma=1,mm,rank=2)",
        "log(sigma=2.5,mm,rank=2)",
        "log(sigma=1)",
        "own(sigma=3)",
        "own(sigma=4)",
        "disk(radius=2,mm)",
    ]
    assert names(config(tmp_path, filters[:1], unit="um"))[0] == "log(sigma=1,um,rank=2)"


@pytest.mark.parametrize(
    "given",
    [
        {"sobel": {}},
        {"identity": {}},
        {"laws": {"kernels": "L5E5", "energy": 3}},
        {"riesz": {"order": "x", "level": 1}},
    ],
    ids=lambda given: next(iter(given)),
)
def test_what_counts_pixels_refuses_physical_units(given: dict[str, Any], tmp_path: Path) -> None:
    ((family, parameters),) = given.items()
    path = config(tmp_path, [{family: {**parameters, "units": "physical"}}])
    with pytest.raises(ConfigError, match=r"nothing that it is given is a length: it counts pix"):
        load(path)


def test_lengths_in_degrees_are_a_config_error(tmp_path: Path) -> None:
    path = config(tmp_path, [{"log": {"sigma": 1, "units": "physical"}}], unit="degrees")
    with pytest.raises(ConfigError, match=r"input.unit is 'degrees'; give one of nm, um, mm"):
        load(path)


@pytest.mark.parametrize(
    ("grid", "wanted"),
    [
        (Grid((3.0, 0.7), "mm"), (3.0, 0.7)),
        (Grid((3.0, 0.7), "m"), (3000.0, 700.0)),
        (Grid((3.0, 0.7), "um"), (0.003, 0.0007)),
        (Grid((3.0, 0.1), "cm"), (30.0, 1.0)),
    ],
)
def test_spacing_is_converted_with_all_its_digits(grid: Grid, wanted: tuple[float, ...]) -> None:
    assert in_unit(grid, "mm") == Grid(wanted, "mm")


@pytest.mark.parametrize("unit", [None, "unknown", "degree"])
def test_a_grid_without_lengths_is_refused(unit: str | None) -> None:
    with pytest.raises(PlanError, match=r"give input\.|reproject"):
        in_unit(Grid((1.0, 1.0), unit), "mm")


def test_each_axis_is_divided_by_its_own_spacing(tmp_path: Path) -> None:
    """Against scipy with one sigma per axis; slice by slice with those of the slice."""
    np.save(tmp_path / "a.npy", VOXELS)
    filters = [
        {"gaussian": {"sigma": 2, "units": "physical"}},
        {"gaussian": {"sigma": 2, "units": "physical", "rank": 2}},
        {"mean": {"size": 6, "units": "physical"}},
    ]
    path = config(tmp_path, filters, spacing=[4, 2, 1.25], unit="mm")
    output = run_bank(path, tmp_path / "out")
    assert failures(output) == {}
    wanted = {
        "gaussian(sigma=2,mm)": ndimage.gaussian_filter(VOXELS, (0.5, 1.0, 1.6)),
        "gaussian(sigma=2,mm,rank=2)": ndimage.gaussian_filter(VOXELS, (0, 1.0, 1.6)),
        "mean(size=6,mm)": ndimage.uniform_filter(VOXELS, (2, 3, 5)),
    }
    for name, expected in wanted.items():
        error = np.abs(output.maps("a.npy", name) - expected).max()
        assert error <= 1e-5 * np.ptp(expected), name
    assert output.filters.column("units").to_pylist() == ["mm"] * 3
    reach = {
        row["filter"]: row["reach"]
        for row in describe_survey(look(path, tmp_path / "x"))["responses"]
    }
    assert reach["mean(size=6,mm)"] == "-1+0 x -1+1 x -2+2"


def test_lengths_too_small_for_a_spacing_of_1_are_no_mistake(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS[0])
    filters = [{"gaussian": {"sigma": 0.02, "units": "physical"}}]
    path = config(tmp_path, filters, spacing=0.01, unit="mm")
    found = run_bank(path, tmp_path / "out").maps("a.npy", "gaussian(sigma=0.02,mm)")
    np.testing.assert_allclose(found, ndimage.gaussian_filter(VOXELS[0], 2), atol=1e-5)


def test_an_image_without_spacing_fails_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS)
    physical = [{"log": {"sigma": 2, "units": "physical"}}]
    assert failures(run_bank(config(tmp_path, physical), tmp_path / "out")) == {
        "a.npy": "unsupported: lengths in mm need images with a spacing, this one has none; "
        "give input.spacing and input.unit, or lengths in pixels (units: pixels)"
    }
    path = config(tmp_path, physical, spacing=2, unit="mm")
    assert failures(run_bank(path, tmp_path / "given")) == {}


def test_a_bank_in_pixels_is_compiled_once_for_all_spacings(tmp_path: Path) -> None:
    for units, count in (("pixels", 1), ("physical", 2)):
        plan = Plan(load(config(tmp_path, [{"log": {"sigma": 9, "units": units}}])), "cpu")
        infos = [ImageInfo((9, 9), ("1",), "uint8", Grid((1.0, step), "mm")) for step in (1.0, 2.0)]
        assert len({id(plan.banks(info)) for info in infos}) == count


def test_the_unit_decides_the_digest(tmp_path: Path) -> None:
    def digest(units: str, **given: Any) -> str:
        path = config(tmp_path, [{"log": {"sigma": 2, "units": units}}], **given)
        np.save(tmp_path / "a.npy", VOXELS)
        return look(path, tmp_path / "out").plan.digest

    kinds = {digest("pixels"), digest("physical"), digest("physical", unit="um")}
    assert len(kinds) == 3

"""Resampling: values against scipy, grids and places against their definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from preparing import apply, images
from pydantic import TypeAdapter, ValidationError
from running import failures, run_bank, write_config
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.placement import Placement, placement_of
from pipeline.steps.resample import Resample
from pipeline.steps.spline import interpolate
from pipeline.types import Georeference, Grid, ImageInfo, Region, Roi

SPACING = (3.0, 1.5, 0.8)
SHAPE = (7, 9, 12)
VOLUME = np.random.default_rng(1).normal(40, 300, SHAPE)
ROUNDING = 1e-12


def info(shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = SPACING) -> ImageInfo:
    return ImageInfo(shape, ("1",), "int16", Grid(spacing, "mm"))


def batch(voxels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(voxels[None, None].astype(np.float64))


def places(size: int, old: float, new: float) -> np.ndarray:
    """IBSI's grid, as its manual writes it: as many as cover the old one, about the same centre."""
    count = int(np.ceil(round(size * old / new, 6)))
    return (size - 1) / 2 + (np.arange(count) - (count - 1) / 2) * new / old


def oracle(voxels: np.ndarray, new: tuple[float, ...], order: int) -> np.ndarray:
    axes = [
        places(n, s, t).clip(0, n - 1) for n, s, t in zip(voxels.shape, SPACING, new, strict=True)
    ]
    at = np.meshgrid(*axes, indexing="ij")
    return ndimage.map_coordinates(voxels.astype(np.float64), at, order=order, mode="mirror")


# ---------------------------------------------------------------- values
@given(
    size=st.integers(1, 60),
    order=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_interpolation_is_scipys(size: int, order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines, at = rng.normal(size=(2, size)), rng.uniform(0, size - 1, 9)
    found = interpolate(torch.from_numpy(lines), 1, at, order).numpy()  # type: ignore[arg-type]
    for line, values in zip(lines, found, strict=True):
        expected = ndimage.map_coordinates(line, [at], order=order, mode="mirror")
        np.testing.assert_allclose(values, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("new", [(1.0, 1.0, 1.0), (4.1, 2.0, 0.5), (3.0, 5.0, 0.8)])
def test_a_volume_is_interpolated_as_scipy_does(new: tuple[float, ...], order: int) -> None:
    found = apply(Resample(spacing=new, order=order), batch(VOLUME), None, info())  # type: ignore[arg-type]
    np.testing.assert_allclose(found[0, 0], oracle(VOLUME, new, order), rtol=0, atol=1e-9)


def test_samples_that_stay_keep_their_values() -> None:
    step = Resample(spacing=tuple(s / 3 for s in SPACING))
    found = apply(step, batch(VOLUME), None, info())[0, 0]
    np.testing.assert_allclose(found[1::3, 1::3, 1::3], VOLUME, rtol=0, atol=1e-9)


def test_an_axis_of_null_or_of_its_own_spacing_stays_bit_for_bit() -> None:
    alone = Resample(spacing=(None, 1.0, 1.0))
    found = apply(alone, batch(VOLUME), None, info())
    assert torch.equal(found, apply(Resample(spacing=(3.0, 1.0, 1.0)), batch(VOLUME), None, info()))
    for plane, slice_ in zip(found[0, 0], VOLUME, strict=True):
        flat = apply(Resample(spacing=1), batch(slice_), None, info(SHAPE[1:], SPACING[1:]))
        assert torch.equal(plane, flat[0, 0])
    kept = apply(Resample(spacing=SPACING), batch(VOLUME), None, info())
    assert torch.equal(kept, batch(VOLUME))


# ---------------------------------------------------------------- the grid
def test_the_grid_is_the_ibsis() -> None:
    """The CT phantom of phase 2: 200 x 197 x 180 voxels (x, y, z), also with a float32 spacing."""
    spacing = (3.0, float(np.float32(0.977)), float(np.float32(0.977)))
    after = Resample(spacing=1).info(info((60, 201, 204), spacing))
    assert (after.shape, after.grid) == ((180, 197, 200), Grid((1.0, 1.0, 1.0), "mm"))


@pytest.mark.parametrize("stored", [0.1, 0.7, 0.9765625, 1.2])
def test_a_spacing_of_float32_adds_no_sample(stored: float) -> None:
    after = Resample(spacing=stored * 2).info(info((50,), (float(np.float32(stored)),)))
    assert after.shape == (25,)


@given(
    size=st.integers(1, 300),
    old=st.floats(0.1, 10),
    new=st.floats(0.1, 10),
)
def test_grids_share_their_centre_and_the_new_one_covers_the_old(
    size: int, old: float, new: float
) -> None:
    before = ImageInfo(
        (size, 1, 1), ("1",), "int16", Grid((old, 1.0, 1.0), "mm"), geo=Placement.of(np.eye(4))
    )
    after = Resample(spacing=(new, None, None)).info(before)
    count, place = after.shape[0], placement_of(after)
    assert (count - 1) * new < size * old + 1e-3
    assert size * old <= count * new * (1 + 1e-3)
    assert place is not None
    start, step = place.origin[2], place.steps[0][2]
    assert start + step * (count - 1) / 2 == pytest.approx((size - 1) / 2, abs=1e-9)


def test_a_volume_keeps_its_place_in_space() -> None:
    """A voxel's point: half a millimetre along x is half of what it was in voxels of 2 mm."""
    affine = np.array([[-2, 0, 0, 50], [0, 0, 3, -8], [0, 4, 0, 7], [0, 0, 0, 1.0]])
    before = ImageInfo(
        (6, 8, 10), ("1",), "int16", Grid((3.0, 4.0, 2.0), "mm"), geo=Placement.of(affine)
    )
    after = Resample(spacing=(None, 2.0, 0.5)).info(before)
    found = placement_of(after)
    assert found is not None
    assert after.shape == (6, 16, 40)
    # the corners of the volume stay where they were
    assert np.allclose(found.affine @ (-0.5, -0.5, 0, 1), affine @ (-0.5, -0.5, 0, 1))
    assert np.allclose(found.affine @ (39.5, 15.5, 5, 1), affine @ (9.5, 7.5, 5, 1))


def test_a_scene_keeps_its_place_on_the_ground() -> None:
    geo = Georeference("EPSG:32631", (10.0, 1.0, 5e5, 2.0, -20.0, 4e6))
    before = ImageInfo((6, 8), ("1",), "int16", Grid((20.0, 10.0), "m"), geo=geo)
    after = Resample(spacing=(10.0, 4.0)).info(before)
    assert after.shape == (12, 20)
    assert isinstance(after.geo, Georeference)
    assert after.geo.transform is not None
    old, new = (np.reshape(g.transform, (2, 3)) for g in (geo, after.geo))  # type: ignore[arg-type]
    for row, column in ((0, 0), (6, 0), (0, 8), (3, 4)):  # corners and the centre
        assert np.allclose(new @ (column * 2.5, row * 2, 1), old @ (column, row, 1))


# ---------------------------------------------------------------- masks and holes
@pytest.mark.parametrize("new", [(1.0, 1.0, 1.0), (6.0, 3.0, 1.6), (3.0, 2.2, 0.5)])
def test_regions_are_interpolated_linearly_and_cut_at_one_half(new: tuple[float, ...]) -> None:
    rng = np.random.default_rng(3)
    box = Region((1, 0, 2), (6, 9, 11))
    inside = ndimage.gaussian_filter(rng.normal(size=box.shape), 1) > 0
    roi = Roi("roi=GTV", "roi", "GTV", box, inside)
    step = Resample(spacing=new)
    ((found,),) = step.apply(images(batch(VOLUME), None, info(), [[roi]])).regions
    whole = np.zeros(SHAPE)
    whole[box.slices()] = inside
    expected = oracle(whole, new, 1) >= 0.5 - 1e-6
    shape = step.info(info()).shape
    got = np.zeros(shape, np.bool_)
    assert found.mask is not None
    got[found.box.slices()] = found.mask
    np.testing.assert_array_equal(got, expected)
    assert found.size == expected.sum()


def test_the_whole_image_stays_the_whole_image() -> None:
    everything = Roi("image", "image", None, Region.whole(SHAPE))
    nothing = Roi("roi=2", "roi", "2", Region((3, 3, 3), (3, 3, 3)))
    after = Resample(spacing=1.3).apply(
        images(batch(VOLUME), None, info(), [[everything, nothing]])
    )
    ((whole, empty),) = after.regions
    assert whole == Roi("image", "image", None, after.box)
    assert (empty.box.size, empty.size) == (0, 0)


def test_holes_are_not_interpolated_over_and_cost_their_neighbours_only() -> None:
    valid = np.ones(SHAPE, np.bool_)
    valid[3, 4, 5] = valid[0, 0, 0] = False
    constant = np.where(valid, 7.0, -3000.0)
    step = Resample(spacing=(1.5, 1.5, 0.4))
    after = step.apply(images(batch(constant), torch.from_numpy(valid[None, None]), info()))
    assert after.valid is not None
    np.testing.assert_allclose(after.values[after.valid], 7.0, rtol=ROUNDING)
    holes = oracle(~valid, (1.5, 1.5, 0.4), 1)
    np.testing.assert_array_equal(after.valid[0, 0], holes < 1e-6)


def test_an_edge_beside_a_hole_stays_sharp() -> None:
    """The spline sees the nearest valid value in a hole: filled with a mean it would ring."""
    ramp = np.tile(np.arange(40.0), (3, 1))
    valid = np.ones((3, 40), np.bool_)
    valid[:, 20:] = False
    step = Resample(spacing=(1.0, 0.25))
    flat = images(batch(ramp), torch.from_numpy(valid[None, None]), info((3, 40), (1.0, 1.0)))
    after = step.apply(flat)
    assert after.valid is not None
    at = places(40, 1.0, 0.25).clip(0, 39)
    wrong = (after.values[0, 0] - torch.from_numpy(at))[:, 4:]
    assert wrong[after.valid[0, 0][:, 4:]].abs().max() < 0.3
    assert after.valid[0, 0].any(0).sum() == (at <= 19).sum()


# ---------------------------------------------------------------- what it refuses
def test_an_image_without_a_spacing_is_a_failed_row(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((5, 6), np.float32))
    config = write_config(
        tmp_path / "c.yaml",
        input={"path": str(tmp_path / "a.npy")},
        prepare=[{"resample": {"spacing": 1}}],
    )
    (found,) = failures(run_bank(config, tmp_path / "out")).values()
    assert found.startswith("unsupported: resample needs images with a spacing")


def test_as_many_numbers_as_axes() -> None:
    with pytest.raises(PlanError, match="has 2 numbers, the image 3 axes"):
        Resample(spacing=(1.0, 1.0)).info(info())


@pytest.mark.parametrize(
    "fields", [{}, {"spacing": 0}, {"spacing": [1, -1]}, {"spacing": 1, "order": 2}]
)
def test_wrong_fields_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Resample).validate_python(fields)

"""Steps that decide what is measured, or by it: resegment, zscore; and round between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from preparing import apply, images
from pydantic import TypeAdapter, ValidationError

from pipeline.steps.resegment import Resegment
from pipeline.steps.round import Round
from pipeline.steps.zscore import Zscore
from pipeline.types import Region, Roi

PIXELS = np.random.default_rng(7).normal(20, 300, (2, 8, 9))
BOX = Region((1, 2), (7, 9))
MASK = np.random.default_rng(8).random(BOX.shape) > 0.3
WHOLE = Roi("image", "image", None, Region.whole((8, 9)))
GTV = Roi("roi=GTV", "roi", "GTV", BOX, MASK)


def batch(values: np.ndarray = PIXELS) -> torch.Tensor:
    return torch.from_numpy(values[None].astype(np.float64))


def restricted(step: Resegment, roi: Roi, valid: np.ndarray | None = None) -> np.ndarray:
    """Which pixels of an image remain."""
    seen = None if valid is None else torch.from_numpy(valid[None])
    before = images(batch(), seen, None, [[roi]])
    after = step.apply(before)
    assert torch.equal(after.values, before.values), "filters see every pixel"
    ((found,),) = after.regions
    assert found.box == roi.box
    remaining = np.zeros((8, 9), np.bool_)
    remaining[found.box.slices()] = True if found.mask is None else found.mask
    return remaining


def inside(roi: Roi) -> np.ndarray:
    out = np.zeros((8, 9), np.bool_)
    out[roi.box.slices()] = True if roi.mask is None else roi.mask
    return out


# ---------------------------------------------------------------- resegment
@pytest.mark.parametrize("roi", [WHOLE, GTV], ids=["image", "mask"])
def test_a_range_keeps_its_ends_in_every_band(roi: Roi) -> None:
    low, high = PIXELS[0, 2, 3], PIXELS[1, 4, 5]
    low, high = min(low, high), max(low, high)
    expected = inside(roi) & ((low <= PIXELS) & (high >= PIXELS)).all(0)
    np.testing.assert_array_equal(restricted(Resegment(range=(low, high)), roi), expected)
    upper = inside(roi) & (low <= PIXELS).all(0)
    np.testing.assert_array_equal(restricted(Resegment(range=(low, None)), roi), upper)


def test_outliers_are_those_of_the_region() -> None:
    expected = inside(GTV)
    for band in PIXELS:
        x = band[inside(GTV)]
        expected = expected & (abs(band - x.mean()) <= 1.2 * x.std())
    np.testing.assert_array_equal(restricted(Resegment(sigma=1.2), GTV), expected)
    both = Resegment(sigma=1.2, range=(-100, 200))
    expected = expected & ((PIXELS >= -100) & (PIXELS <= 200)).all(0)
    np.testing.assert_array_equal(restricted(both, GTV), expected)
    assert (Resegment(sigma=1.2).whole_image, Resegment(range=(0, 1)).whole_image) == (True, False)


def test_missing_pixels_stay_in_the_region_and_out_of_its_mean() -> None:
    valid = np.random.default_rng(9).random(PIXELS.shape) > 0.3
    kept = np.ones((8, 9), np.bool_)
    for band, seen in zip(PIXELS, valid, strict=True):
        x = band[inside(GTV) & seen]
        kept &= ~seen | (abs(band - x.mean()) <= x.std())
    found = restricted(Resegment(sigma=1), GTV, valid)
    np.testing.assert_array_equal(found, inside(GTV) & kept)


def test_a_region_in_which_nothing_is_left_is_there_still() -> None:
    assert not restricted(Resegment(range=(1e6, 2e6)), GTV).any()
    empty = Roi("roi=2", "roi", "2", Region((3, 3), (3, 3)))
    assert not restricted(Resegment(range=(0, 1), sigma=2), empty).any()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "restricts nothing"),
        ({"range": [None, None]}, "restricts nothing"),
        ({"range": [5, 0]}, "must not exceed the second"),
        ({"range": [0, float("nan")]}, "finite"),
        ({"sigma": 0}, "greater than 0"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(Resegment).validate_python(fields)


# ---------------------------------------------------------------- zscore
def test_each_band_has_mean_0_and_standard_deviation_1() -> None:
    found = apply(Zscore(within="image"), batch())[0].numpy()
    expected = (PIXELS - PIXELS.mean((1, 2), keepdims=True)) / PIXELS.std((1, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_within_the_mask_means_all_regions_of_interest_together() -> None:
    other = Roi("roi=2", "roi", "2", Region((0, 0), (2, 2)))
    step = Zscore(within="mask")
    valid = np.random.default_rng(9).random(PIXELS.shape) > 0.3
    seen = torch.from_numpy(valid[None])
    found = step.apply(images(batch(), seen, None, [[WHOLE, GTV, other]])).values[0].numpy()
    for band, known, plane in zip(PIXELS, valid, found, strict=True):
        x = band[(inside(GTV) | inside(other)) & known]
        np.testing.assert_allclose(plane, (band - x.mean()) / x.std(), rtol=0, atol=1e-12)


def test_an_image_without_a_region_of_interest_is_taken_as_a_whole() -> None:
    found = Zscore(within="mask").apply(images(batch(), None, None, [[WHOLE]])).values
    assert torch.equal(found, apply(Zscore(within="image"), batch()))


def test_without_a_spread_there_is_no_zscore() -> None:
    """0.1 has no exact mean: its spread must not come out as a rounding error."""
    values = PIXELS.copy()
    values[0] = 0.1
    after = Zscore(within="image").apply(images(batch(values)))
    assert after.valid is not None
    assert (after.valid[0, 0].any(), after.valid[0, 1].all()) == (False, True)
    assert after.values.isfinite().all()
    nothing = Roi("roi=2", "roi", "2", Region((3, 3), (3, 3)))
    after = Zscore(within="mask").apply(images(batch(), None, None, [[nothing]]))
    assert after.valid is not None
    assert not after.valid.any()


# ---------------------------------------------------------------- round
def test_halves_go_to_the_even_integer() -> None:
    values = np.array([[[-1.5, -0.5, 0.5, 1.5, 2.5, 2.4, -1000.6]]])
    found = apply(Round(), batch(values)).flatten().tolist()
    assert found == [-2.0, 0.0, 0.0, 2.0, 2.0, 2.0, -1001.0]

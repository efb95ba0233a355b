"""Gabor kernels against scikit-image's, kept as golden arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.filters.gabor import Gabor
from pipeline.types import Grid

GOLDEN = Path(__file__).parents[1] / "golden" / "gabor_skimage.npz"
PIXELS = Grid((1.0, 1.0))
CASES = {
    "plain": Gabor(wavelength=4, output="real"),
    "turned": Gabor(wavelength=5, orientation=30, output="real"),
    "octaves": Gabor(wavelength=6.5, orientation=112.5, bandwidth=1.7, output="real"),
    "elongated": Gabor(
        wavelength=4, orientation=-20, sigma=2.5, gamma=0.5, truncate=2, output="real"
    ),
}
"""Made by tests/golden/gabor_skimage.py with the same names."""


def node(item, grid=PIXELS):
    return item.responses(grid)[""]


def parts(item):
    """Both Convs of the response: real, imaginary."""
    magnitude = node(
        Gabor(**{k: getattr(item, k) for k in item.__dataclass_fields__} | {"output": "magnitude"})
    )
    assert magnitude.fn == "norm"
    return magnitude.of


@pytest.mark.parametrize("name", CASES)
def test_both_parts_equal_convolution_with_the_skimage_kernel(evaluate, image, name):
    kernel = np.load(GOLDEN)[name]
    picture = image(30, 41)
    for conv, taps in zip(parts(CASES[name]), (kernel.real, kernel.imag), strict=True):
        got = evaluate(conv, picture[None])[0]
        np.testing.assert_allclose(got, ndimage.convolve(picture, taps), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", CASES)
def test_taps_are_the_flipped_skimage_kernel(name):
    kernel = np.load(GOLDEN)[name]
    for conv, taps in zip(parts(CASES[name]), (kernel.real, kernel.imag), strict=True):
        assert conv.kernel.shape == taps.shape
        np.testing.assert_allclose(conv.kernel.array, taps[::-1, ::-1], rtol=0, atol=1e-16)


def test_output_chooses_the_part():
    real, imaginary = node(Gabor(wavelength=4)).of
    assert node(Gabor(wavelength=4, output="real")) == real
    assert node(Gabor(wavelength=4, output="imaginary")) == imaginary


@pytest.mark.parametrize(("angle", "stripes"), [(0, "x"), (45, "x + y"), (90, "y"), (135, "y - x")])
def test_orientation_turns_clockwise_on_the_screen(evaluate, angle, stripes):
    y, x = np.mgrid[:48, :48].astype(float)
    phase = {"x": x, "y": y, "x + y": (x + y) / 2**0.5, "y - x": (y - x) / 2**0.5}[stripes]
    wave = np.cos(2 * np.pi * phase / 6)[None]
    strength = {
        k: evaluate(node(Gabor(wavelength=6, orientation=k)), wave)[0, 24, 24]
        for k in (0, 45, 90, 135)
    }
    assert max(strength, key=strength.get) == angle


def test_lengths_are_divided_by_the_spacing():
    assert node(Gabor(wavelength=8, sigma=4), Grid((2.0, 2.0), "mm")) == node(
        Gabor(wavelength=4, sigma=2)
    )


def test_a_count_of_orientations_spreads_over_half_a_turn():
    assert Gabor.spread({"wavelength": [4, 8], "orientations": 8}) == {
        "wavelength": [4, 8],
        "orientation": [0.0, 22.5, 45.0, 67.5, 90.0, 112.5, 135.0, 157.5],
    }
    assert Gabor.spread({"wavelength": 4}) == {"wavelength": 4}


@pytest.mark.parametrize("count", [0, 2.5, True, [4, 8], "4", 361])
def test_orientations_that_are_no_count_are_refused(count):
    with pytest.raises(ValueError, match="orientations is a count from 1 to 360"):
        Gabor.spread({"wavelength": 4, "orientations": count})


def test_orientation_and_orientations_exclude_each_other():
    with pytest.raises(ValueError, match="give one of them"):
        Gabor.spread({"wavelength": 4, "orientations": 4, "orientation": 45})


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Gabor(wavelength=4), Grid((1.0, 1.0, 1.0)), "2-D images with square pixels .got 3 axes"),
        (Gabor(wavelength=4), Grid((2.0, 1.0), "mm"), r"spacing \(2.0, 1.0\)"),
        (Gabor(wavelength=3), Grid((2.0, 2.0), "mm"), "is 1.5 pixels; waves under 2 pixels"),
        (Gabor(wavelength=1e300), PIXELS, "too large"),
    ],
)
def test_what_gabor_cannot_do_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)

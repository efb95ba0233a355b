"""Laws kernels, their names' axis order, rotations and energy."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import ndimage

from pipeline.bank.expr import Edge, nodes_of
from pipeline.errors import PlanError
from pipeline.filters.laws import TAPS, Laws
from pipeline.types import Grid

FLAT, VOLUME = Grid((1.0, 1.0)), Grid((1.0, 1.0, 1.0))


def test_the_first_name_runs_along_x_and_kernels_are_flipped_and_normalised(evaluate, image):
    picture = image(20, 23)
    e5, l5 = (np.array(TAPS[n]) / np.linalg.norm(TAPS[n]) for n in ("E5", "L5"))
    wanted = ndimage.convolve1d(ndimage.convolve1d(picture, e5, axis=1), l5, axis=0)
    got = evaluate(Laws(kernels="E5L5").responses(FLAT)[""], picture[None])[0]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-11)


def test_energy_is_the_mean_of_the_absolute_response_over_a_box(evaluate, image):
    picture = image(20, 23)
    plain = evaluate(Laws(kernels="S3R5").responses(FLAT)[""], picture[None])[0]
    node = Laws(kernels="S3R5", energy=2).responses(FLAT)[""]
    assert [type(n) for n in nodes_of(node)].count(Edge) == 1
    wanted = ndimage.uniform_filter(np.abs(plain), 5)
    np.testing.assert_allclose(evaluate(node, picture[None])[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_rotation_invariant_responses_turn_with_the_image(evaluate, image, pool):
    picture = image(21, 21)
    node = Laws(kernels="E5S5", rotation_invariant=pool).responses(FLAT)[""]
    got, turned = (evaluate(node, p[None])[0] for p in (picture, np.rot90(picture)))
    np.testing.assert_allclose(turned, np.rot90(got), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "first", "second", "sign"),
    [
        ("L5", "L3", "L3", 1), ("E5", "L3", "E3", 1), ("S5", "L3", "S3", 1),
        ("W5", "E3", "S3", -1), ("R5", "S3", "S3", 1),
        ("L7", "L3", "L5", 1), ("E7", "L3", "E5", 1), ("S7", "L3", "S5", 1),
        ("W7", "L3", "W5", 1), ("R7", "L3", "R5", 1), ("O7", "S3", "R5", 1),
    ],
)  # fmt: skip
def test_longer_kernels_are_products_of_shorter_ones(name, first, second, sign):
    """How K. Laws made them; the two signs are the IBSI's."""
    assert list(TAPS[name]) == (sign * np.convolve(TAPS[first], TAPS[second])).tolist()


def scipys_rotations(volume, names, signs):
    """E5W5E3 and the like by scipy: name i along axis order[i], over axis orders and flips."""
    taps = [np.array(TAPS[n]) / np.linalg.norm(TAPS[n]) for n in names]
    for order in permutations(range(3)):
        parity = round(np.linalg.det(np.eye(3)[list(order)]))
        for flips in product((1, -1), repeat=3):
            if parity * np.prod(flips) in signs:
                out = volume
                for kernel, axis, flip in zip(taps, order, flips, strict=True):
                    out = ndimage.convolve1d(out, kernel[::flip], axis=axis)
                yield out


def test_a_volume_is_pooled_over_24_rotations_and_no_reflections(evaluate, image):
    """What no test of the IBSI tells apart: with E5W5E3 mirror images change the maximum."""
    volume = image(9, 11, 13)
    node = Laws(kernels="E5W5E3", rotation_invariant="max").responses(VOLUME)[""]
    got = evaluate(node, volume[None])[0]
    names = ("E3", "W5", "E5")  # z, y, x
    proper = np.max([*scipys_rotations(volume, names, {1})], axis=0)
    every = np.max([*scipys_rotations(volume, names, {1, -1})], axis=0)
    np.testing.assert_allclose(got, proper, rtol=0, atol=1e-11)
    assert np.abs(got - every).max() > 0.1 * np.ptp(got)


def test_equal_rotations_are_computed_once():
    assert len(Laws(kernels="L5L5S5", rotation_invariant="max").responses(VOLUME)[""].of) == 3


@pytest.mark.parametrize("name", ["", "L5X5", "l5e5", "L5E", "L55E"])
def test_unknown_names_are_refused_with_the_choices(name):
    with pytest.raises(ValueError, match="is not made of Laws kernels; choose from: L3, L5, E3"):
        Laws(kernels=name)


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Laws(kernels="L5E5"), VOLUME, "'L5E5' has 2 kernels, these images have 3 axes"),
        (Laws(kernels="L5E5", energy=10**6), FLAT, "taps is too large"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)

"""Rotation invariance: pooled responses turn with the image, whatever the family."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import PlanError
from pipeline.filters.base import FILTERS
from pipeline.types import Grid

ROUNDING = 1e-9
LAYERS = [
    {"weights": [[[[1, -2], [3, 5]]], [[[2, 1], [-4, 1]]]], "pool": "max", "size": 3},
    {"weights": [[[[1, -1]], [[2, -3]]]], "activation": "abs", "pool": "mean", "size": 2},
]
CASES = [
    ("sobel", {"output": "x"}, ["max"]),
    ("prewitt", {"output": "y", "size": 5}, ["max"]),
    ("scharr", {"output": "x", "size": 5}, ["max"]),
    ("farid", {"output": "xy"}, ["max"]),
    ("kirsch", {"output": "ne"}, ["max", "mean"]),
    ("robinson", {"output": "e"}, ["max"]),
    ("prewitt_compass", {"output": "s", "normalize": True}, ["mean"]),
    ("stack", {"layers": LAYERS}, ["max", "mean"]),
    ("roberts", {"output": "diagonal"}, ["max", "mean"]),
    ("roberts", {"output": "magnitude"}, ["max", "mean"]),
    ("emboss", {"direction": "ne"}, ["max", "mean"]),
    ("gaussian", {"sigma": 1, "derivative": "xxx"}, ["max", "mean"]),
    ("gabor", {"wavelength": 4, "orientation": 20, "output": "imaginary"}, ["max", "mean"]),
    ("gabor", {"wavelength": 4, "orientation": 20, "phase": 30}, ["max", "mean"]),
    ("log_gabor", {"wavelength": 4, "orientation": 20, "output": "odd"}, ["max", "mean"]),
    ("log_gabor", {"wavelength": 5, "orientation": 50}, ["max"]),
    ("steerable", {"sigma": 1, "orientation": 20, "output": "odd", "order": 4}, ["max", "mean"]),
    ("steerable", {"sigma": 1, "orientation": 20}, ["mean"]),
    ("riesz", {"order": "xxy", "grid": "dft"}, ["max", "mean"]),
    ("riesz", {"order": "x", "level": 1}, ["max"]),
    ("riesz", {"order": "xy", "sigma": 1}, ["max"]),
    ("hessian", {"sigma": 1, "output": "xx"}, ["max", "mean"]),
    ("structure_tensor", {"sigma": 1, "rho": 1, "output": "xy"}, ["max", "mean"]),
    ("motion", {"length": 4, "orientation": 20}, ["max", "mean"]),
    ("leung_malik", {"scale": 0.1}, ["max"]),
    ("rfs", {"scale": 0.1}, ["mean"]),
    ("random", {"count": 2, "size": 4}, ["max", "mean"]),
    ("random", {"count": 2, "size": 3, "bias": False}, ["mean"]),
    ("kernel", {"weights": [[1, 2, 3], [5, 8, 13]]}, ["max", "mean"]),
    ("laws", {"kernels": "L5E5", "energy": 2}, ["max", "mean"]),
    ("wavelet", {"wavelet": "db2", "level": 2, "subbands": "LH"}, ["max", "mean"]),
]
ALL = [(name, given, how) for name, given, hows in CASES for how in hows]
VOLUMES = [
    ("gabor", {"wavelength": 4, "orientation": 20}),
    ("steerable", {"sigma": 0.6, "orientation": 20, "output": "odd"}),
    ("log_gabor", {"wavelength": 4, "orientation": 20, "output": "odd"}),
    ("riesz", {"order": "xyy", "grid": "dft"}),
    ("hessian", {"sigma": 0.6, "output": "xz"}),
    ("motion", {"length": 4, "orientation": 20, "elevation": 35}),
]


def make(name, given):
    return TypeAdapter(FILTERS[name]).validate_python(given)


def responses(evaluate, item, picture):
    grid = Grid((1.0,) * picture.ndim)
    return [evaluate(node, picture[None])[0] for node in item.responses(grid).values()]


@pytest.mark.parametrize(("name", "given", "how"), ALL, ids=lambda value: str(value))
def test_pooled_responses_turn_with_the_image(name, given, how, evaluate, image):
    """An even image, and sides that differ: a rotation exchanges them."""
    picture = image(14, 17)
    item = make(name, given | {"rotation_invariant": how})
    wanted = responses(evaluate, item, picture)
    got = responses(evaluate, item, np.rot90(picture).copy())
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(
            one, np.rot90(other), rtol=0, atol=ROUNDING * np.abs(other).max() + ROUNDING
        )


@pytest.mark.parametrize(("name", "given"), VOLUMES, ids=lambda value: str(value))
def test_in_volumes_all_24_rotations_are_pooled(name, given, evaluate, image):
    volume = image(6, 7, 8)
    item = make(name, given | {"rotation_invariant": "max"})
    (wanted,) = responses(evaluate, item, volume)
    for axes in ((0, 1), (1, 2)):  # these two make all
        (got,) = responses(evaluate, item, np.rot90(volume, axes=axes).copy())
        error = ROUNDING * np.abs(wanted).max()
        np.testing.assert_allclose(got, np.rot90(wanted, axes=axes), rtol=0, atol=error)


@pytest.mark.parametrize(
    ("name", "given", "how"), [case for case in ALL if case[2] == "max"], ids=lambda v: str(v)
)
def test_each_of_these_families_has_a_direction(name, given, how, evaluate, image):
    """What is pooled does not turn with the image by itself."""
    del how
    picture = image(14, 17)
    item = make(name, given)
    plain, other = (responses(evaluate, item, p.copy()) for p in (picture, np.rot90(picture)))
    assert any(
        np.abs(b - np.rot90(a)).max() > 1e-3 * np.abs(a).max()
        for a, b in zip(plain, other, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        ("hessian", {"sigma": 1, "output": "trace"}, "output: trace cannot be pooled .* the same"),
        (
            "structure_tensor",
            {"sigma": 1, "rho": 1, "output": "orientation"},
            "output: orientation cannot be pooled over rotations: .* leave rotation_invariant out",
        ),
        (
            "kirsch",
            {"output": "argmax"},
            "argmax cannot .* it is of all directions already",
        ),
        ("stack", {"layers": [LAYERS[0] | {"size": 2}]}, "max window of even size has no pixel"),
        ("riesz", {"order": "x", "tensor_sigma": 1}, "tensor_sigma turns it with the image"),
        (
            "gabor",
            {"wavelength": 4, "orientations": 4, "pool": "max"},
            "pool: max takes all directions already",
        ),
    ],
)
def test_what_turning_does_not_change_is_refused(name, given, text):
    with pytest.raises(ValidationError, match=text):
        make(name, given | {"rotation_invariant": "max"})


def test_pixels_that_are_not_square_are_refused():
    item = make("steerable", {"sigma": 2, "rotation_invariant": "max"})
    with pytest.raises(PlanError, match=r"steerable: a rotation needs pixels of equal edges"):
        item.responses(Grid((1.0, 0.5), "mm"))

"""Fused kernels in Triton's interpreter against the same sums of taps in numpy, pixel by pixel.

Responses are float32 sums of taps in C order; what is found out about them is then compared with
numpy and scipy in float64. Images are tiny: the interpreter takes a millisecond for each line.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.bank.expr import Kernel
from pipeline.fused import launch
from pipeline.fused.block import Walked, walked
from pipeline.fused.choose import TOGETHER
from pipeline.fused.keys import keys
from pipeline.fused.pixels import Recomputed
from pipeline.fused.source import Stencil
from pipeline.statistics import accumulators
from pipeline.types import Ints, Reach, Region

pytest.importorskip("triton", reason="Triton is not installed")

Array = np.ndarray
WIDE = Region((0, 0), (2, 4))
ROUNDING = 1e-12
"""Of sums in float64: of magnitudes, relative."""


@pytest.fixture(scope="module", autouse=True)
def small_tiles() -> Iterator[None]:
    """An image of a few rows has several."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(launch, "ROWS", 4)
        patched.setattr(launch, "BLOCK", 16)
        yield


def pixels(inputs: Array, kernels: list[Kernel], box: Region) -> tuple[Recomputed, Array]:
    """Pixels in a box of what is padded by the widest reach, and the responses to compare with."""
    margin = widest(kernels)
    shape = tuple(n - a - b for n, (a, b) in zip(inputs.shape[1:], margin, strict=True))
    found = np.zeros((len(inputs), len(kernels), *shape), np.float32)
    for f, kernel in enumerate(kernels):
        weights = kernel.array.astype(np.float32)
        corner = [a - own for (a, _), (own, _) in zip(margin, kernel.reach, strict=True)]
        for at in np.argwhere(weights):
            start = corner + at
            window = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
            part = inputs[(slice(None), *window)].astype(np.float32)
            found[:, f] += weights[tuple(at)] * part
    found = found[(slice(None), slice(None), *box.slices())]
    given = Recomputed(torch.from_numpy(inputs), box, Stencil(tuple(kernels), margin))
    return given, found.reshape(-1 if found.size else 0, *found.shape[2:])


def widest(kernels: list[Kernel]) -> Reach:
    reaches = [kernel.reach for kernel in kernels]
    return tuple(
        (max(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*reaches, strict=True)
    )


def padded(rng: np.random.Generator, kernels: list[Kernel], shape: Ints, planes: int, dtype: str):
    extents = [n + a + b for n, (a, b) in zip(shape, widest(kernels), strict=True)]
    x = rng.integers(0, 256, (planes, *extents))
    return (x + rng.standard_normal(x.shape) if dtype == "float32" else x).astype(dtype)


def answers(given: Recomputed, *asks):
    """What is asked, after as many walks as it takes, and how many those were."""
    walks = 0
    for ask in asks:
        ask(given)
    while given.asked:
        given.walk()
        walks += 1
        for ask in asks:
            ask(given)
    given.guessed = False
    found = [ask(given) for ask in asks]
    assert not given.guessed
    return found, walks


def check(given: Recomputed, x: Array) -> int:
    """Everything that a statistic asks, of pixels x (P, *shape) in one cell; returns the walks."""
    flat = x.reshape(len(x), -1).astype(np.float64)
    n = flat.shape[1]
    extremes = np.stack((flat.min(1), flat.max(1)), 1)
    centres = np.quantile(flat, [0.3, 0.8], axis=1).T
    ranks = np.tile(np.unique([0, 0, n // 10, n // 2, n // 2 + 1, n - 1]), (len(x), 1))
    top = flat.astype(np.float32).view(np.int32)
    top = (np.where(top < 0, ~top.view(np.uint32), top.view(np.uint32) | 0x80000000) >> 27).astype(
        int
    )
    (moments, ends, apart, within, bins, ranked), walks = answers(
        given,
        lambda p: p.moments(),
        lambda p: p.extremes(),
        lambda p: p.deviations(centres),
        lambda p: p.within(centres, centres[:, 0]),
        lambda p: p.bins(extremes, 10),
        lambda p: p.ranked(ranks),
    )
    first = keys(torch.zeros((len(x), 1), dtype=torch.int64), (5,))
    (counts,) = launch.reduce(given.inputs, given.box, given.stencil, [first])
    size = np.abs(flat).max() + 1.0
    close = {"rtol": ROUNDING, "atol": 0.0}
    seven = moments.reshape(len(x), 7).T
    np.testing.assert_array_equal(seven[0], n)
    np.testing.assert_allclose(seven[1], flat.mean(1), rtol=0, atol=ROUNDING * size)
    for power in (2, 3, 4):
        wanted = stats.moment(flat, power, axis=1, center=seven[1][:, None]) * n
        np.testing.assert_allclose(seven[power], wanted, rtol=1e-9, atol=ROUNDING * n * size**power)
    np.testing.assert_allclose(seven[5], flat.sum(1), rtol=0, atol=ROUNDING * n * size)
    np.testing.assert_allclose(seven[6], (flat * flat).sum(1), rtol=ROUNDING)
    np.testing.assert_array_equal(ends, extremes)
    for k in range(2):
        wanted = np.abs(flat - centres[:, k : k + 1]).sum(1)
        np.testing.assert_allclose(apart.reshape(len(x), 2)[:, k], wanted, **close)
    inside = (flat >= centres[:, :1]) & (flat <= centres[:, 1:])
    np.testing.assert_array_equal(within.reshape(len(x), 3)[:, 0], inside.sum(1))
    total = np.where(inside, flat, 0.0).sum(1)
    np.testing.assert_allclose(within.reshape(len(x), 3)[:, 1], total, atol=ROUNDING * n * size)
    for p, plane in enumerate(flat):
        low, high = extremes[p]
        places = np.floor((plane - low) * 10 / (high - low if high > low else 1.0)).clip(0, 9)
        np.testing.assert_array_equal(bins[p], np.bincount(places.astype(int), minlength=10))
        np.testing.assert_array_equal(ranked[p], np.sort(plane)[ranks[p]])
        np.testing.assert_array_equal(counts[p, 0], np.bincount(top[p], minlength=32))
    return walks


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@settings(max_examples=2)
@given(st.integers(0, 2**32 - 1))
def test_random_kernels_on_random_images(dtype: str, seed: int) -> None:
    """Sides are no multiples of a tile's."""
    rng = np.random.default_rng(seed)
    kernels = []
    for shape in rng.integers(1, 5, (2, 2)):
        weights = rng.standard_normal(shape) * (rng.random(shape) < 0.7)
        kernels.append(Kernel.of(weights, origin=tuple(rng.integers(0, shape).tolist())))
    shape = tuple(int(n) for n in rng.integers(1, (7, 23)))
    given_, x = pixels(padded(rng, kernels, shape, 1, dtype), kernels, Region.whole(shape))
    check(given_, x)


def test_a_full_group_on_more_than_one_full_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as they are on a GPU, of the type that pixels have there."""
    rng = np.random.default_rng(6)
    monkeypatch.setattr(launch, "ROWS", rows := 6)
    monkeypatch.setattr(launch, "BLOCK", block := 128)
    kernels = [Kernel.of(rng.standard_normal((3, 3))) for _ in range(TOGETHER)]
    shape = (rows + 2, block + 12)
    given_, x = pixels(padded(rng, kernels, shape, 1, "float32"), kernels, Region.whole(shape))
    check(given_, x)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_slices_of_volumes(dtype: str) -> None:
    """Kernels that see their neighbours, too."""
    rng = np.random.default_rng(7)
    kernels = [Kernel.of(rng.standard_normal(shape)) for shape in ((2, 1, 3), (3, 2, 1))]
    shape = (1, 5, 18)
    given_, x = pixels(padded(rng, kernels, shape, 2, dtype), kernels, Region.whole(shape))
    check(given_, x)


def test_volumes_have_a_cell_for_each_slice() -> None:
    rng = np.random.default_rng(1)
    kernels = [Kernel.of(rng.standard_normal((2, 1, 3)))]
    shape = (2, 3, 5)
    given_, x = pixels(padded(rng, kernels, shape, 1, "uint8"), kernels, Region.whole(shape))
    (moments,), _ = answers(given_, lambda p: p.moments())
    assert moments.shape == (1, 2, 1, 1, 7)
    flat = x.reshape(2, -1).astype(np.float64)
    np.testing.assert_allclose(moments[0, :, 0, 0, 1], flat.mean(1), rtol=ROUNDING)
    np.testing.assert_allclose(moments[0, :, 0, 0, 2], flat.var(1) * 15, rtol=ROUNDING)


def test_a_box_is_cut_at_cells_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Column 256 begins another one."""
    rng = np.random.default_rng(2)
    kernels = [Kernel.of([[1, -1]])]
    shape = (3, 300)
    box = Region((1, 250), (3, 260))
    monkeypatch.setattr(launch, "ROWS", 64)
    monkeypatch.setattr(launch, "BLOCK", 4)
    given_, x = pixels(padded(rng, kernels, shape, 2, "uint8"), kernels, box)
    (moments, ends, ranked), walks = answers(
        given_,
        lambda p: p.moments(),
        lambda p: p.extremes(),
        lambda p: p.ranked(np.array([[0, 9, 19]] * 2)),
    )
    assert walks == 3
    left, right = x[..., :6].astype(np.float64), x[..., 6:].astype(np.float64)
    np.testing.assert_array_equal(moments[:, 0, :, 0], [[12, 8]] * 2)
    np.testing.assert_array_equal(moments[:, 0, 0, 5], left.sum((1, 2)))
    np.testing.assert_array_equal(moments[:, 0, 1, 6], (right**2).sum((1, 2)))
    np.testing.assert_array_equal(ends, np.stack((x.min((1, 2)), x.max((1, 2))), 1))
    np.testing.assert_array_equal(ranked, np.sort(x.reshape(2, -1), 1)[:, [0, 9, 19]])


def test_sums_over_integers_are_exact_and_a_constant_has_no_spread() -> None:
    kernels = [Kernel.of([[1, 2, 1]]), Kernel.of([[0.1, 0.2, 0.3]])]
    inputs = np.full((1, 4, 30), 255, np.uint8)
    inputs[0, 2, 3:] = 254
    given_, x = pixels(inputs, kernels, Region.whole((4, 28)))
    (moments,), _ = answers(given_, lambda p: p.moments())
    whole = x[0].astype(object)
    assert moments[0, 0, 0, 5] == whole.sum()
    assert moments[0, 0, 0, 6] == (whole * whole).sum()
    given_, _ = pixels(np.full((1, 4, 30), 77, np.uint8), kernels, Region.whole((4, 28)))
    (moments,), _ = answers(given_, lambda p: p.moments())
    assert (moments[:, 0, 0, 2:5] == 0.0).all()
    two = np.array([[77.0, 0.0]] * 2), np.array([[0.0, 10.0]] * 2)
    (near, far), walks = answers(given_, *(lambda p, c=c: p.deviations(c) for c in two))
    assert walks == 2  # one question of a kind at a time
    np.testing.assert_allclose(near[0, 0, 0, 1], 4 * 28 * 4 * 77)
    np.testing.assert_array_equal(far[0, 0, 0], [4 * 28 * 4 * 77, 4 * 28 * (4 * 77 - 10)])


def test_a_far_first_pixel_costs_no_more_digits_than_it_may() -> None:
    """Every power is taken about it before it is moved to the mean."""
    rng = np.random.default_rng(3)
    inputs = (1e-3 * rng.standard_normal((1, 8, 32))).astype(np.float32)
    inputs[0, 0, 0] = 1e3
    given_, x = pixels(inputs, [Kernel.of([[1.0]])], Region.whole((8, 32)))
    (moments,), _ = answers(given_, lambda p: p.moments())
    flat = x.ravel().astype(np.longdouble)
    for power in (2, 3, 4):
        wanted = float(((flat - flat.mean()) ** power).sum())
        assert moments[0, 0, 0, power] == pytest.approx(wanted, rel=8 * 256 * 2**-52)


def test_walks_repeat_to_the_bit_and_planes_do_not_depend_on_their_company() -> None:
    rng = np.random.default_rng(4)
    kernels = [Kernel.of(rng.standard_normal((2, 2)))]
    inputs = padded(rng, kernels, (5, 18), 2, "float32")
    centres = np.array([[3.0, 40.0]] * 2)

    def found(inputs: Array) -> tuple[Array, Array]:
        given_, _ = pixels(inputs, kernels, Region.whole((5, 18)))
        asks = lambda p: p.moments(), lambda p: p.deviations(centres[: len(inputs)])
        return tuple(answers(given_, *asks)[0])

    both, again, second = found(inputs), found(inputs), found(inputs[1:])
    for a, b, c in zip(both, again, second, strict=True):
        assert a.tobytes() == b.tobytes()
        assert a[1:].tobytes() == c.tobytes()


@pytest.mark.parametrize(
    ("names", "walks"), [(["mean", "max"], 1), (["mean", "p10", "entropy"], 3), (["all"], 5)]
)
def test_statistics_share_walks(
    names: list[str], walks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_, _ = pixels(np.eye(2, 4, dtype=np.uint8)[None], [Kernel.of([[3.0]])], WIDE)
    walk, count = given_.walk, []
    monkeypatch.setattr(given_, "walk", lambda: (count.append(1), walk()))
    walked(Walked.of(given_, WIDE.shape), accumulators(names))
    assert len(count) == walks


def test_what_is_not_finite_is_said() -> None:
    """As of pixels that are stored: extremes that are not finite have no bins."""
    inputs = np.ones((2, 2, 9), np.float32)
    inputs[0, 1, 4], inputs[1, 1, 4] = np.nan, np.inf
    given_, _ = pixels(inputs, [Kernel.of([[1.0]])], Region.whole((2, 9)))
    with np.errstate(invalid="ignore"):
        (ends,), _ = answers(given_, lambda p: p.extremes())
        (bins, ranked), _ = answers(
            given_, lambda p: p.bins(ends, 4), lambda p: p.ranked(np.array([[16, 17]] * 2))
        )
    np.testing.assert_array_equal(ends, [[np.nan, np.nan], [1, np.inf]])
    assert (bins == 0).all()
    np.testing.assert_array_equal(ranked, [[1, np.nan], [1, np.inf]])


def test_an_empty_box_has_no_pixels() -> None:
    given_, _ = pixels(np.ones((1, 3, 3), np.uint8), [Kernel.of([[1.0]])], Region((1, 1), (1, 3)))
    (moments, ends), _ = answers(given_, lambda p: p.moments(), lambda p: p.extremes())
    assert (given_.counts() == 0).all()
    assert moments[0, 0, 0, 0] == 0
    np.testing.assert_array_equal(ends, [[np.inf, -np.inf]])

"""Statistics: equal to slow oracles, and a plane's bits are its own."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise, product
from math import log2
from pathlib import Path
from random import Random
from threading import Barrier

import numpy as np
import numpy.typing as npt
import pytest
import scipy
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.statistics import (
    COLUMNS,
    GROUPS,
    STATISTICS,
    Block,
    accumulators,
    counting,
    expand,
    sums,
)
from pipeline.statistics.base import Pixels, Statistic
from pipeline.statistics.cells import CELL
from pipeline.statistics.census import SPARSE, Census
from pipeline.statistics.dense import Dense
from pipeline.statistics.fine import FEW, Fine
from pipeline.statistics.finish import log2 as own_log2
from pipeline.statistics.lazy import lazy
from pipeline.statistics.ratios import RATIOS, ratios

ROUNDING = 1e-11  # float64 sums in another order, at values near 1
CANCELLING = 1e-9  # relative: moments of small noise on a large offset

Array = npt.NDArray[np.float64]
Columns = dict[str, Tensor]


class Elsewhere(Block):
    """A block that is reduced as one on a GPU is."""

    @property
    def pixels(self) -> Pixels:  # type: ignore[override]
        return Dense(self)


both = pytest.mark.parametrize("kind_of", [Block, Elsewhere], ids=["compiled", "torch"])


def measure(statistic: Statistic, blocks: list[Block]) -> Columns:
    """Drive one accumulator as the measure stage does."""
    brief = None
    while True:
        states = [statistic.start(block, brief) for block in blocks]
        state = states[0]
        for other in states[1:]:
            state = statistic.merge(state, other)
        if (brief := statistic.next(state)) is None:
            return {k: torch.from_numpy(v) for k, v in statistic.finish(state).items()}


def measure_all(blocks: list[Block]) -> Columns:
    found = {k: v for s in accumulators(["all"]) for k, v in measure(s, blocks).items()}
    made = ratios({k: v.numpy() for k, v in found.items()})
    return found | {k: torch.from_numpy(v) for k, v in made.items()}


def of(values: Tensor, valid: Tensor | None = None, kind_of: type[Block] = Block) -> Columns:
    return measure_all([kind_of.whole(values, valid)])


def assert_bits(a: Columns, b: Columns) -> None:
    """Equal to the last bit; NaN equals NaN."""
    assert a.keys() == b.keys()
    for name in a:
        left, right = (c[name].numpy().view(np.int64) for c in (a, b))
        assert np.array_equal(left, right), name


def planes(seed: int, shape: tuple[int, ...], kind: str = "noise") -> Tensor:
    rng = np.random.default_rng(seed)
    values = {
        "noise": lambda: rng.normal(0, 3, shape),
        "skewed": lambda: rng.gamma(0.5, 2, shape),
        "integers": lambda: rng.integers(0, 256, shape),
        "signed": lambda: rng.normal(0, 40, shape).round(),  # few numbers, of both signs
        "halves": lambda: rng.normal(0, 40, shape).round() / 2,
        "two": lambda: rng.integers(0, 2, shape) * -0.0,
        "offset": lambda: 1e6 + rng.normal(0, 1, shape),
        "constant": lambda: np.full(shape, 0.1),
    }[kind]()
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


KINDS = ["noise", "skewed", "integers", "signed", "halves", "two", "offset", "constant"]
SHAPES = [(1,), (2,), (3,), (17,), (300,), (1, 1), (7, 9), (33, 20), (105, 105), (3, 5, 7)]


# --- oracles ---------------------------------------------------------------------------------


def oracle(x: Array) -> dict[str, float]:
    """The definitions, by numpy and scipy in float64, of the valid values of one plane."""
    centred = x - x.mean()
    flat = np.ptp(x) == 0
    quantiles = {f"p{p:02}": np.percentile(x, p) for p in (1, 5, 10, 25, 50, 75, 90, 95, 99)}
    inner = x[(quantiles["p10"] <= x) & (x <= quantiles["p90"])]
    quartiles = quantiles["p75"] - quantiles["p25"]
    return {
        "mean": x.mean(),
        "std": x.std(),
        "variance": x.var(),
        "min": x.min(),
        "max": x.max(),
        "skewness": 0.0 if flat else scipy.stats.skew(centred),
        "kurtosis": 0.0 if flat else scipy.stats.kurtosis(centred),
        "energy": (x * x).sum(),
        "rms": np.sqrt((x * x).mean()),
        **quantiles,
        "iqr": quantiles["p75"] - quantiles["p25"],
        "mad": np.abs(centred).mean(),
        "entropy": oracle_entropy(x),
        "range": np.ptp(x),
        "medad": np.abs(x - np.median(x)).mean(),
        "rmad": np.abs(inner - inner.mean()).mean() if inner.size else np.nan,
        "cov": scipy.stats.variation(x) if x.mean() else np.nan,
        "qcod": quartiles / total if (total := quantiles["p75"] + quantiles["p25"]) else np.nan,
    }


def oracle_entropy(x: Array) -> float:
    if np.ptp(x) == 0:
        return 0.0
    bins = np.minimum(np.floor((x - x.min()) * 64 / np.ptp(x)), 63).astype(int)
    p = np.bincount(bins, minlength=64) / x.size
    return float(scipy.stats.entropy(p, base=2))


EXACT = {"min", "max", "range", "iqr", *(f"p{p:02}" for p in (1, 5, 10, 25, 50, 75, 90, 95, 99))}


def assert_oracle(found: Columns, plane: int, x: Array) -> None:
    for name, expected in oracle(x).items():
        got = found[name][plane].item()
        if name in EXACT:
            assert got == expected, name
        else:
            assert got == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING, nan_ok=True), name


@pytest.mark.parametrize("kind", ["noise", "skewed", "integers", "two", "constant"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@both
def test_equals_numpy_and_scipy(kind_of: type[Block], kind: str, shape: tuple[int, ...]) -> None:
    values = planes(1, (3, *shape), kind)
    found = of(values, kind_of=kind_of)
    for i in range(3):
        assert_oracle(found, i, values[i].double().numpy().ravel())


@pytest.mark.parametrize("shape", [(300, 520), (2, 257, 300), (70_000,)], ids=str)
@both
def test_equals_numpy_and_scipy_across_cells(kind_of: type[Block], shape: tuple[int, ...]) -> None:
    values = planes(2, (2, *shape), "skewed")
    found = of(values, kind_of=kind_of)
    for i in range(2):
        assert_oracle(found, i, values[i].double().numpy().ravel())


@pytest.mark.parametrize("shape", [(40,), (31, 33), (300, 300), (3, 20, 21)], ids=str)
@both
def test_invalid_pixels_do_not_count(kind_of: type[Block], shape: tuple[int, ...]) -> None:
    values = planes(3, (4, *shape))
    valid = torch.rand(values.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    valid[2] = False
    valid[3] = True
    values[~valid] = float("nan")
    found = of(values, valid, kind_of)
    for i in (0, 1, 3):
        assert_oracle(found, i, values[i][valid[i]].double().numpy())
    assert all(column[2].isnan() for column in found.values())


@both
def test_one_valid_pixel(kind_of: type[Block]) -> None:
    values = planes(4, (1, 5, 6))
    valid = torch.zeros_like(values, dtype=torch.bool)
    valid[0, 2, 3] = True
    found = {name: column.item() for name, column in of(values, valid, kind_of).items()}
    x = float(values[0, 2, 3])
    assert found["mean"] == found["min"] == found["p99"] == found["max"] == x
    zeros = ("std", "variance", "skewness", "kurtosis", "iqr", "mad", "range", "medad", "entropy")
    assert [found[name] for name in zeros] == [0.0] * len(zeros)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.25, 1e6 + 0.0625, 3e38, 1e-45])
@both
def test_a_constant_plane_has_no_spread_and_no_shape(kind_of: type[Block], value: float) -> None:
    found = of(torch.full((2, 300, 270), value), kind_of=kind_of)
    expected = torch.tensor(value, dtype=torch.float32).double().item()
    assert found["mean"].tolist() == [expected] * 2
    for name in ("std", "variance", "skewness", "kurtosis", "iqr", "mad", "range", "entropy"):
        assert found[name].tolist() == [0.0] * 2, name


@both
def test_integers_have_an_exact_mean_and_energy(kind_of: type[Block]) -> None:
    values = planes(5, (2, 300, 300), "integers")
    found = of(values, kind_of=kind_of)
    whole = values.long().flatten(1)
    assert found["energy"].tolist() == (whole * whole).sum(1).tolist()
    assert found["mean"].tolist() == [s / 90_000 for s in whole.sum(1).tolist()]


@pytest.mark.parametrize("shape", [(64, 64), (300, 300)], ids=str)
def test_small_noise_on_a_large_offset_keeps_its_digits(shape: tuple[int, ...]) -> None:
    values = planes(6, (1, *shape), "offset")
    x = [Fraction(v) for v in values.double().flatten().tolist()]
    mean = sum(x) / len(x)
    m2, m3, m4 = (float(sum((v - mean) ** k for v in x) / len(x)) for k in (2, 3, 4))
    skewness, kurtosis = m3 / m2**1.5, m4 / m2**2 - 3
    for kind_of in (Block, Elsewhere):
        found = of(values, kind_of=kind_of)
        assert found["mean"].item() == pytest.approx(float(mean), rel=1e-15)
        assert found["variance"].item() == pytest.approx(m2, rel=CANCELLING)
        assert found["skewness"].item() == pytest.approx(skewness, rel=CANCELLING, abs=CANCELLING)
        assert found["kurtosis"].item() == pytest.approx(kurtosis, rel=CANCELLING, abs=CANCELLING)


def test_entropy_of_known_distributions() -> None:
    uniform = torch.arange(64.0).repeat(3)[None]
    assert of(uniform)["entropy"].item() == 6.0
    assert of(torch.tensor([[0.0, 1.0, 1.0, 1.0]]))["entropy"].item() == pytest.approx(
        2 - 0.75 * log2(3), abs=1e-15
    )


@both
def test_entropy_bins_of_integers_are_exact(kind_of: type[Block]) -> None:
    """bin = v * 64 // 127 for v in 0 .. 127, but 127 itself closes bin 63."""
    count_of = range(1, 129)  # v occurs v + 1 times
    values = torch.tensor([float(v) for v in range(128) for _ in range(count_of[v])])
    bins = [0] * 64
    for v in range(128):
        bins[min(v * 64 // 127, 63)] += count_of[v]
    p = [n / sum(bins) for n in bins]
    expected = -sum(q * log2(q) for q in p)
    assert of(values[None], kind_of=kind_of)["entropy"].item() == pytest.approx(expected, rel=1e-14)


def test_log2_is_accurate_and_exact_for_powers_of_two() -> None:
    x = np.random.default_rng(0).random(20_000)
    for v in (*x.tolist(), *(1 - x * 1e-6).tolist()):
        assert abs(own_log2(v) - log2(v)) <= 1e-15 * abs(log2(v))
    for power in range(-60, 61):
        assert own_log2(2.0**power) == power


@both
def test_overflowed_responses_do_not_stop_their_neighbours(kind_of: type[Block]) -> None:
    values = planes(7, (4, 9, 9))
    values[1, 2, 3] = float("inf")
    values[2, 0, 0] = float("nan")
    found = of(values, kind_of=kind_of)
    assert found["entropy"][1:3].isnan().all()
    assert found["mean"][1].isinf()
    clean = of(values[[0, 3]], kind_of=kind_of)
    assert_bits({k: v[[0, 3]] for k, v in found.items()}, clean)


# --- a plane's bits are its own --------------------------------------------------------------

engines = st.sampled_from([Block, Elsewhere])
extents = st.one_of(
    st.tuples(st.integers(1, 400)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(250, 262), st.integers(1, 20)),
)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 9),
    shape=extents,
    kind=st.sampled_from(KINDS),
    masked=st.booleans(),
    kind_of=engines,
)
def test_planes_together_equal_each_alone(
    seed: int,
    count: int,
    shape: tuple[int, ...],
    kind: str,
    kind_of: type[Block],
    *,
    masked: bool,
) -> None:
    values = planes(seed, (count, *shape), kind)
    valid = planes(seed + 1, (count, *shape)) > -2 if masked else None
    together = of(values, valid, kind_of)
    for i in range(count):
        inside = None if valid is None else valid[i : i + 1].clone()
        alone = of(values[i : i + 1].clone(), inside, kind_of)
        assert_bits({k: v[i : i + 1] for k, v in together.items()}, alone)


def test_many_planes_equal_each_alone() -> None:
    values = planes(8, (64, 105, 105))
    together = of(values)
    for i in (0, 11, 12, 63):
        assert_bits({k: v[i : i + 1] for k, v in together.items()}, of(values[i : i + 1]))


@given(seed=st.integers(0, 10_000), shape=extents, kind=st.sampled_from(KINDS), kind_of=engines)
def test_layout_in_memory_does_not_matter(
    seed: int, shape: tuple[int, ...], kind: str, kind_of: type[Block]
) -> None:
    values = planes(seed, (3, *shape), kind)
    valid = planes(seed + 1, (3, *shape)) > -2
    margin = torch.full((3, *(n + 5 for n in shape)), float("nan"))
    inner = (slice(None), *(slice(2, 2 + n) for n in shape))
    margin[inner] = values
    reversed_axes = tuple(range(values.ndim - 1, -1, -1))
    expected = of(values, valid, kind_of)
    assert_bits(of(margin[inner], valid, kind_of), expected)
    columns_first = values.permute(reversed_axes).contiguous().permute(reversed_axes)
    assert_bits(of(columns_first, valid, kind_of), expected)


@given(seed=st.integers(0, 10_000), shape=extents, kind=st.sampled_from(KINDS), kind_of=engines)
def test_a_full_mask_equals_no_mask(
    seed: int, shape: tuple[int, ...], kind: str, kind_of: type[Block]
) -> None:
    values = planes(seed, (2, *shape), kind)
    full = torch.ones_like(values, dtype=torch.bool)
    assert_bits(of(values, full, kind_of), of(values, kind_of=kind_of))


@pytest.mark.parametrize(
    ("kind_of", "shape"),
    [
        (Block, (64, 105, 105)),
        (Block, (2, 600, 700)),
        (Elsewhere, (8, 105, 105)),
        (Elsewhere, (1, 300, 400)),
    ],
    ids=str,
)
def test_the_number_of_threads_does_not_matter(
    kind_of: type[Block], shape: tuple[int, ...]
) -> None:
    values = planes(9, shape)
    valid = planes(10, shape) > -2
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            found.append((of(values, kind_of=kind_of), of(values, valid, kind_of)))
        finally:
            torch.set_num_threads(before)
    assert_bits(found[0][0], found[1][0])
    assert_bits(found[0][1], found[1][1])


def test_the_size_of_a_chunk_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    values, valid = planes(11, (7, 40, 50)), planes(12, (7, 40, 50)) > -2
    expected = of(values, valid, Elsewhere)
    for pixels in (1, 4096, 1 << 30):
        monkeypatch.setattr(sums, "_CPU_PIXELS", pixels)
        assert_bits(of(values, valid, Elsewhere), expected)


def test_inputs_are_left_as_they_were() -> None:
    for dtype in (torch.float32, torch.float64):
        values = planes(13, (3, 20, 30)).to(dtype)
        valid = values > -2
        copies = values.clone(), valid.clone()
        for kind_of in (Block, Elsewhere):
            of(values, valid, kind_of)
            of(values, kind_of=kind_of)
        assert torch.equal(values, copies[0])
        assert torch.equal(valid, copies[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_itself_and_with_the_cpu() -> None:
    values, valid = planes(22, (8, 300, 301)), planes(23, (8, 300, 301)) > -2
    together = of(values.cuda(), valid.cuda())
    assert_bits({k: v[3:4] for k, v in together.items()}, of(values[3:4].cuda(), valid[3:4].cuda()))
    for name, column in of(values, valid).items():
        torch.testing.assert_close(together[name], column, rtol=ROUNDING, atol=ROUNDING)


@given(
    seed=st.integers(0, 10_000),
    shape=extents,
    kind=st.sampled_from(KINDS),
    broken=st.lists(st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, 3e38])),
)
def test_compiled_loops_and_torch_agree(
    seed: int, shape: tuple[int, ...], kind: str, broken: list[float]
) -> None:
    """Exactly, but for the order in which sums are taken."""
    values = planes(seed, (3, *shape), kind)
    flat = values.view(3, -1)
    flat[0, : len(broken)] = torch.tensor(broken[: flat.shape[1]])
    valid = planes(seed + 1, (3, *shape)) > -2
    found, wanted = of(values, valid), of(values, valid, Elsewhere)
    for name in EXACT | {"entropy"}:
        assert_bits({name: found[name]}, {name: wanted[name]})
    for name in found.keys() - EXACT - {"entropy"}:
        torch.testing.assert_close(
            found[name][1:], wanted[name][1:], rtol=CANCELLING, atol=CANCELLING, equal_nan=True
        )
        assert torch.equal(found[name].isnan(), wanted[name].isnan()), name


SPECIAL = ["centre", "symmetric", "outlier", "quarters", "wide", "infinite", "nan", "gaps"]


def special(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Planes whose bins begin with pixels, or that many small spans hold badly."""
    x = np.random.default_rng(11).normal(0, 1, shape).astype(np.float32)
    flat = x.reshape(-1)
    if kind == "centre":  # min and max are so that their mean is a pixel
        flat[:3] = -5.5, 4.25, -0.625
    elif kind == "symmetric":
        flat[:6] = -6, 6, 0, -1e-30, 1e-30, 1e-45
    elif kind == "outlier":
        flat[7] = 1e30
    elif kind == "quarters":
        x = np.round(x * 64) / 4
    elif kind == "wide":
        x = np.sign(x) * np.exp2(25 * x)
    elif kind == "infinite":
        flat[[3, 5]] = np.inf, -np.inf
    elif kind == "nan":
        flat[9] = np.nan
    else:  # half of them at one value, none near it
        x = np.where(x < 0, np.float32(0.3), x + 5)
    return torch.from_numpy(x.astype(np.float32))


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
@pytest.mark.parametrize("kind", [*KINDS, *SPECIAL])
def test_what_one_block_finds_equals_what_blocks_are_searched_for(kind: str, masked: bool) -> None:
    """Large enough that pixels are not just sorted."""
    shape = (2, 120, 140)
    values = special(kind, shape) if kind in SPECIAL else planes(12, shape, kind)
    valid = planes(13, shape) > -3 if masked else None
    searched = measure_all([Block(values, valid, (0, 0), shape[1:])])
    assert_bits(of(values, valid), searched)
    if kind not in {"infinite", "nan", "wide"}:  # their moments are infinite, or rounding alone
        x = values.double().numpy()
        for plane in range(2):
            kept = x[plane] if valid is None else x[plane][valid[plane].numpy()]
            wanted = oracle(kept.ravel())
            for name in EXACT | {"entropy"}:
                assert searched[name][plane].item() == pytest.approx(wanted[name], abs=ROUNDING)


def test_a_plane_of_infinities_has_no_fine_bins_and_no_warning() -> None:
    values = torch.full((1, 60, 70), float("inf"))
    found = of(values)
    assert found["min"].item() == float("inf")
    assert found["entropy"].isnan().item()


@given(seed=st.integers(0, 10_000), middle=st.floats(-100, 100, width=32))
@settings(max_examples=20)
def test_fine_bins_make_the_bins_of_the_definition(seed: int, middle: float) -> None:
    """Also where a bin begins with a pixel, as the middle one of a span often does."""
    rng = np.random.default_rng(seed)
    x = np.float32(middle) + rng.normal(0, 3, (2 * FEW,)).astype(np.float32)
    low, high = np.float64(x.min()), np.float64(x.max())
    borders = (low + np.arange(64) * (high - low) / 64).astype(np.float32)
    near = [borders, *(np.nextafter(borders, np.float32(end)) for end in (-np.inf, np.inf))]
    x[100 : 100 + 3 * 64] = np.clip(np.concatenate(near), low, high)
    extent = np.array([[low, high]])
    fine = Fine.of(x, np.array([0, len(x)]), extent)
    assert fine is not None
    found, wanted = fine.bins(64), bins_of(x, low, high)
    assert found is None or np.array_equal(found, wanted)
    direct = np.empty((1, 64), np.int64)
    counting.bins(x, np.array([0, len(x)]), extent, direct)
    assert np.array_equal(direct, wanted)
    ranks = np.sort(rng.integers(0, len(x), (1, 12)))
    assert np.array_equal(fine.ranked(ranks), np.sort(x)[ranks])


@example(0, 98, 0)
@example(2933, 75080, 0)
@given(st.integers(-1000, 1000), st.integers(1, 5000), st.integers(-20, 20))
def test_what_lies_on_the_borders_of_bins_is_in_the_upper_one(
    low: int, span: int, exponent: int
) -> None:
    """Where a product with the reciprocal of a span may fall short, as that of 49 and 64 / 98."""
    x = ((low + np.arange(span + 1.0)) * 2.0**exponent).astype(np.float32)
    direct, ends = np.empty((1, 64), np.int64), (np.float64(x[0]), np.float64(x[-1]))
    counting.bins(x, np.array([0, len(x)]), np.array([ends]), direct)
    assert np.array_equal(direct, bins_of(x, *ends))


def bins_of(x: Array, low: float, high: float) -> Array:
    """The definition, in float64."""
    wanted = np.minimum((x - low) * 64 / (high - low), 63).astype(int)
    return np.bincount(wanted, minlength=64)[None]


def test_most_spans_are_counted_once() -> None:
    """Else the fine bins save nothing."""
    made = 0
    for seed in range(20):
        x = np.random.default_rng(seed).normal(0, 1, 2 * FEW).astype(np.float32)
        fine = Fine.of(x, np.array([0, len(x)]), np.array([[x.min(), x.max()]], np.float64))
        made += fine is not None and fine.bins(64) is not None
    assert made >= 19


def test_threads_do_not_wait_for_one_another() -> None:
    """As they would with functools.cached_property before Python 3.12."""
    both_in = Barrier(2)

    class Slow:
        @lazy
        def found(self) -> int:
            return both_in.wait(10)

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(lambda one: one.found, [Slow(), Slow()])) == [0, 1]


# --- merging ---------------------------------------------------------------------------------


def cut(
    values: Tensor, valid: Tensor | None, at: list[list[int]], kind_of: type[Block] = Block
) -> Iterator[Block]:
    """Cut a response at these coordinates of each axis."""
    shape = tuple(values.shape[1:])
    spans = []
    for inner, n in zip(at, shape, strict=True):
        marks = [0, *sorted({m for m in inner if 0 < m < n}), n]
        spans.append(list(pairwise(marks)))
    for box in product(*spans):
        where = (slice(None), *(slice(a, b) for a, b in box))
        mask = None if valid is None else valid[where]
        yield kind_of(values[where], mask, tuple(a for a, _ in box), shape)


cells = st.lists(st.integers(1, 3).map(lambda k: k * CELL), max_size=3)
planes_2d = st.tuples(st.integers(1, 20), st.integers(257, 900))


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10_000),
    shape=st.one_of(planes_2d, planes_2d.map(lambda s: s[::-1]), st.just((520, 530))),
    at=st.tuples(cells, cells),
    shuffled=st.randoms(use_true_random=False),
    masked=st.booleans(),
)
def test_blocks_merged_equal_the_whole(
    seed: int,
    shape: tuple[int, int],
    at: tuple[list[int], list[int]],
    shuffled: Random,
    *,
    masked: bool,
) -> None:
    values = planes(seed, (2, *shape), "skewed")
    valid = planes(seed + 1, (2, *shape)) > -3 if masked else None
    blocks = list(cut(values, valid, list(at)))
    shuffled.shuffle(blocks)
    assert_bits(measure_all(blocks), of(values, valid))


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
def test_blocks_merged_equal_the_whole_on_torch(masked: bool) -> None:
    values = planes(24, (2, 270, 300), "skewed")
    valid = planes(25, (2, 270, 300)) > -3 if masked else None
    blocks = list(cut(values, valid, [[256], [256]], Elsewhere))
    assert_bits(measure_all(blocks[::-1]), of(values, valid, Elsewhere))


@given(
    seed=st.integers(0, 10_000),
    bits=st.integers(1, 12),
    sizes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=4),
)
def test_a_census_of_parts_is_that_of_the_whole(
    seed: int, bits: int, sizes: list[tuple[int, int]]
) -> None:
    rng = np.random.default_rng(seed)
    planes = [[rng.integers(0, 1 << bits, n) for n in pair] for pair in sizes]
    dense = np.stack([np.bincount(np.concatenate(pair), minlength=1 << bits) for pair in planes])

    def census(parts: list[Array]) -> Census:
        bounds = np.cumsum([0, *map(len, parts)])
        return Census.counting(np.concatenate(parts).astype(np.uint32), bounds, 1 << bits)

    whole = Census.of(dense[:, None].astype(np.int64))
    merged = census([a for a, _ in planes]).merge(census([b for _, b in planes]))
    for field in ("places", "weights", "bounds"):
        np.testing.assert_array_equal(getattr(merged, field), getattr(whole, field))


@pytest.mark.parametrize("size", [SPARSE // 2, 2 * SPARSE], ids=["sorted", "counted"])
def test_leading_bits_are_counted_of_few_and_many_pixels(size: int) -> None:
    """Against numpy's view of the bits: non-negative floats sort as their bits do."""
    values = np.abs(planes(26, (2, 1, size)).numpy())
    keys = values.view(np.uint32) + (1 << 31)
    first = Block(torch.from_numpy(values), None, (0, 0), (1, size)).searched
    found = first.census(np.zeros((2, 1), np.int64), (18,))
    for plane, (start, stop) in enumerate(pairwise(found.bounds)):
        places, counts = np.unique(keys[plane] >> 14, return_counts=True)
        np.testing.assert_array_equal(found.places[start:stop], places)
        np.testing.assert_array_equal(found.weights[start:stop], counts)


@pytest.mark.parametrize(
    ("left", "right", "passes"),
    [
        (lambda rng: rng.integers(-90, 90, 256 * 70), lambda rng: rng.integers(5, 900, 99 * 70), 1),
        (lambda rng: rng.integers(-9, 9, 256 * 70), lambda rng: rng.normal(0, 9, 99 * 70), 2),
        (  # each has few numbers, both have too many
            lambda rng: rng.permutation(250 * 250)[: 256 * 240],
            lambda rng: rng.permutation(250 * 250)[: 256 * 240] - 10**5,
            2,
        ),
        (lambda rng: rng.integers(0, 9, 256 * 70), lambda rng: np.zeros(70), 1),
    ],
    ids=["whole", "one of two", "too many", "masked"],
)
def test_whole_numbers_of_tiles_are_asked_once(left, right, passes: int) -> None:
    rng = np.random.default_rng(4)
    parts = [np.asarray(draw(rng), np.float32) for draw in (left, right)]
    height = 240 if parts[0].size == 256 * 240 else 70
    values = torch.from_numpy(np.hstack([part.reshape(height, -1) for part in parts]))[None]
    valid = torch.ones_like(values, dtype=torch.bool)
    if parts[1].size == height:
        valid[..., 256:] = False
    mask = None if valid.all() else valid
    blocks = list(cut(values, mask, [[], [256]]))
    assert_bits(measure_all(blocks), of(values, mask))
    assert_bits(measure_all(blocks[::-1]), of(values, mask))
    for name in ("order", "histogram"):
        statistic = STATISTICS[name]()
        state = statistic.merge(*(statistic.start(block, None) for block in blocks))
        assert (statistic.next(state) is None) == (passes == 1), name


def test_volumes_may_be_cut_between_any_two_slices() -> None:
    values = planes(14, (2, 5, 300, 20))
    blocks = list(cut(values, None, [[1, 3], [256], []]))
    assert len(blocks) == 6
    assert_bits(measure_all(blocks), of(values))
    blocks = list(cut(values, None, [[1, 3], [256], []], Elsewhere))
    assert_bits(measure_all(blocks), of(values, kind_of=Elsewhere))


def test_signals_may_be_cut_at_cells() -> None:
    values = planes(15, (2, 1000))
    assert_bits(measure_all(list(cut(values, None, [[256, 768]]))), of(values))


def test_a_block_without_a_mask_merges_with_one_that_has_one() -> None:
    values = planes(16, (1, 600))
    valid = planes(17, (1, 600)) > 0
    valid[:, :512] = True
    first, second = cut(values, valid, [[512]])
    first = Block(first.values, None, first.origin, first.shape)
    assert_bits(measure_all([first, second]), of(values, valid))


def test_a_cut_through_a_cell_is_refused() -> None:
    values = planes(18, (1, 300, 20))
    for kind_of in (Block, Elsewhere):
        with pytest.raises(ValueError, match=r"cut at multiples of \(256, 256\)"):
            measure_all(list(cut(values, None, [[100], []], kind_of)))


def test_doubled_blocks_are_refused() -> None:
    first, second = cut(planes(19, (1, 300)), None, [[256]])
    moments = STATISTICS["moments"]()
    with pytest.raises(ValueError, match="measure every pixel once"):
        measure(moments, [first, second, second])


def test_what_no_block_covers_is_empty() -> None:
    """A region of a scene lies in some of its tiles only."""
    values = planes(19, (2, 520, 800))
    valid = torch.zeros(values.shape, dtype=torch.bool)
    valid[:, :200, :200] = valid[:, 300:, 512:] = True
    some = [b for b in cut(values, valid, [[256], [256, 512]]) if b.valid.any()]
    assert len(some) < 6
    assert_bits(measure_all(some), of(values, valid))


# --- catalogue -------------------------------------------------------------------------------

REQUIRED = [
    "mean", "std", "variance", "min", "max", "skewness", "kurtosis", "energy", "rms",
    "p01", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "iqr", "mad", "entropy",
]  # fmt: skip


def test_columns_are_in_canonical_order_and_described() -> None:
    assert list(COLUMNS)[: len(REQUIRED)] == REQUIRED
    assert list(COLUMNS)[len(REQUIRED) :] == ["range", "medad", "rmad", "cov", "qcod"]
    assert all(column.unit and column.formula for column in COLUMNS.values())


def test_every_column_has_one_owner_that_computes_it() -> None:
    block = Block.whole(planes(20, (3, 4, 5)))
    for cls in STATISTICS.values():
        found = measure(cls(), [block])
        assert found.keys() == cls.columns.keys()
        assert {(c.dtype, c.shape, c.device.type) for c in found.values()} == {
            (torch.float64, (3,), "cpu")
        }
    owned = [name for cls in STATISTICS.values() for name in cls.columns]
    assert sorted([*owned, *RATIOS]) == sorted(COLUMNS)


def test_groups_and_accumulators() -> None:
    assert GROUPS["basic"] == ("mean", "std", "min", "max")
    assert GROUPS["all"] == tuple(COLUMNS)
    assert len(GROUPS["ibsi"]) == 18
    assert "p50" in GROUPS["ibsi"]
    assert "std" not in GROUPS["ibsi"]
    assert expand(["entropy", "basic"]) == ("mean", "std", "min", "max", "entropy")
    assert [STATISTICS.name_of(s) for s in accumulators(["p10", "entropy", "iqr"])] == [
        "histogram",
        "order",
    ]
    assert [STATISTICS.name_of(s) for s in accumulators(["basic"])] == ["extremes", "moments"]
    assert [STATISTICS.name_of(s) for s in accumulators(["cov"])] == ["moments"]
    assert accumulators([]) == ()
    with pytest.raises(KeyError, match="did you mean 'kurtosis'"):
        expand(["kurtosys"])


def test_ibsi_codes_are_those_of_the_reference_values(shared: Path) -> None:
    about = json.loads((shared / "ibsi" / "phase2.json").read_text())["about"]
    codes = {feature["ibsi_code"] for feature in about["features"]}
    assert {COLUMNS[name].ibsi for name in GROUPS["ibsi"]} <= codes


IBSI_TAGS = {"variance": "var", "skewness": "skew", "kurtosis": "kurt", "p50": "median"}


def test_ibsi_reference_values_of_the_unfiltered_phantom(shared: Path) -> None:
    """IBSI 2 phase 2, test 1.A: no filter, re-segmented to [-1000, 400] HU."""
    nibabel = pytest.importorskip("nibabel")
    image, mask = (
        torch.from_numpy(np.asarray(nibabel.load(path).dataobj, dtype=np.float32).T.copy())[None]
        for path in (shared / "ibsi" / "ct_phantom" / f"{n}.nii.gz" for n in ("phantom", "mask"))
    )
    found = of(image, (mask > 0) & (image >= -1000) & (image <= 400))
    with (shared / "ibsi" / "reference_values.csv").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter=";") if row["filter_id"] == "1.A"]
    wanted = {row["feature_tag"]: row for row in rows}
    for name in GROUPS["ibsi"]:
        row = wanted[f"stat_{IBSI_TAGS.get(name, name)}"]
        off = abs(found[name].item() - float(row["consensus_value"]))
        assert off <= float(row["tolerance"]), name


def test_states_and_accumulators_survive_a_trip_to_another_process() -> None:
    block = Block.whole(planes(21, (2, 30, 30)))
    for statistic in accumulators(["all"]):
        assert pickle.loads(pickle.dumps(statistic)) == statistic
        state = statistic.start(block, None)
        copy = pickle.loads(pickle.dumps(state))
        assert type(copy) is type(state)


def test_importing_statistics_loads_no_torch() -> None:
    code = (
        "import sys; from pipeline.statistics import COLUMNS, accumulators; "
        "accumulators(['all']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(n=st.integers(1, 600), rows=st.integers(1, 5), seed=st.integers(0, 1000))
def test_tree_adds_everything_once(n: int, rows: int, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).integers(-99, 99, (rows, n)).astype(float))
    assert torch.equal(sums.tree(x.clone()), x.sum(-1))


def test_each_statistic_asks_for_as_many_passes_as_it_declares() -> None:
    """A scene is read that often: one pass less and a state would never be complete."""
    block = Block(planes(3, (1, 300, 300)), None, (0, 0), (300, 300))
    for name, statistic in STATISTICS.items():
        brief, passes = None, 0
        while passes == 0 or brief is not None:
            state = statistic().start(block, brief)
            brief, passes = statistic().next(state), passes + 1
        assert passes == statistic.passes, name

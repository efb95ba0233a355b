"""Every rewrite of the compiler keeps a bank's answers: random banks against float64."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import cut_valid, evaluate, tolerance
from running import write_config
from test_bank import MADE_UP, batch, nodata_rule, run

from pipeline.bank import blockgrid, blocks
from pipeline.bank import lower as lowering
from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import BankPlan, Step, compile_bank
from pipeline.bank.costs import EVEN, ODD, PLAIN, STACKED, TOGETHER, cost, way
from pipeline.bank.engine import STRIP, correlate, correlate_through
from pipeline.bank.explain import explain
from pipeline.bank.expr import Blocks, Box, Conv, Edge, Input, Join, Kernel, Map, Mix, Node, Product
from pipeline.bank.groups import through
from pipeline.bank.lower import Dense, Recipe, Separated, Transformed, choose
from pipeline.bank.passes import factors
from pipeline.bank.reuse import Combined
from pipeline.boundary import MODES, Boundary
from pipeline.budget import live_planes
from pipeline.config import load
from pipeline.errors import ConfigError
from pipeline.plan import Plan
from pipeline.types import Grid, ImageInfo, Region

ENGINES = {
    "dense": lambda k: Dense(k),
    "separated": lambda k: Separated(chains) if (chains := factors(k)) else Dense(k),
    "blocks": lambda k: Transformed(k, k.reach),
}


def force(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Let the compiler take one engine for every kernel, whatever it costs."""

    def chosen(kernels: Sequence[Kernel], *, strict: bool) -> dict[Kernel, Recipe]:
        assert not strict
        return {k: ENGINES[engine](k) for k in kernels}

    monkeypatch.setattr(lowering, "choose", chosen)


def kernel(rng: np.random.Generator, ndim: int, largest: int = 9) -> Kernel:
    shape = tuple(int(n) for n in rng.integers(1, largest + 1, ndim))
    if rng.random() < 0.5:
        weights = np.ones(())
        for n in shape:
            weights = np.multiply.outer(weights, rng.normal(size=n))
    else:
        weights = rng.normal(size=shape)
    weights[rng.random(shape) < 0.2] = 0.0
    origin = tuple(int(rng.integers(0, n)) for n in shape)
    return Kernel.of(weights, origin)


def respond(bank: Sequence[Kernel], image: np.ndarray, boundary: Boundary, **options) -> list:
    ndim = image.ndim - 1
    nodes = [(str(i), Conv(Input(), k), boundary) for i, k in enumerate(bank)]
    return list(apply_bank(compile_bank(nodes, ndim, **options), batch(image[None])))


def check(bank: Sequence[Kernel], image: np.ndarray, boundary: Boundary, **options) -> None:
    for k, response in zip(bank, respond(bank, image, boundary, **options), strict=True):
        node = Conv(Input(), k)
        want = evaluate(node, image, boundary)
        if boundary.mode == "valid":
            want = cut_valid(node, want, image.ndim - 1)
        got = response.values[0].numpy()
        assert got.shape == want.shape
        scale = np.abs(k.array).sum() * np.abs(image).max() * 1e-6
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(want) + scale)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("mode", MADE_UP)
@pytest.mark.parametrize("ndim", [2, 3])
def test_every_engine_equals_scipy(monkeypatch, engine: str, mode: str, ndim: int) -> None:
    force(monkeypatch, engine)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        image = rng.normal(3, 2, (2, *rng.integers(1, 24, ndim))).astype(np.float32)
        bank = [kernel(rng, ndim) for _ in range(3)]
        check(bank, image, Boundary(mode, 3.0 if mode == "constant" else 0.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_follows_the_rule_around_holes(monkeypatch, engine: str) -> None:
    """And answers where no tap is missed what it answers for an image without holes."""
    force(monkeypatch, engine)
    rng = np.random.default_rng(15)
    x = rng.normal(100, 5, size=(1, 1, 150, 140))
    known = np.ones(x.shape, bool)
    known[..., 20:26, 30:41] = known[..., 90, 5] = False
    bank = [Kernel.of(w) for w in (rng.normal(size=(9, 7)), np.outer(*rng.random((2, 5))))]
    named = [(str(i), Conv(Input(), k), Boundary("nodata")) for i, k in enumerate(bank)]
    images = batch(np.where(known, x, np.nan), valid=known, offset=np.array([[100.0]]))
    plain = respond(bank, np.where(known, x - 100, 0.0)[0], Boundary("constant"))
    found = apply_bank(compile_bank(named, 2), images)
    for k, got, full in zip(bank, found, plain, strict=True):
        want, support = nodata_rule(np.where(known, x, 0.0)[0, 0], known[0, 0], k.array)
        good = got.valid[0, 0].numpy()
        np.testing.assert_array_equal(good, known[0, 0] & (support >= 0.75 - 1e-9))
        np.testing.assert_allclose(got.values[0, 0].numpy()[good], want[good], atol=2e-3)
        np.testing.assert_allclose(got.support[0, 0].numpy(), support, atol=1e-6)
        whole = torch.from_numpy(support > 1 - 1e-9)
        inside = (whole & (got.support[0, 0] == 1.0)).numpy()
        assert inside.mean() > 0.8
        np.testing.assert_array_equal(
            got.residual[0, 0].numpy()[inside], full.residual[0, 0].numpy()[inside]
        )


# ---------------------------------------------------------------- reuse
def test_copies_and_negatives_are_computed_once() -> None:
    edge = np.outer([1.0, 2, 1], [-1.0, 0, 1])
    bank = [Kernel.of(w) for w in (edge, -edge, 0.3 * edge, edge.T)]
    recipes = choose(bank, strict=True)
    kinds = [type(recipes[k]) for k in bank]
    assert kinds[1] == kinds[2] == Combined
    assert recipes[bank[1]] == Combined((bank[0],), (-1.0,))
    assert Combined not in (kinds[0], kinds[3])
    check(bank, np.random.default_rng(0).normal(size=(1, 20, 21)).astype(np.float32), Boundary())


@pytest.mark.parametrize("ndim", [2, 3])
def test_dependent_kernels_are_sums_of_the_others(ndim: int) -> None:
    """The orientations of a second derivative span three dimensions (2-D) or six (3-D)."""
    axes = np.meshgrid(*[np.arange(-4, 5.0)] * ndim, indexing="ij")
    gauss = np.exp(-sum(a * a for a in axes) / 8)
    rng = np.random.default_rng(1)
    bank = []
    for _ in range(9):
        direction = rng.normal(size=ndim)
        along = sum(d * a for d, a in zip(direction / np.linalg.norm(direction), axes, strict=True))
        bank.append(Kernel.of(gauss * (along**2 / 4 - 1)))
    recipes = choose(bank, strict=True)
    assert sum(isinstance(r, Combined) for r in recipes.values()) == (6 if ndim == 2 else 3)
    for mode in MADE_UP:
        image = rng.normal(size=(1, *(17, 15, 14)[:ndim])).astype(np.float32)
        check(bank, image, Boundary(mode))


def test_responses_come_in_the_order_of_the_bank() -> None:
    """Also where an early one is computed from a later one."""
    rng = np.random.default_rng(2)
    small, large = rng.normal(size=(12, 12)), rng.normal(size=(12, 12))
    bank = [Kernel.of(w) for w in (small, 1e-3 * small + large, large, large - small)]
    image = rng.normal(size=(1, 30, 31)).astype(np.float32)
    assert [r.name for r in respond(bank, image, Boundary())] == ["0", "1", "2", "3"]
    check(bank, image, Boundary())


# ---------------------------------------------------------------- shared work
def nodes(bank: BankPlan, kind: type) -> list[Node]:
    return [n for n in bank.fast.order if isinstance(n, kind)]


def plan(bank: Sequence[Kernel], ndim: int = 2, **options) -> BankPlan:
    named = [(str(i), Conv(Input(), k), Boundary()) for i, k in enumerate(bank)]
    return compile_bank(named, ndim, **options)


def price(steps: Sequence[Step]) -> float:
    """What a schedule costs, with the columns that are computed on the way."""
    columns = (step.through for step in steps if step.through)
    lines = sum(cost(node, len(step.nodes)) for step in steps for node in step.nodes)
    return lines + sum(cost(column, 1) for column in columns)


def test_mirrored_gabors_share_their_passes() -> None:
    """cos(ax + by) and cos(ax - by) are sums of the same two products."""
    y, x = np.mgrid[-12:13, -12:13] / 4.0
    gauss = np.exp(-(x * x + y * y) / 2)
    waves = [f(3 * x + s * y) for f in (np.cos, np.sin) for s in (1, -1)]
    bank = [Kernel.of(gauss * wave) for wave in waves]
    found = plan(bank, strict=True)
    assert len(nodes(found, Conv)) == 2 + 4
    assert len(nodes(found, Mix)) == 4
    check(bank, np.random.default_rng(3).normal(size=(1, 40, 37)).astype(np.float32), Boundary())


def test_kernels_alike_are_one_step_and_count_as_living_together() -> None:
    rng = np.random.default_rng(12)
    found = plan([Kernel.of(rng.normal(size=(3, 3))) for _ in range(2 * TOGETHER + 1)]).fast
    sizes = [len(step.nodes) for step in found.steps[1:]]
    assert sum(sizes) == 2 * TOGETHER + 1
    assert max(sizes) <= TOGETHER
    assert len(sizes) == 3
    for step in found.steps:
        assert all(found.last_use[node] >= max(step.at) for node in step.nodes)


def test_large_kernels_share_one_forward_transform() -> None:
    rng = np.random.default_rng(4)
    bank = [Kernel.of(rng.normal(size=(n, n))) for n in (21, 33, 25)]
    found = plan(bank)
    assert len(nodes(found, Blocks)) == 1
    assert len(nodes(found, Product)) == 3
    image = (1000 + rng.normal(size=(2, 70, 301))).astype(np.float32)
    check(bank, image, Boundary("mirror"))


@pytest.mark.parametrize("shape", [(1, 21, 19), (21, 1, 19), (21, 19, 1)], ids=str)
def test_large_kernels_of_any_plane_of_a_volume_are_transformed(shape: tuple[int, ...]) -> None:
    """Those that lie across the last axis, too, which was once all taps at once."""
    rng = np.random.default_rng(4)
    bank = [Kernel.of(rng.normal(size=shape), tuple(n // 3 for n in shape)) for _ in range(2)]
    found = plan(bank, ndim=3)
    assert len(nodes(found, Blocks)) == 1
    assert len(nodes(found, Product)) == 2
    image = (100 + rng.normal(size=(2, 31, 27, 30))).astype(np.float32)
    check(bank, image, Boundary("mirror"))


@pytest.mark.parametrize("fn", ["sum", "mean", "product", "max", "min"])
def test_however_many_parts_are_combined_few_of_them_exist_together(fn: str) -> None:
    rng = np.random.default_rng(6)

    def compiled(count: int) -> BankPlan:
        parts = (Conv(Input(), Kernel.of(rng.normal(size=(3, 3)))) for _ in range(count))
        return compile_bank([("r", Join(tuple(parts), fn), Boundary())], 2)

    few, many = compiled(20), compiled(100)
    assert live_planes(many.fast, (256, 256)) <= live_planes(few.fast, (256, 256)) + 1
    assert live_planes(many.masked, (256, 256)) <= live_planes(few.masked, (256, 256)) + 1


def test_planned_memory_knows_of_blocks_much_larger_than_a_thin_volume() -> None:
    """A slice is padded to a block along each axis that is transformed."""
    found = plan([Kernel.of(np.random.default_rng(5).normal(size=(15, 15, 15)))], ndim=3)
    assert nodes(found, Blocks)
    thin, cube = (live_planes(found.fast, (n, 64, 64)) for n in (1, 64))
    assert thin >= 6 * cube


def test_the_transform_of_a_kernel_is_kept_for_tiles_of_all_places() -> None:
    rng = np.random.default_rng(8)
    found = plan([Kernel.of(rng.normal(size=(41, 41)))])
    image = rng.normal(size=(1, 1, 190, 200)).astype(np.float32)
    before = blocks._transfer.cache_info().misses
    for corner in ((0, 0), (37, 51), (90, 99)):
        core = Region(corner, tuple(n + 100 - n % 3 for n in corner))
        list(apply_bank(found, batch(image, core, found.box(core, (190, 200)))))
    assert blocks._transfer.cache_info().misses == before + 1


def test_a_great_many_parts_are_not_nested_too_deep_for_pickle() -> None:
    parts = tuple(Map(Input(), "add", float(i)) for i in range(1000))
    found = compile_bank([("r", Join(parts, "mean"), Boundary())], 2)
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("holes", [False, True], ids=["whole", "holes"])
@pytest.mark.parametrize("fn", ["sum", "mean", "product", "max", "min"])
def test_parts_are_combined_in_their_order_to_the_last_bit(fn: str, holes: bool) -> None:
    """As float32 does one after the other; a constant that is added at the end is one of them."""
    rng = np.random.default_rng(7)
    parts = [Conv(Input(), kernel(rng, 2, largest=5)) for _ in range(2 * TOGETHER + 5)]
    nodes = [*parts, Join(tuple(parts), fn)]
    known = np.ones((2, 1, 23, 31), bool)
    known[0, 0, 5:7, 9] = known[1, 0, 20, 3:9] = not holes
    x = rng.normal(100, 5, known.shape)
    images = batch(x, valid=known if holes else None, offset=np.array([[100.0], [99.0]]))
    plan = compile_bank([(str(i), node, Boundary()) for i, node in enumerate(nodes)], 2)
    *single, found = apply_bank(plan, images)
    linear = fn in ("sum", "mean")
    planes = [(r.residual if linear else r.values).numpy() for r in single]
    combine = {"product": np.multiply, "max": np.maximum, "min": np.minimum}.get(fn, np.add)
    want = reduce(combine, planes) / np.float32(len(parts) if fn == "mean" else 1)
    np.testing.assert_array_equal(found.residual.numpy(), want)
    if linear:
        bases = sum(r.base for r in single) / (len(parts) if fn == "mean" else 1)
        np.testing.assert_allclose(found.base, bases, rtol=1e-14)
    assert (found.valid is not None) == (found.support is not None) == holes
    if holes:
        assert torch.equal(found.valid, torch.stack([r.valid for r in single]).all(0))
        assert torch.equal(found.support, torch.stack([r.support for r in single]).amin(0))


def test_zeros_of_a_dilated_kernel_cost_nothing() -> None:
    rng = np.random.default_rng(5)
    weights = np.zeros((33, 33))
    weights[::16, ::16] = rng.normal(size=(3, 3))
    bank = [Kernel.of(weights)]
    assert choose(bank, strict=False) == {bank[0]: Dense(bank[0])}
    check(bank, rng.normal(size=(1, 50, 51)).astype(np.float32), Boundary())


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("mode", MADE_UP)
def test_boxes_are_running_sums_in_float64(ndim: int, mode: str) -> None:
    """A large value leaves no trace in the sums that follow it."""
    rng = np.random.default_rng(6)
    image = rng.normal(size=(2, *(11, 20, 51)[-ndim:])).astype(np.float32)
    image[0].flat[7] = 1e6
    size = (9, 11, 31)[-ndim:]
    bank = [Kernel.of(np.full(size, 1 / np.prod(size)))]
    assert len(nodes(plan(bank, ndim), Box)) == ndim
    assert not nodes(plan(bank, ndim, strict=True), Box)
    k = bank[0]
    got = respond(bank, image, Boundary(mode))[0].values[0].numpy()
    want = evaluate(Conv(Input(), k), image, Boundary(mode))
    if mode == "valid":
        want = cut_valid(Conv(Input(), k), want, ndim)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6)


# ---------------------------------------------------------------- whole banks
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("mode", MADE_UP)
@pytest.mark.parametrize("ndim", [2, 3])
def test_random_banks_equal_scipy(ndim: int, mode: str, strict: bool) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        image = rng.normal(3, 2, (2, *rng.integers(8, 30, ndim))).astype(np.float32)
        bank = [kernel(rng, ndim, 15 if ndim == 2 else 9) for _ in range(6)]
        weights = rng.normal(size=2)
        first, second = (np.pad(k.array, [(0, 15 - n) for n in k.shape]) for k in bank[:2])
        bank += [Kernel.of(-bank[0].array, bank[0].origin)]
        bank += [Kernel.of(w) for w in (first, second, weights[0] * first + weights[1] * second)]
        check(bank, image, Boundary(mode, 3.0 if mode == "constant" else 0.0), strict=strict)


@pytest.mark.parametrize("mode", MODES)
def test_strict_tiles_equal_the_whole_bit_for_bit(mode: str) -> None:
    rng = np.random.default_rng(7)
    bank = [kernel(rng, 2, 9) for _ in range(5)] + [Kernel.of(rng.normal(size=(25, 25)))]
    bank += [Kernel.of(np.ones((31, 31))), Kernel.of(-bank[0].array, bank[0].origin)]
    image = rng.normal(size=(1, 1, 70, 83)).astype(np.float32)
    named = [(str(i), Conv(Input(), k), Boundary(mode)) for i, k in enumerate(bank)]
    found = compile_bank(named, 2, strict=True)
    assert not nodes(found, Blocks)
    whole = list(apply_bank(found, batch(image)))
    core = Region((13, 20), (40, 66))
    for part, full in zip(
        apply_bank(found, batch(image, core, found.box(core, (70, 83)))), whole, strict=True
    ):
        at = (slice(None), slice(None), *part.region.slices(full.region.start))
        inside = full.values[at] if full.valid is None else full.values[at][full.valid[at]]
        mine = part.values if part.valid is None else part.values[part.valid]
        if part.valid is None and full.valid is not None:
            mine = part.values[full.valid[at]]
        assert torch.equal(mine, inside)


def test_a_strict_tile_inside_a_scene_has_the_bits_of_the_whole() -> None:
    """The whole has nodata around it, the tile misses nothing."""
    rng = np.random.default_rng(16)
    bank = [kernel(rng, 2, 9) for _ in range(4)]
    bank += [Kernel.of(np.outer(bank[0].array[0], bank[1].array[0]))]
    image = rng.normal(size=(1, 1, 60, 63)).astype(np.float32)
    named = [(str(i), Conv(Input(), k), Boundary("nodata")) for i, k in enumerate(bank)]
    found = compile_bank(named, 2, strict=True)
    core = Region((17, 20), (40, 46))
    tile = batch(image, core, found.box(core, (60, 63)))
    for part, full in zip(apply_bank(found, tile), apply_bank(found, batch(image)), strict=True):
        assert part.valid is None
        assert full.valid is not None
        assert torch.equal(part.values, full.values[..., 17:40, 20:46])


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_some_of_a_bank_have_the_bits_that_they_have_among_all(holes: bool) -> None:
    """Passes, windows and transforms are shared as if all were asked for."""
    rng = np.random.default_rng(26)
    bank = [kernel(rng, 2) for _ in range(12)]
    bank += [Kernel.of(rng.normal(size=(25, 25))) for _ in range(3)]
    nodes = [Conv(Input(), k) for k in bank]
    nodes += [Join(tuple(nodes[i : i + 3]), "sum") for i in (0, 5, 12)]
    image = rng.normal(size=(1, 2, 60, 71)).astype(np.float32)
    valid = rng.random(image.shape) > 0.01 if holes else None
    plan = compile_bank([(str(i), node, Boundary()) for i, node in enumerate(nodes)], 2)
    given = batch(image, valid=valid)
    whole = {response.name: response for response in apply_bank(plan, given)}
    for _ in range(20):
        names = {str(i) for i in rng.choice(len(nodes), rng.integers(1, 5), replace=False)}
        part = plan.only(names)
        assert len(part.fast.steps) < len(plan.fast.steps)
        found = list(apply_bank(part, given))
        assert [one.name for one in found] == [o.name for o in plan.outputs if o.name in names]
        for one in found:
            assert torch.equal(one.residual, whole[one.name].residual)
            assert (one.valid is None) == (not holes)


@pytest.mark.parametrize("edge", [15, 31, 101])
def test_blocks_of_large_images_end_where_tiles_do(edge: int) -> None:
    """No block is transformed for two tiles; a tile is as exact as the whole."""
    rng = np.random.default_rng(edge)
    image = rng.normal(size=(1, 1, 1100, 2000)).astype(np.float32)
    node = Conv(Input(), Kernel.of(rng.normal(size=(edge, edge))))
    plan = compile_bank([("0", node, Boundary())], 2)
    assert nodes(plan, Blocks)
    (whole,) = apply_bank(plan, batch(image))
    core = Region((1024, 1024), (1100, 2000))
    grid = blockgrid.Grid.of(core, (1100, 2000), node.kernel.reach)
    assert grid.lead == (0, 0)
    assert all(1024 % step == 0 for step in grid.steps)
    (tile,) = apply_bank(plan, batch(image, core, plan.box(core, (1100, 2000))))
    scale = float(whole.values.std())
    difference = tile.values - whole.values[..., 1024:, 1024:]
    assert float(difference.abs().max()) < 1e-5 * scale


@pytest.mark.parametrize("edge", [15, 31, 41, 101, 151, 401])
def test_blocks_that_end_where_tiles_do_cost_whole_images_nothing(edge: int) -> None:
    """Against blocks that are free to end anywhere; small images have those."""

    def transformed(side: int) -> float:
        shape = (side, side)
        grid = blockgrid.Grid.of(Region.whole(shape), shape, ((edge // 2, edge // 2),) * 2)
        return max(n * length for n, length in zip(grid.counts, grid.sides, strict=True)) / side

    assert transformed(2048) <= 1.1 * transformed(1024)
    assert transformed(4096) <= 1.1 * transformed(1024)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_plane_has_its_bits_in_any_company(monkeypatch, engine: str) -> None:
    force(monkeypatch, engine)
    rng = np.random.default_rng(8)
    node = Conv(Edge(Map(Conv(Input(), kernel(rng, 2, 20)), "abs")), kernel(rng, 2, 20))
    images = rng.normal(size=(5, 2, 37, 41)).astype(np.float32)
    together = run(node, Boundary(), batch(images), 2)
    for n in (0, 4):
        alone = run(node, Boundary(), batch(images[n : n + 1]), 2)
        assert torch.equal(alone.values[0], together.values[n])


@pytest.mark.parametrize("how", [PLAIN, EVEN, ODD])
@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (9, 1), (2, 1, 1), (5, 1, 1), (2, 3, 2)])
def test_kernels_computed_together_have_the_bits_of_each_alone(shape, how: int) -> None:
    """Whatever the width of a line: whole tiles, overlapping vectors or single pixels."""
    rng = np.random.default_rng(11)
    weights = rng.normal(size=(TOGETHER, *shape))
    if how != PLAIN:
        turned = np.flip(weights, range(1, weights.ndim))
        weights = weights + turned if how == EVEN else weights - turned
    stacked = max(shape[:-1]) == weights[0].size
    if not stacked:
        weights[0].flat[[0, -1]] = 0.0  # taps of the others that are none of its own
    group = tuple(map(Kernel.of, weights))
    assert {way(k) for k in group} == {STACKED if stacked else how}
    for width in (1, 7, 16, 17, 61, 130):
        size = (6, 5, width)[-len(shape) :]
        wide = tuple(n + k - 1 for n, k in zip(size, shape, strict=True))
        x = torch.from_numpy(rng.normal(size=(2, *(n + 1 for n in wide))).astype(np.float32))
        alone = [correlate((x, (1,) * len(shape)), (k,), size)[0] for k in group]
        if not stacked:
            together = correlate((x, (1,) * len(shape)), group, size)
            assert all(map(torch.equal, together, alone))
        for k, got in zip(group, alone, strict=True):
            inside = x[(slice(None), *(slice(1, None),) * len(shape))].double().numpy()
            windows = np.lib.stride_tricks.sliding_window_view(inside, (1, *shape))
            want = np.tensordot(windows[..., 0, *(slice(None),) * len(shape)], k.array, len(shape))
            np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "along"),
    [((1, 1), 0), ((7, 90), 0), ((700, 300), 0), ((2, 5, 9), 1), ((9, 150, 40), 0)],
)
@pytest.mark.parametrize("strip", [1, 1 << 14, STRIP])
def test_lines_of_columns_on_the_way_have_the_bits_of_one_after_the_other(
    shape, along, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one strip or many, of fewer lines than are computed together, too; along either axis."""
    monkeypatch.setattr("pipeline.bank.engine.STRIP", strip)
    rng = np.random.default_rng(strip)  # kernels of its own: what a launch is told is kept
    rank = len(shape)
    column = Kernel.of(rng.normal(size=[5 if axis == along else 1 for axis in range(rank)]))
    even, odd = (w + s * w[::-1] for s in (1, -1) for w in [rng.normal(size=5)])
    for group in ([rng.normal(size=4)], [even, rng.normal() * even, odd]):
        lines = tuple(Kernel.of(w.reshape((1,) * (rank - 1) + (-1,))) for w in group)
        width = shape[-1] + len(group[0]) - 1
        wide = [n + (5 if axis == along else 1) for axis, n in enumerate((*shape[:-1], width))]
        x = torch.from_numpy(rng.normal(size=(2, *wide)).astype(np.float32)), (1,) * rank
        (between,) = correlate(x, (column,), (*shape[:-1], width))
        want = correlate((between, (0,) * rank), lines, shape)
        assert all(map(torch.equal, correlate_through(x, column, lines, shape), want))


def test_a_column_that_one_step_reads_alone_is_computed_on_the_way() -> None:
    """Else it is there as a whole: for several steps, or as a response."""
    rng = np.random.default_rng(16)
    columns, lines = rng.normal(size=(2, 5)), rng.normal(size=(TOGETHER + 1, 5))
    pairs = [(column, line) for column in columns for line in lines[:TOGETHER]]
    alone = [Kernel.of(np.outer(column, line)) for column, line in pairs]
    assert [bool(step.through) for step in plan(alone).fast.steps] == [False, True, True]
    shared = [Kernel.of(np.outer(columns[0], line)) for line in lines]
    assert not any(step.through for step in plan(shared).fast.steps)
    column = Conv(Input(), Kernel.of(columns[0][:, None]))
    line = Conv(column, Kernel.of(lines[:1]))
    assert through([[Input()], [column], [line]], [line]) == {line: column}
    assert through([[Input()], [column], [line]], [line, column]) == {}
    for bank in (alone, shared):
        check(bank, 50 + rng.normal(size=(1, 30, 31)).astype(np.float32), Boundary())


@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (1, 4)])
def test_even_and_odd_kernels_share_pairs_with_the_bits_of_each_alone(shape) -> None:
    rng = np.random.default_rng(13)
    weights = rng.normal(size=(2 * TOGETHER, *shape))
    turned = np.flip(weights, (1, 2))
    even, odd = map(Kernel.of, weights + turned), map(Kernel.of, weights - turned)
    found = plan([k for pair in zip(even, odd, strict=True) for k in pair][: 2 * TOGETHER]).fast
    (step,) = found.steps[1:]  # in the order of the bank, one even, one odd
    assert [way(k) for k in step.kernels] == TOGETHER * [EVEN] + TOGETHER * [ODD]
    x = torch.from_numpy(rng.normal(size=(2, 8, 150)).astype(np.float32))
    for width in (1, 17, 140):
        alone = [correlate((x, (1, 2)), (k,), (5, width))[0] for k in step.kernels]
        for few in range(1, TOGETHER + 1):
            group = (*step.kernels[:few], *step.kernels[TOGETHER:])
            together = correlate((x, (1, 2)), group, (5, width))
            assert all(map(torch.equal, together, [*alone[:few], *alone[TOGETHER:]]))


def test_weights_that_float32_cannot_hold_are_no_taps() -> None:
    """Their pairs would be told by float32, and their places by float64."""
    image = np.random.default_rng(14).normal(size=(1, 9, 40)).astype(np.float32)
    bank = [Kernel.of([w]) for w in ([1, 1e-50, 2, 0, 1], [1, 0, 2, 0, 1], [-1, 0, 0, 1e-60, 1])]
    check(bank, image, Boundary())


def test_a_kernel_of_another_rank_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="two: a kernel has 1 axes, the images 2; give it one"):
        compile_bank([("two", Conv(Input(), Kernel.of([1.0, 2.0])), Boundary())], 2)


def test_a_lowered_plan_survives_a_trip_to_another_process() -> None:
    rng = np.random.default_rng(9)
    found = plan([Kernel.of(rng.normal(size=(25, 25))), Kernel.of(np.ones((31, 31)))])
    assert pickle.loads(pickle.dumps(found)) == found


# ---------------------------------------------------------------- said and configured
def test_what_is_said_of_a_bank_is_what_was_compiled() -> None:
    rng = np.random.default_rng(10)
    large, edge = rng.normal(size=(25, 25)), np.outer(np.arange(9.0), np.hanning(9))
    bank = [Kernel.of(w) for w in (large, edge, -edge, rng.normal(size=(3, 3)), np.ones((31, 31)))]
    found = explain(plan(bank))
    assert [e.engine for e in found.values()] == ["fft", "passes", "passes+reuse", "dense", "box"]
    assert [e.rank for e in found.values()] == [None, 1, 1, None, 1]
    steps = plan(bank).fast.steps[1:]  # without the input
    total = price(steps)
    assert sum(e.cost for e in found.values()) == pytest.approx(total)
    assert explain(plan(bank, strict=True))["0"].engine == "dense"


def test_compiling_needs_neither_torch_nor_numba() -> None:
    code = "import sys, pipeline.bank.explain; sys.exit(bool({'torch', 'numba'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_strict_is_part_of_the_digest_and_reaches_the_compiler(tmp_path: Path) -> None:
    filters = [
        {"kernel": {"name": "k", "weights": np.random.default_rng(0).random((25, 25)).tolist()}}
    ]
    plans = [
        Plan(load(write_config(tmp_path / "c.yaml", filters=filters, **given)), "cpu")
        for given in ({}, {"strict": False}, {"strict": True})
    ]
    assert plans[0].digest == plans[1].digest != plans[2].digest
    info = ImageInfo((64, 64), ("1",), "uint8", Grid((1.0, 1.0)))
    engines = [explain(p.banks(info)[0].bank)["k"].engine for p in plans]
    assert engines == ["fft", "fft", "dense"]
    with pytest.raises(ConfigError, match="strict: must be true or false"):
        load(write_config(tmp_path / "c.yaml", filters=filters, strict="yes"))


def test_a_wide_kernel_makes_no_other_dearer() -> None:
    """It once made the blocks of all transforms overlap as much as its own have to."""
    rng = np.random.default_rng(5)
    small = [Kernel.of(rng.normal(size=(31, 31))) for _ in range(3)]
    wide = [Kernel.of(rng.normal(size=(201, 201)))]
    profile = np.hanning(163)[1:-1]
    smooth = [Kernel.of(np.outer(profile, profile))]

    def costs(kernels: Sequence[Kernel]) -> float:
        named = ((str(i), Conv(Input(), k), Boundary("mirror")) for i, k in enumerate(kernels))
        return price(compile_bank(named, 2).fast.steps)

    for others in (wide, smooth, wide + smooth):
        assert costs(small + others) <= 1.001 * (costs(small) + costs(others))

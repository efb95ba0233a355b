"""The bank's laws, on random expressions in 2-D and 3-D under every boundary rule."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import cut_valid, evaluate, tolerance

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import compile_bank
from pipeline.bank.costs import PLAIN
from pipeline.bank.expr import (
    Conv,
    Edge,
    Input,
    Join,
    Kernel,
    Lookup,
    Map,
    Node,
    Pool,
    Spectral,
    Spectrum,
    reach_of,
    separable,
)
from pipeline.bank.gather import Places, gather
from pipeline.bank.memory import packed, roomy, spaced
from pipeline.bank.native import sum_taps
from pipeline.bank.passes import compose, lift, separate
from pipeline.bank.pointwise import join_pixels
from pipeline.bank.rotations import Rotation, pool_rotations, right_angles, rotate
from pipeline.boundary import MODES, Boundary, Mode, fold
from pipeline.errors import PlanError
from pipeline.types import Batch, Grid, ImageInfo, Region, Source, Tile

MADE_UP = [m for m in MODES if m != "nodata"]


def source(shape: tuple[int, ...], bands: int = 1) -> Source:
    labels = tuple(str(i + 1) for i in range(bands))
    info = ImageInfo(shape, labels, "float32", Grid((1.0,) * len(shape)))
    return Source("x", (), "npy", info=info)


def batch(
    images: np.ndarray,
    core: Region | None = None,
    box: Region | None = None,
    valid: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> Batch:
    """images: (N, C, *shape); box and core default to the whole image."""
    n, c, *shape = images.shape
    whole = Region.whole(tuple(shape))
    box = box or whole
    at = (slice(None), slice(None), *box.slices())
    tile = Tile(source(tuple(shape), c), core or whole)
    shifted = images.astype(np.float64)
    if offset is not None:
        shifted = shifted - offset.reshape(n, c, *(1,) * len(shape))
    return Batch(
        (tile,) * n,
        box,
        tile.source.header.bands,
        torch.from_numpy(shifted[at].astype(np.float32)),
        None if valid is None else torch.from_numpy(valid[at].copy()),
        None if offset is None else torch.from_numpy(offset),
    )


def run(node: Node, boundary: Boundary, images: Batch, ndim: int):
    plan = compile_bank([("r", node, boundary)], ndim)
    (response,) = apply_bank(plan, images)
    return response


@st.composite
def kernels(draw: st.DrawFn, ndim: int) -> Kernel:
    shape = tuple(draw(st.integers(1, 5)) for _ in range(ndim))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    if draw(st.booleans()):
        weights = np.ones(())
        for n in shape:
            weights = np.multiply.outer(weights, rng.normal(size=n))
    else:
        weights = rng.integers(-3, 4, size=shape).astype(float)
    return Kernel.of(weights)


def expressions(ndim: int) -> st.SearchStrategy[Node]:
    leaf = st.just(Input())

    def grow(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        return st.one_of(
            st.builds(Conv, inner, kernels(ndim)),
            st.builds(Map, inner, st.sampled_from(["abs", "negate", "square"])),
            st.builds(
                Join,
                st.tuples(inner, inner),
                st.sampled_from(["sum", "mean", "max", "min", "norm"]),
            ),
        )

    return st.recursive(leaf, grow, max_leaves=4)


@pytest.mark.parametrize("mode", MADE_UP)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(data=st.data())
def test_one_convolution_equals_scipy(ndim: int, mode: str, data: st.DataObject) -> None:
    kernel = data.draw(kernels(ndim))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    boundary = Boundary(mode, 3.0 if mode == "constant" else 0.0)
    node = Conv(Input(), kernel)
    got = run(node, boundary, batch(image[None]), ndim).values[0].numpy()
    want = evaluate(node, image, boundary)
    if mode == "valid":
        want = cut_valid(node, want, ndim)
    assert got.shape == want.shape
    scale = np.abs(kernel.array).sum() * np.abs(image).max() * 1e-6 + 1e-6
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(want) + scale)


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_compiled_equals_the_expression_as_written(ndim: int, data: st.DataObject) -> None:
    """Boundary `valid` on an image larger than the reach: no extension rule can hide an error."""
    node = data.draw(expressions(ndim))
    shape = tuple(sum(pair) + 6 for pair in reach_of(node, ndim))
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    boundary = Boundary("valid")
    got = run(node, boundary, batch(image[None]), ndim).values[0].numpy()
    want = cut_valid(node, evaluate(node, image, boundary), ndim)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_tiles_equal_the_whole(ndim: int, mode: str, data: st.DataObject) -> None:
    """Every core, read with its halo of real pixels, gives the crop of the whole response."""
    inner = Conv(Input(), data.draw(kernels(ndim)))
    node = Conv(Edge(Map(inner, "abs")), data.draw(kernels(ndim)))
    shape = tuple(data.draw(st.integers(4, 12)) for _ in range(ndim))
    image = np.random.default_rng(2).integers(0, 9, size=(1, 1, *shape)).astype(np.float32)
    boundary = Boundary(mode, 2.0 if mode == "constant" else 0.0)
    whole = run(node, boundary, batch(image), ndim)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    core = Region(start, stop)
    box = compile_bank([("r", node, boundary)], ndim).box(core, shape)
    part = run(node, boundary, batch(image, core, box), ndim)
    at = (slice(None), slice(None), *part.region.slices(whole.region.start))
    scale = float(whole.values.abs().max()) if whole.values.numel() else 0.0
    np.testing.assert_allclose(part.values, whole.values[at], rtol=1e-5, atol=1e-5 * scale)
    if whole.valid is not None and part.valid is not None:
        assert torch.equal(part.valid, whole.valid[at])


@given(data=st.data())
def test_a_plane_alone_equals_the_plane_in_any_batch_bit_for_bit(data: st.DataObject) -> None:
    node = data.draw(expressions(2))
    gradient = Join((Conv(Input(), Kernel.of([[1.0], [-1.0]])), node), "atan2")
    shape = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40)))
    images = np.random.default_rng(3).normal(size=(5, 2, *shape)).astype(np.float32)
    offset = np.random.default_rng(4).integers(-5, 5, size=(5, 2)).astype(np.float64)
    holes = np.random.default_rng(5).random((5, 2, *shape)) > 0.2
    for valid in (None, holes):
        for expression in (node, gradient):
            together = run(expression, Boundary(), batch(images, None, None, valid, offset), 2)
            for n in (0, 4):
                one = slice(n, n + 1)
                mask = None if valid is None else valid[one]
                alone = run(
                    expression, Boundary(), batch(images[one], None, None, mask, offset[one]), 2
                )
                assert torch.equal(alone.values[0], together.values[n])


@pytest.mark.parametrize("ndim", [2, 3])
@given(data=st.data())
def test_planes_extended_where_they_stand_give_the_same_bits(
    ndim: int, data: st.DataObject
) -> None:
    """With room for all, some or none of the margin; other rules for the border; missing pixels.

    Axes may have one pixel, and images and bands lie further apart than they have to.
    """
    modes = data.draw(st.lists(st.sampled_from(MODES), min_size=1, max_size=2, unique=True))
    rules = [Boundary(mode, 2.0 if mode == "constant" else 0.0) for mode in modes]
    named = [(r.mode, Conv(Input(), data.draw(kernels(ndim))), r) for r in rules]
    bank = compile_bank(named, ndim)
    shape = tuple(data.draw(st.sampled_from([1, 5, 9])) for _ in range(ndim))
    n, c = (data.draw(st.integers(1, 3)) for _ in range(2))
    images = np.random.default_rng(6).normal(size=(n, c, *shape)).astype(np.float32)
    holes = np.random.default_rng(7).random(images.shape) > 0.2
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    core = Region(start, shape) if data.draw(st.booleans()) else Region.whole(shape)
    given = batch(images, core, bank.box(core, shape), data.draw(st.sampled_from([None, holes])))
    room = tuple(data.draw(st.tuples(*[st.integers(0, 9)] * 2)) for _ in shape)
    more = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    many = roomy((n + more[0], c + more[1], *given.values.shape[2:]), room)
    standing = many[:n, more[1] :].copy_(given.values)
    many[n:], many[:, : more[1]] = 7.0, 7.0
    wanted = list(apply_bank(bank, given))
    for _ in range(2):  # what the first has written does not matter
        for got, want in zip(
            apply_bank(bank, replace(given, values=standing, room=room)), wanted, strict=True
        ):
            assert torch.equal(got.values, want.values)
            assert (got.valid is None) == (want.valid is None)
            assert got.valid is None or torch.equal(got.valid, want.valid)
    assert torch.equal(standing, given.values)
    assert (many[n:] == 7.0).all()
    assert (many[:, : more[1]] == 7.0).all()


def test_a_count_of_lines_that_no_tile_computes_is_an_error() -> None:
    """Else the results would be memory that nobody has written."""
    x, out = np.ones(8, np.float32), np.ones((6, 8), np.float32)
    taps, to = np.array([x.ctypes.data]), np.array([line.ctypes.data for line in out])
    still, once = np.zeros(3, np.int64), np.ones(3, np.int64)
    with pytest.raises(ValueError, match="no tile"):
        sum_taps(taps, still[None], out[:, 0].copy(), to, still, once, 8, PLAIN)


def test_an_offset_keeps_the_digits_of_data_with_a_large_mean() -> None:
    rng = np.random.default_rng(6)
    image = 1e6 + rng.normal(size=(1, 1, 64, 64))
    node = separable([[1.0, 4, 6, 4, 1], [-1.0, -2, 0, 2, 1]])
    want = evaluate(node, image[0], Boundary())
    offset = np.array([[1e6]])
    with_offset = run(node, Boundary(), batch(image, offset=offset), 2).values[0].numpy()
    without = run(node, Boundary(), batch(image), 2).values[0].numpy()
    assert np.abs(with_offset - want).max() <= tolerance(want)
    assert np.abs(without - want).max() > tolerance(want)


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_an_offset_keeps_them_through_a_second_extension_too(mode: Mode) -> None:
    image = 1e6 + np.random.default_rng(6).normal(size=(1, 1, 23, 31))
    smooth, edge = (Kernel.of(taps) for taps in ([[1.0, 2.0, 1.0]], [[-1.0], [0.0], [1.0]]))
    node = Conv(Edge(Conv(Input(), smooth)), edge)
    want = evaluate(node, image[0], Boundary(mode))
    got = run(node, Boundary(mode), batch(image, offset=np.array([[1e6]])), 2).values[0].numpy()
    assert np.abs(got - want).max() <= tolerance(want)


@pytest.mark.parametrize("mode", ["constant", "reflect", "nodata"])
def test_an_offset_does_not_change_what_lies_beyond_the_image(mode: str) -> None:
    rng = np.random.default_rng(7)
    image = rng.integers(0, 50, size=(1, 2, 7, 9)).astype(float)
    node = Map(Conv(Input(), Kernel.of(rng.integers(-3, 4, size=(4, 5)))), "abs")
    boundary = Boundary(mode, 5.0 if mode == "constant" else 0.0)
    plain = run(node, boundary, batch(image), 2)
    moved = run(node, boundary, batch(image, offset=np.array([[20.0, -7.0]])), 2)
    np.testing.assert_allclose(moved.values, plain.values, atol=1e-3)


# ---------------------------------------------------------------- nodata
def nodata_rule(x: np.ndarray, m: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DESIGN.md section 4, literally, in float64, with everything beyond the image invalid."""
    from scipy import ndimage

    def corr(a: np.ndarray, k: np.ndarray) -> np.ndarray:
        return ndimage.correlate(a.astype(float), k, mode="constant")

    seen = corr(m, np.abs(w))
    mean = corr(x * m, np.abs(w)) / np.where(seen > 0, seen, 1)
    out = corr(x * m, w) + mean * (w.sum() - corr(m, w))
    return out, seen / np.abs(w).sum()


@pytest.mark.parametrize("weights", [np.ones((3, 3)) / 9, np.outer([1, 2, 1], [-1, 0, 1])])
def test_nodata_follows_the_rule_and_only_touches_pixels_that_miss_a_tap(weights) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(100, 5, size=(20, 21))
    m = rng.random((20, 21)) > 0.1
    node = Conv(Input(), Kernel.of(weights))
    got = run(
        node, Boundary("nodata"), batch(np.where(m, x, np.nan)[None, None], valid=m[None, None]), 2
    )
    want, support = nodata_rule(x, m, weights)
    good = m & (support >= 0.75 - 1e-9)
    np.testing.assert_array_equal(got.valid[0, 0].numpy(), good)
    np.testing.assert_allclose(got.values[0, 0].numpy()[good], want[good], atol=1e-3)
    np.testing.assert_allclose(got.support[0, 0].numpy(), support, atol=1e-6)
    full = run(node, Boundary(), batch(x[None, None]), 2).values[0, 0].numpy()
    whole = support > 1 - 1e-9
    np.testing.assert_array_equal(got.values[0, 0].numpy()[whole], full[whole])


def test_a_tile_that_misses_no_pixel_of_a_scene_is_filtered_as_if_it_had_no_nodata() -> None:
    """Core and halo inside the image: what the outside is worth makes no difference."""
    kernel = Kernel.of(np.random.default_rng(3).normal(size=(5, 7)))
    node = Conv(Edge(Map(Conv(Input(), kernel), "abs")), kernel)
    image = np.random.default_rng(4).normal(size=(1, 1, 40, 50)).astype(np.float32)
    plan = compile_bank([("r", node, Boundary("nodata"))], 2)
    for start, missing in (((4, 6), False), ((3, 6), True), ((4, 5), True)):
        core = Region(start, (36, 44))
        tile = batch(image, core, plan.box(core, (40, 50)))
        got = run(node, Boundary("nodata"), tile, 2)
        assert (got.valid is not None) == missing
        if not missing:
            assert torch.equal(got.values, run(node, Boundary(), tile, 2).values)


def test_a_constant_scene_with_holes_has_no_edges() -> None:
    m = np.random.default_rng(9).random((30, 30)) > 0.15
    node = separable([[1.0, 2, 1], [-1.0, 0, 1]])
    image = np.where(m, 700.0, np.nan)[None, None]
    got = run(node, Boundary("nodata"), batch(image, valid=m[None, None]), 2)
    assert got.values[0, 0][got.valid[0, 0]].abs().max() < 1e-2


# ---------------------------------------------------------------- passes
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(data=st.data())
def test_factored_kernels_sum_to_the_kernel_within_the_stated_bound(ndim, data) -> None:
    kernel = data.draw(kernels(ndim))
    chains = separate(kernel)
    if chains is None:
        return
    delta = np.zeros(tuple(2 * n - 1 for n in kernel.shape))
    delta[tuple(n - 1 for n in kernel.shape)] = 1.0
    total = np.zeros(kernel.shape)
    for chain in chains:
        part = delta
        for step in chain:
            slow = np.zeros(tuple(p - k + 1 for p, k in zip(part.shape, step.shape, strict=True)))
            for at in np.ndindex(*step.shape):
                box = tuple(slice(a, a + n) for a, n in zip(at, slow.shape, strict=True))
                slow += step.array[at] * part[box]
            part = slow
        total += part[tuple(slice(None, None, -1) for _ in kernel.shape)]
    assert np.abs(total - kernel.array).sum() <= 2e-9 * np.abs(kernel.array).sum() + 1e-300


def test_separable_kernels_share_their_first_pass() -> None:
    smooth, edge, spot = [1.0, 4, 6, 4, 1], [-1.0, -2, 0, 2, 1], [-1.0, 0, 2, 0, -1]
    wide = np.pad(smooth, 4)
    nodes = [
        separable([np.add(wide, 1e-3), profile]) for profile in (np.pad(edge, 4), np.pad(spot, 4))
    ]
    plan = compile_bank([(str(i), n, Boundary()) for i, n in enumerate(nodes)], 2)
    assert sum(isinstance(n, Conv) for n in plan.fast.order) == 3


def test_convolutions_of_convolutions_become_one_kernel() -> None:
    a, b = Kernel.of([[1.0, 2, 3]]), Kernel.of([[1.0], [-1.0]])
    merged = compose(Conv(Conv(Input(), a), b))
    assert merged == Conv(Input(), Kernel.of([[1.0, 2, 3], [-1.0, -2, -3]]))


def test_a_2d_filter_on_a_volume_is_the_filter_on_every_slice() -> None:
    rng = np.random.default_rng(10)
    volume = rng.normal(size=(1, 1, 4, 12, 13)).astype(np.float32)
    node = Join(
        (separable([[1.0, 2, 1], [-1.0, 0, 1]]), separable([[-1.0, 0, 1], [1.0, 2, 1]])), "norm"
    )
    whole = run(lift(node, 3), Boundary(), batch(volume), 3).values
    for z in range(4):
        flat = run(node, Boundary(), batch(volume[:, :, z]), 2).values
        assert torch.equal(whole[:, :, z], flat)


def test_plans_pickle_and_compare_equal() -> None:
    node = separable([np.hanning(13), np.hanning(13)])
    plan = compile_bank([("a", node, Boundary())], 2)
    assert pickle.loads(pickle.dumps(plan)) == plan


@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("constant", "nodata", "valid")])
@given(size=st.integers(1, 9), pad=st.integers(0, 30))
def test_fold_equals_numpy_pad(mode: str, size: int, pad: int) -> None:
    names = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}
    want = np.pad(np.arange(size), pad, mode=names[mode])
    got = fold(np.arange(-pad, size + pad), size, mode)
    np.testing.assert_array_equal(got, want)


# ---------------------------------------------------------------- derived maps
TWO = (Conv(Input(), Kernel.of([[-1.0, 0.0, 1.0]])), Conv(Input(), Kernel.of([[1.0], [-1.0]])))
THREE = (*TWO, Conv(Input(), Kernel.of([[1.0, -2.0], [-2.0, 3.0]])))
DERIVED: dict[str, Node] = {
    **{fn: Map(TWO[0], fn) for fn in ("rectify", "sin", "cos")},
    **{fn: Map(Map(TWO[0], "abs"), fn) for fn in ("log",)},
    "exp": Map(Map(TWO[0], "multiply", 0.1), "exp"),
    "expm1": Map(Map(TWO[0], "multiply", 1e-9), "expm1"),  # exp - 1 would be 0
    "ratio": Join((TWO[1], Map(TWO[0], "add", 40.5)), "ratio"),
    "power": Map(TWO[0], "power", 1.5),
    "at_least": Map(Input(), "at_least", 4.0),
    "lookup": Lookup(Map(Input(), "at_least", 4.0), (2.5, -1.0)),
    "product": Join(TWO, "product"),
    "argmax": Join(THREE, "argmax"),
    "largest": Pool(TWO[0], (3, 6), "max"),
    "smallest": Pool(Input(), (1, 5), "min"),
    "largest of every third": Pool(TWO[0], (3, 4), "max", step=3),
    **{f"eigenvalue {i}": Join(THREE, "eigenvalue", i) for i in (0, 1)},
}


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e18])
def test_a_norm_knows_no_scale(scale: float) -> None:
    """Its squares would be 0 or infinite as float32."""
    image = np.random.default_rng(8).normal(size=(1, 1, 20, 30)).astype(np.float32)
    plain, scaled = (
        run(Join(TWO, "norm"), Boundary(), batch(x.astype(np.float32)), 2).values.numpy()
        for x in (image, image * np.float32(scale))
    )
    np.testing.assert_allclose(scaled / np.float32(scale), plain, rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "wanted"),
    [
        (1, 4, 0.25),
        (5, 0, 0),
        (0, 0, 0),
        (-3, 1e-45, 0),
        (1e30, 1e-30, 3.4028235e38),
        (1e-45, 8, 0),
    ],
)
def test_a_ratio_is_finite(x: float, y: float, wanted: float) -> None:
    parts = [(torch.full((2, 3), float(value)), None) for value in (x, y)]
    found = join_pixels(Join((Input(), Input()), "ratio"), parts)
    assert found.flatten().tolist() == pytest.approx([wanted] * 6, rel=1e-6)


@pytest.mark.parametrize(
    ("fn", "naive"),
    [
        ("sum", lambda x: x[0] + x[1] + x[2]),
        ("mean", lambda x: (x[0] + x[1] + x[2]) / 3),
        ("product", lambda x: x[0] * x[1] * x[2]),
        ("max", lambda x: torch.stack(x).amax(0)),
        ("min", lambda x: torch.stack(x).amin(0)),
        ("argmax", lambda x: torch.stack(x).argmax(0).float()),
        ("norm", lambda x: torch.stack(x).double().square().sum(0).sqrt().float()),
        ("ratio", lambda x: (x[0].double() / x[1].double()).float()),
        ("atan2", lambda x: torch.stack([torch.atan2(*both) for both in zip(*x, strict=True)])),
    ],
)
@pytest.mark.parametrize("shape", [(3, 300, 421), (5, 40, 51), (1, 2, 70_000), (2, 3, 4, 5)])
def test_joined_planes_are_those_that_are_joined_at_once(
    fn: Any, naive: Any, shape: tuple[int, ...]
) -> None:
    """However many pixels are done together, and however the parts lie in memory."""
    rng, count = torch.Generator().manual_seed(3), 2 if fn in ("ratio", "atan2") else 3
    wide = [torch.randn((*shape[:-1], shape[-1] + 2), generator=rng) for _ in range(count)]
    data = [x[..., 1:-1] for x in wide]
    some = torch.randn(shape[0], generator=rng, dtype=torch.float64), None, torch.ones(shape[0])
    bases = some[:count]
    level = (-1, *(1,) * (len(shape) - 1))
    settled = [
        x if base is None else x + base.float().reshape(level)
        for x, base in zip(data, bases, strict=True)
    ]
    found = join_pixels(Join((Input(),) * count, fn), list(zip(data, bases, strict=True)))
    assert torch.equal(found, naive(settled))
    assert found.is_contiguous()


def whole_numbers(shape: tuple[int, ...], n: int = 1) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 10, (n, 1, *shape)).astype(np.float32)


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    kind=st.sampled_from([torch.float32, torch.bool, torch.float64]),
    data=st.data(),
)
def test_pixels_are_gathered_as_numpy_takes_them(shape, kind, data: st.DataObject) -> None:
    """From planes that lie apart, in any order, forwards or transposed."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    wide = torch.from_numpy(rng.integers(-9, 9, (3, *(n + 2 for n in shape)))).to(kind)
    x = wide[(slice(2), *(slice(1, 1 + n) for n in shape))]
    if data.draw(st.booleans()):
        x = x.transpose(1, -1)
    places = [data.draw(st.lists(st.integers(0, n - 1), min_size=1)) for n in x.shape[1:]]
    got = gather(x, [Places.of(place) for place in places])
    assert np.array_equal(got, x.numpy()[np.ix_(range(2), *places)])


@pytest.mark.parametrize("shape", [(1, 3), (2, 5, 512), (1, 7, 64, 1024), (1, 1, 1)], ids=str)
def test_lines_that_a_pass_reads_lie_apart(shape: tuple[int, ...]) -> None:
    """Aligned to lines of the cache, never a multiple of 2 KiB from each other, none in another."""
    response, between = packed(shape), spaced(shape)
    assert response.is_contiguous()
    assert response.shape == between.shape == shape
    assert response.data_ptr() % 64 == between.data_ptr() % 64 == 0
    for step, size, below in zip(between.stride(), shape[1:], between.stride()[1:], strict=False):
        assert step >= size * below
        assert step % 16 == 0
        assert step % 512


@pytest.mark.parametrize("name", DERIVED)
def test_derived_maps_equal_numpy(name: str) -> None:
    images = whole_numbers((23, 31))
    boundary = Boundary("valid")
    got = run(DERIVED[name], boundary, batch(images), 2).values[0].numpy()
    want = cut_valid(DERIVED[name], evaluate(DERIVED[name], images[0], boundary), 2)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=tolerance(want))


@pytest.mark.parametrize("index", range(3))
def test_eigenvalues_in_3d_equal_lapacks(index: int) -> None:
    """Also where two or all three coincide."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(1, 6, 4, 5, 6)).astype(np.float32)
    images[0, [1, 2, 4], 0] = 0.0
    images[0, 3, 0] = images[0, 0, 0]
    images[0, 5, 0, :2] = images[0, 0, 0, :2]
    node = Join(tuple(Input(band) for band in range(6)), "eigenvalue", index)
    got = run(node, Boundary(), batch(images), 3).values[0].numpy()
    want = evaluate(node, images[0], Boundary())
    np.testing.assert_allclose(got[0], want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("n", [2, 3])
def test_eigenvectors_are_orthonormal_and_lapacks_where_those_are_unique(n: int) -> None:
    rows, columns = np.triu_indices(n)
    bands = np.random.default_rng(2).normal(size=(len(rows), 4, 5, 6)).astype(np.float32)
    bands[:, 0, 0] = 0.0
    bands[:, 0, 1] = (rows == columns)[:, None] * 2
    bands[:, 0, 2] = (rows == columns)[:, None] * (1 + 2 * (rows == 0))[:, None]
    bands[:, 0, 3] = ((rows + 1) * (columns + 1))[:, None]  # of rank 1
    parts = tuple(Input(band) for band in range(len(rows)))
    nodes = [Join(parts, "eigenvector", i) for i in range(n * n)]
    found = [run(node, Boundary(), batch(bands[None]), 3).values[0, 0].numpy() for node in nodes]
    frame = np.stack(found, -1).reshape(4, 5, 6, n, n)
    unit = np.broadcast_to(np.eye(n), frame.shape)
    np.testing.assert_allclose(frame @ np.swapaxes(frame, -1, -2), unit, rtol=0, atol=1e-6)
    matrix = np.empty(frame.shape)
    matrix[..., rows, columns] = matrix[..., columns, rows] = np.moveaxis(bands, 0, -1)
    turned, values = frame @ matrix, np.linalg.eigvalsh(matrix)
    np.testing.assert_allclose(turned, values[..., None] * frame, rtol=0, atol=1e-5)
    for node, got in zip(nodes, found, strict=True):
        want = evaluate(node, bands, Boundary())
        np.testing.assert_allclose(got[1:], want[1:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [1, 2])
def test_the_largest_of_a_window_is_of_its_valid_pixels(step: int) -> None:
    images = whole_numbers((9, 12))
    valid = np.random.default_rng(0).random(images.shape) > 0.2
    node = Pool(Input(), (3, 3), "max", step)
    response = run(node, Boundary("nodata"), batch(images, valid=valid), 2)
    assert response.valid is not None
    seen = valid[0, 0]
    for y, x in np.ndindex(9, 12):
        rows, columns = (
            [i for i in (a - step, a, a + step) if 0 <= i < n] for a, n in ((y, 9), (x, 12))
        )
        window = np.ix_(rows, columns)
        enough = seen[window].sum() / 9 >= 0.75
        assert bool(response.valid[0, 0, y, x]) == (bool(seen[y, x]) and enough)
        if response.valid[0, 0, y, x]:
            assert response.values[0, 0, y, x] == images[0, 0][window][seen[window]].max()


# ---------------------------------------------------------------- the frequency domain
@dataclass(frozen=True)
class Shift:
    """Moves an image by a part of a pixel, damps it, prefers waves to the right: no symmetry."""

    along: float

    def sample(self, shape: tuple[int, ...]) -> np.ndarray:
        axes = np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")
        shifted = np.exp(-2j * np.pi * self.along * axes[-1] - 3 * sum(a**2 for a in axes))
        return shifted * (1 + np.sign(axes[-1]) / 2)


@pytest.mark.parametrize("mode", [m for m in MODES if m != "valid"])
@pytest.mark.parametrize("shape", [(12, 17), (7, 8, 9)])
@pytest.mark.parametrize("part", ["real", "imaginary"])
def test_transfer_functions_equal_numpys_complex_transform(mode, shape, part) -> None:
    images = whole_numbers(shape) * 7 + 300
    boundary = Boundary(mode, 250.0 if mode == "constant" else 0.0)
    node = Spectral(Spectrum(Input(), 2, 0.5), Shift(0.3), part)
    offset = np.full((1, 1), 300.0)
    got = run(node, boundary, batch(images, offset=offset), len(shape))
    plain = boundary if mode != "nodata" else Boundary("constant", float(images.mean()))
    want = evaluate(node, images[0], plain)
    np.testing.assert_allclose(got.values[0].numpy(), want, rtol=0, atol=tolerance(want))


def test_a_hole_counts_as_the_mean_of_the_rest_and_stays_a_hole() -> None:
    images = whole_numbers((10, 11))
    valid = np.ones(images.shape, bool)
    valid[0, 0, 3:6, 2:7] = False
    node = Spectral(Spectrum(Input(), 2, 0.5), Shift(0.3))
    got = run(node, Boundary(), batch(images, valid=valid), 2)
    filled = np.where(valid, images, images[valid].astype(np.float64).mean())
    want = evaluate(node, filled[0], Boundary())
    np.testing.assert_allclose(got.values[0].numpy(), want, rtol=0, atol=tolerance(want))
    assert got.valid is not None
    assert got.support is not None
    np.testing.assert_array_equal(got.valid[0].numpy(), valid[0])
    assert got.support.unique().tolist() == pytest.approx([95 / 110])


def test_what_follows_a_transfer_function_sees_its_response_extended() -> None:
    node = Conv(Spectral(Spectrum(Input(), 2, 0.0), Shift(0.3)), Kernel.of(np.ones((5, 4))))
    images = whole_numbers((10, 11))
    got = run(node, Boundary("mirror"), batch(images), 2).values[0].numpy()
    want = evaluate(node, images[0], Boundary("mirror"))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(want))


def test_the_whole_image_has_no_valid_map() -> None:
    node = Spectral(Spectrum(Input(), 2, 0.5), Shift(0.3))
    with pytest.raises(PlanError, match="set its boundary"):
        compile_bank([("r", node, Boundary("valid"))], 2)


@pytest.mark.parametrize("name", [*DERIVED, "transfer"])
def test_derived_maps_of_a_plane_do_not_depend_on_its_company(name: str) -> None:
    node = DERIVED.get(name, Spectral(Spectrum(Input(), 2, 0.5), Shift(0.3)))
    images = whole_numbers((19, 23), n=5)
    together = run(node, Boundary(), batch(images), 2).values
    for i in range(5):
        alone = run(node, Boundary(), batch(images[i : i + 1]), 2).values
        assert torch.equal(alone[0], together[i])


def test_parts_that_share_parts_are_visited_once() -> None:
    """There are 2^60 ways from the result down to the image."""
    node: Node = Input()
    for _ in range(60):
        node = Map(Join((node, node), "mean"), "abs")
    images = whole_numbers((3, 4))
    got = run(node, Boundary(), batch(images), 2)
    np.testing.assert_array_equal(got.values[0].numpy(), images[0])
    assert not hasattr(pickle.loads(pickle.dumps(node.of)), "_hash")  # of this process alone


# ---------------------------------------------------------------- rotations
UNLIKE = Kernel.of(np.arange(24).reshape(2, 3, 4) ** 2)
"""No two of its rotations or reflections are equal, and two of its sizes are even."""


@pytest.mark.parametrize("kernel", [UNLIKE, Kernel.of(UNLIKE.array[1])], ids=["3-D", "2-D"])
def test_a_rotated_filter_is_the_filter_between_two_rotations_of_the_image(kernel: Kernel) -> None:
    """24 in 3-D, not 48: none of them mirrors. IBSI 2 has no test that could tell."""
    ndim, boundary = len(kernel.shape), Boundary("reflect")
    image = np.random.default_rng(3).normal(size=(7, 8, 9)[:ndim])
    node = Join((Map(Conv(Input(), kernel), "abs"), Pool(Input(), kernel.shape, "max")), "sum")
    spectral = Spectral(Spectrum(Input(), ndim, 0.5), Shift(0.3))
    found = set()
    for rotation in right_angles(ndim):
        turn = np.zeros((ndim, ndim))
        turn[range(ndim), rotation.order] = rotation.signs
        assert np.linalg.det(turn) == pytest.approx(1)
        back = Rotation(
            tuple(np.argsort(rotation.order)),
            tuple(rotation.signs[i] for i in np.argsort(rotation.order)),
        )
        np.testing.assert_array_equal(back.of(rotation.of(image)), image)
        turned = rotate(node, rotation)
        found.add(turned)
        for plain, other in ((node.of[0], turned.of[0]), (spectral, rotate(spectral, rotation))):
            got = evaluate(other, image, boundary)
            want = rotation.of(evaluate(plain, np.ascontiguousarray(back.of(image)), boundary))
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-9 * np.abs(want).max())
    assert len(found) == len(right_angles(ndim))


def test_equal_rotations_are_pooled_once() -> None:
    edge = Conv(Input(), Kernel.of([[-1.0, 0.0, 1.0]]))
    pooled = pool_rotations(edge, 2, "max")
    assert isinstance(pooled, Join)
    assert len(pooled.of) == 4
    even = Conv(Input(), Kernel.of(np.ones((3, 3))))
    assert pool_rotations(even, 2, "mean") == even


@pytest.mark.parametrize("weights", [[[np.nan]], [[1.0, np.inf]], []])
def test_weights_that_are_no_numbers_are_a_problem_of_the_plan(weights) -> None:
    """So the config line that made them is told, without a traceback."""
    with pytest.raises(PlanError, match="must be finite and not empty"):
        Kernel.of(weights)

"""Riesz transforms against waves, whose transforms are known, and against formulae in numpy."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import factorial, prod, sqrt

import numpy as np
import pytest
import scipy
from pydantic import ValidationError
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.filters.log import LaplacianOfGaussian
from pipeline.filters.monogenic import Monogenic
from pipeline.filters.riesz import Riesz
from pipeline.filters.simoncelli import Simoncelli
from pipeline.types import Grid

ROUNDING = 1e-10  # relative to the largest pixel
FLAT, VOLUME = Grid((1.0, 1.0)), Grid((1.0, 1.0, 1.0))


def assert_equal(got, wanted, peak=None):
    peak = np.abs(wanted).max() if peak is None else peak
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING * peak)


def wave(shape, cycles):
    """Phases of a periodic plane wave, and its direction in pixels; axes as numpy's."""
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")
    phase = sum(2 * np.pi * c * a / n for c, a, n in zip(cycles, axes, shape, strict=True))
    frequency = np.array(cycles) / shape
    return phase + 0.3, frequency / np.linalg.norm(frequency)


def parts(volume, grid="dft"):
    """Frequencies, axes as numpy's, and the spectrum of a volume."""
    if grid == "ibsi":
        halves = [(n - 1) / 2 for n in volume.shape]
        axes = [np.fft.ifftshift(np.arange(2 * h + 1) / h - 1) for h in halves]
    else:
        axes = [np.fft.fftfreq(n) for n in volume.shape]
    return np.meshgrid(*axes, indexing="ij"), np.fft.fftn(volume)


def riesz(volume, orders, grid="dft", transfer=1.0):
    """The IBSI's formula; orders as the axes of the volume."""
    nu, spectrum = parts(volume, grid)
    total = sum(orders)
    radius = np.sqrt(sum(n**2 for n in nu))
    factor = prod(n**order for n, order in zip(nu, orders, strict=True))
    factor = np.divide(factor, radius**total, out=np.zeros(volume.shape), where=radius > 0)
    factor = factor * sqrt(factorial(total) / prod(map(factorial, orders)))
    return np.fft.ifftn(spectrum * (-1j) ** total * factor * transfer).real


# ---------------------------------------------------------------- along the axes
@pytest.mark.parametrize("order", ["x", "y", "xx", "xy", "yyy", "xxxy"])
def test_a_wave_is_turned_by_a_right_angle_per_order(evaluate, order):
    phase, (uy, ux) = wave((15, 22), (2, 5))
    node = Riesz(order=order, grid="dft").responses(FLAT)[""]
    got = evaluate(node, 7 * np.cos(phase)[None] + 3, "wrap")[0]
    nx, ny = order.count("x"), order.count("y")
    count = factorial(nx + ny) / factorial(nx) / factorial(ny)
    assert_equal(got, 7 * sqrt(count) * ux**nx * uy**ny * np.cos(phase - len(order) * np.pi / 2))


def test_in_one_dimension_it_is_the_hilbert_transform(evaluate, image):
    line = image(41) - 100
    node = Riesz(order="x", grid="dft").responses(Grid((1.0,)))[""]
    assert_equal(evaluate(node, line[None], "wrap")[0], scipy.signal.hilbert(line).imag)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_all_transforms_of_an_order_keep_the_energy(evaluate, image, total):
    """M. Unser, N. Chenouard, 2013: they map to a tight frame."""
    volume = image(7, 9, 11)
    energy = sum(
        np.square(
            evaluate(
                Riesz(order="".join(axes), grid="dft").responses(VOLUME)[""], volume[None], "wrap"
            )
        ).sum()
        for axes in combinations_with_replacement("xyz", total)
    )
    assert energy == pytest.approx(np.square(volume - volume.mean()).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("order", "orders"), [("x", (0, 0, 1)), ("yy", (0, 2, 0)), ("xzz", (2, 0, 1))]
)
@pytest.mark.parametrize("grid", ["ibsi", "dft"])
@pytest.mark.parametrize("shape", [(6, 10, 13), (8, 6, 12)])
def test_of_a_log_equals_the_formula_whatever_shape_and_spacing(
    evaluate, image, order, orders, grid, shape
):
    """The kernel lies on the extended grid: IBSI 9, here with pixels that are not cubes."""
    volume = image(*shape)
    spacing = (3.0, 2.0, 2.5)
    item = Riesz(order=order, sigma=3.0, truncate=2.0, grid=grid)
    got = evaluate(item.responses(Grid(spacing, "mm"))[""], volume[None], "reflect")[0]

    pad = [-(-n // 2) for n in shape]
    wide = np.pad(volume, [(p, p) for p in pad], "symmetric")
    sigmas = [3.0 / step for step in spacing]
    embedded = np.zeros(wide.shape)
    for at in np.ndindex(wide.shape):
        k = [i if i <= n // 2 else i - n for i, n in zip(at, wide.shape, strict=True)]
        if all(abs(i) <= int(2 * s + 0.5) for i, s in zip(k, sigmas, strict=True)):
            square = sum((i / s) ** 2 for i, s in zip(k, sigmas, strict=True))
            density = np.exp(-square / 2) / np.prod(sigmas) / (2 * np.pi) ** 1.5
            embedded[at] = -(3 - square) * density / np.prod(sigmas) ** (2 / 3)
    wanted = riesz(wide, orders, grid, np.fft.fftn(embedded))
    inner = tuple(slice(p, p + n) for p, n in zip(pad, shape, strict=True))
    assert_equal(got, wanted[inner])


def test_a_kernel_larger_than_the_image_wraps_around_it(evaluate, image):
    picture = image(9, 11)
    node = Riesz(order="x", sigma=2.0, truncate=6, grid="dft").responses(FLAT)[""]
    log = evaluate(
        LaplacianOfGaussian(sigma=2, truncate=6).responses(FLAT)[""], picture[None], "wrap"
    )[0]
    assert_equal(evaluate(node, picture[None], "wrap")[0], riesz(log, (0, 1)))


@pytest.mark.parametrize("shape", [(15, 22), (6, 8, 9)])
@pytest.mark.parametrize("grid", ["ibsi", "dft"])
def test_of_a_wavelet_multiplies_both_transfer_functions(evaluate, image, shape, grid):
    volume = image(*shape)
    flat = Grid((1.0,) * len(shape))
    band = Simoncelli(level=2, grid=grid).responses(flat)[""].transfer.sample(shape)
    node = Riesz(order="xy", level=2, grid=grid, pad=0).responses(flat)[""]
    orders = (0,) * (len(shape) - 2) + (1, 1)
    assert_equal(evaluate(node, volume[None])[0], riesz(volume, orders, grid, band))


# ---------------------------------------------------------------- along the structure
@pytest.mark.parametrize(("shape", "cycles"), [((18, 25), (-2, 4)), ((8, 9, 10), (1, 2, 2))])
def test_a_wave_varies_along_its_first_direction_alone(evaluate, shape, cycles):
    phase, _ = wave(shape, cycles)
    flat = Grid((1.0,) * len(shape))
    for order, wanted in (
        ("x", np.sin(phase)),  # cycles to the right are positive
        ("xx", -np.cos(phase)),
        ("y", 0 * phase),
        ("xy", 0 * phase),
    ):
        node = Riesz(order=order, tensor_sigma=1, grid="dft").responses(flat)[""]
        assert_equal(evaluate(node, np.cos(phase)[None], "wrap")[0], wanted, peak=1.0)


@pytest.mark.parametrize("shape", [(14, 19), (6, 7, 9)])
@pytest.mark.parametrize("base", [{}, {"level": 1}])
def test_steered_transforms_equal_matrices_turned_by_lapack(evaluate, image, shape, base):
    """Of order 2: sqrt(2) u^T H v, or u^T H u, with H the transforms along the axes."""
    volume, n = image(*shape), len(shape)
    flat = Grid((2.0,) * n, "mm")
    band = 1.0
    if base:
        band = Simoncelli(level=1, grid="dft").responses(flat)[""].transfer.sample(shape)
    unit = np.eye(n, dtype=int)[::-1]  # x first
    first = np.stack([riesz(volume, one, transfer=band) for one in unit], -1)
    second = np.empty((*shape, n, n))
    for i, j in np.ndindex(n, n):
        orders = tuple(unit[i] + unit[j])
        scale = 1.0 if i == j else 1 / sqrt(2)
        second[..., i, j] = riesz(volume, orders, transfer=band) * scale
    tensor = np.empty((*shape, n, n))
    for i, j in np.ndindex(n, n):
        tensor[..., i, j] = ndimage.gaussian_filter(
            first[..., i] * first[..., j], 0.75, mode="wrap", truncate=4
        )
    vectors = np.swapaxes(np.linalg.eigh(tensor)[1], -1, -2)[..., ::-1, :]
    vectors *= np.where(vectors[..., :1] < 0, -1, 1)
    u, v, *_ = np.moveaxis(vectors, -2, 0)

    def form(a, b):
        return np.einsum("...i,...ij,...j->...", a, second, b)

    for order, wanted in (
        ("x", (u * first).sum(-1)),
        ("y", (v * first).sum(-1)),
        ("xx", form(u, u)),
        ("xy", sqrt(2) * form(u, v)),
        ("yy", form(v, v)),
    ):
        item = Riesz(order=order, grid="dft", tensor_sigma=1.5, **base)
        assert_equal(evaluate(item.responses(flat)[""], volume[None], "wrap")[0], wanted)


# ---------------------------------------------------------------- the monogenic signal
@pytest.mark.parametrize(("shape", "cycles"), [((30, 40), (4, 7)), ((12, 16, 20), (1, 3, 3))])
def test_a_wave_has_one_amplitude_and_its_own_phase(evaluate, shape, cycles):
    phase, direction = wave(shape, cycles)
    radius = 2 * np.linalg.norm(np.array(cycles) / shape)
    gain = np.cos(np.pi / 2 * np.log2(2 * radius))
    flat = Grid((1.0,) * len(shape))

    def found(output):
        node = Monogenic(level=1, output=output).responses(flat)[""]
        return evaluate(node, 50 + 7 * np.cos(phase)[None], "wrap")[0]

    assert_equal(found("amplitude"), np.full(shape, 7 * gain))
    assert_equal(found("phase"), np.arccos(np.cos(phase)), peak=10.0)
    if len(shape) == 2:
        dark = np.sign(np.sin(phase))[..., None] * direction  # from the crest down
        assert_equal(found("orientation"), np.arctan2(dark[..., 0], dark[..., 1]))


def test_of_what_varies_along_x_alone_it_is_scipys_analytic_signal(evaluate, image):
    """Envelope and phase of each row; of a plane otherwise no library has this band."""
    row = image(64)
    picture = np.tile(row, (12, 1))[None]

    def found(item):
        return evaluate(item.responses(Grid((1.0, 1.0)))[""], picture, "wrap")[0]

    analytic = scipy.signal.hilbert(found(Simoncelli(level=2, grid="dft")))
    assert_equal(found(Monogenic(level=2)), np.abs(analytic))
    assert_equal(found(Monogenic(level=2, output="phase")), np.abs(np.angle(analytic)), peak=10.0)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"order": ""}, "'' is not an order; write 1 to 8 axes"),
        ({"order": "xw"}, "'xw' is not an order"),
        ({"order": "x", "sigma": 1, "level": 1}, "give one of them, or none"),
        ({"order": "x", "level": 0}, "greater than or equal to 1"),
    ],
)
def test_orders_and_bases_that_mean_nothing_are_refused(given, text):
    with pytest.raises(ValidationError, match=text):
        Riesz(**given)


def test_an_order_is_a_set_of_axes():
    assert Riesz(order="yxz") == Riesz(order="xyz")


@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (Riesz(order="z"), FLAT, "these images have no axis 'z'"),
        (Riesz(order="x", tensor_sigma=1), Grid((1.0,)), "needs 2-D or 3-D images"),
        (Riesz(order="x", sigma=0.01), FLAT, "less than 0.1"),
        (Riesz(order="x", tensor_sigma=0.01), FLAT, "less than 0.1"),
        (Monogenic(output="orientation"), VOLUME, "needs 2-D images, these have 3 axes"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)

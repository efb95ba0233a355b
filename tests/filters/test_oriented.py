"""Oriented banks against libraries, formulae and tables of their papers.

No table and no library that could be run is known for G4, H2 and H4, Schmid's rings and oblique
angles of the Visual Geometry Group's banks (its code is MATLAB; the ports to Python that were found
take other sigmas or normalise otherwise). There the formula stands here a second time, beside what
follows from its definition: derivatives, Hilbert transforms, norms.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy

from pipeline.bank.expr import Conv, nodes_of
from pipeline.bank.passes import TOLERANCE
from pipeline.errors import PlanError
from pipeline.filters.leung_malik import LeungMalik
from pipeline.filters.log_gabor import LogGabor
from pipeline.filters.rfs import MaximumResponse8, RootFilterSet
from pipeline.filters.schmid import Schmid
from pipeline.filters.steerable import G, H, Steerable
from pipeline.types import Grid

PHASEPACK = Path(__file__).parents[1] / "golden" / "log_gabor_phasepack.npz"
LINE, FLAT, VOLUME = (Grid((1.0,) * n) for n in (1, 2, 3))


def node(item, grid=FLAT):
    (only,) = item.responses(grid).values()
    return only


# ---------------------------------------------------------------- log-Gabor
def kovesi(picture, wavelength, angle, sigma_on_f, theta_sigma):
    """One filter of gaborconvolve.m for even sizes; the angle is counter-clockwise, in radians."""
    rows, columns = picture.shape
    x, y = np.meshgrid(
        np.arange(-columns / 2, columns / 2) / columns, np.arange(-rows / 2, rows / 2) / rows
    )
    radius = np.hypot(x, y)
    low_pass = 1 / (1 + (radius / 0.45) ** (2 * 15))
    radius[rows // 2, columns // 2] = 1
    theta = np.arctan2(-y, x)
    log_gabor = np.exp(-(np.log(radius * wavelength) ** 2) / (2 * np.log(sigma_on_f) ** 2))
    log_gabor *= low_pass
    log_gabor[rows // 2, columns // 2] = 0
    ds = np.sin(theta) * np.cos(angle) - np.cos(theta) * np.sin(angle)
    dc = np.cos(theta) * np.cos(angle) + np.sin(theta) * np.sin(angle)
    spread = np.exp(-(np.abs(np.arctan2(ds, dc)) ** 2) / (2 * theta_sigma**2))
    return np.fft.ifft2(np.fft.fft2(picture) * np.fft.ifftshift(log_gabor * spread))


@pytest.mark.parametrize(
    ("wavelength", "degrees", "sigma_on_f"), [(3, 0, 0.55), (6.3, 30, 0.65), (12, 150, 0.75)]
)
def test_log_gabor_equals_kovesis_formula(evaluate, image, wavelength, degrees, sigma_on_f):
    picture = image(40, 58)
    wanted = kovesi(picture, wavelength, -np.radians(degrees), sigma_on_f, np.pi / 6 / 1.5)
    parts = {"even": wanted.real, "odd": wanted.imag, "magnitude": np.abs(wanted)}
    for output, part in parts.items():
        item = LogGabor(
            wavelength=wavelength, orientation=degrees, sigma_on_f=sigma_on_f, output=output
        )
        got = evaluate(node(item), picture[None], "wrap")[0]
        np.testing.assert_allclose(got, part, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("wavelength", "sigma_on_f"), [(3, 0.55), (6.3, 0.65), (12, 0.75)])
def test_along_its_direction_log_gabor_equals_phasepack(wavelength, sigma_on_f):
    """Where the angular factors are 1: phasepack has phasecong3's cosine for the Gaussian."""
    gains = np.load(PHASEPACK)[f"{wavelength},{sigma_on_f}"]
    item = LogGabor(wavelength=wavelength, sigma_on_f=sigma_on_f, output="even")
    got = node(item).transfer.sample((32, 64))[0, 1:32]
    np.testing.assert_allclose(got, gains, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shape", [(33, 40), (12, 15, 16)])
def test_log_gabor_does_not_answer_to_a_constant(evaluate, shape):
    for output in ("even", "odd"):
        item = LogGabor(wavelength=4, orientation=20, output=output)
        got = evaluate(node(item, Grid((1.0,) * len(shape))), np.full((1, *shape), 1000.0))
        np.testing.assert_allclose(got, 0, rtol=0, atol=1e-9)


def test_log_gabor_halves_a_wave_of_its_own_also_where_voxels_are_not_cubes(evaluate):
    """The frequency (-1/32, 2/32, 3/32) per mm falls on that of a grid of (3, 1, 2) mm."""
    spacing, shape = (3.0, 1.0, 2.0), (32, 32, 32)
    towards = np.array([-1.0, 2.0, 3.0]) / 32  # per mm, in the order (z, y, x)
    length = np.linalg.norm(towards)
    phase = 2 * np.pi * sum(f * t for f, t in zip(towards, lattice(shape, spacing), strict=True))
    angles = {
        "orientation": np.degrees(np.arctan2(towards[1], towards[2])),
        "elevation": np.degrees(np.arcsin(towards[0] / length)),
    }
    for output, wanted in (("even", np.cos(phase)), ("odd", np.sin(phase))):
        item = LogGabor(wavelength=1 / length, output=output, **angles)
        got = evaluate(node(item, Grid(spacing, "mm")), np.cos(phase)[None], "wrap")[0]
        low_pass = 1 / (1 + (np.linalg.norm(towards * spacing) / 0.45) ** 30)
        np.testing.assert_allclose(got, low_pass * wanted / 2, rtol=0, atol=1e-12)


def lattice(shape, spacing):
    """Positions of the voxels along each axis, shaped to broadcast."""
    return np.ix_(*(np.arange(n) * step for n, step in zip(shape, spacing, strict=True)))


def test_log_gabor_pools_directions(evaluate, image):
    picture = image(30, 36)[None]
    each = [evaluate(node(LogGabor(wavelength=5, orientation=a)), picture) for a in (0, 60, 120)]
    item = LogGabor(**LogGabor.spread({"wavelength": 5, "orientations": 3, "pool": "max"}))
    np.testing.assert_allclose(evaluate(node(item), picture), np.max(each, axis=0), rtol=1e-12)


# ---------------------------------------------------------------- steerable
FREEMAN_ADELSON = {  # sampled every 0.67 units from the centre outwards, as published
    "G2": (-0.9213, -0.0601, 0.3964, 0.1148, 0.0094),
    "gaussian": (1.0, 0.6383, 0.1660, 0.0176, 0.0008),
}
PROFILES = {
    (2, "even"): lambda u: 0.9213 * (2 * u**2 - 1),
    (2, "odd"): lambda u: 0.9780 * (-2.254 * u + u**3),
    (4, "even"): lambda u: 1.246 * (0.75 - 3 * u**2 + u**4),
    (4, "odd"): lambda u: 0.3975 * (7.189 * u - 7.501 * u**3 + u**5),
}


def impulse_response(evaluate, item, radii, grid=FLAT):
    """The kernel of a convolution, from what it answers to a single bright pixel."""
    point = np.zeros([2 * r + 1 for r in radii])
    point[tuple(radii)] = 1
    return evaluate(node(item, grid), point[None], "constant")[0]


def test_g2_equals_the_published_taps(evaluate):
    item = Steerable(sigma=1 / (0.67 * np.sqrt(2)), output="even")
    across, along = (
        np.array(taps[:0:-1] + taps) for taps in (FREEMAN_ADELSON[k] for k in ("G2", "gaussian"))
    )
    got = impulse_response(evaluate, item, (4, 4))
    np.testing.assert_allclose(got, np.outer(along, across), rtol=0, atol=6e-5)


@pytest.mark.parametrize(("order", "output"), PROFILES)
@pytest.mark.parametrize("degrees", [0, 30, 90, 200.5])
def test_a_steered_kernel_is_the_turned_polynomial(evaluate, order, output, degrees):
    sigma, r = 1.7, 7
    y, x = np.mgrid[-r : r + 1, -r : r + 1] / (np.sqrt(2) * sigma)
    u = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    wanted = PROFILES[order, output](u) * np.exp(-(x**2) - y**2)
    item = Steerable(sigma=sigma, order=order, output=output, orientation=degrees)
    got = impulse_response(evaluate, item, (r, r))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("order", "output"), PROFILES)
def test_a_kernel_is_steered_in_volumes_too(evaluate, order, output):
    spacing, sigma, radii = (2.0, 1.0, 1.25), 2.0, (2, 4, 3)
    z, y, x = (
        np.arange(-r, r + 1) * step / (np.sqrt(2) * sigma)
        for r, step in zip(radii, spacing, strict=True)
    )
    z, y, x = np.ix_(z, y, x)
    turn, rise = np.radians(130), np.radians(-35)
    u = np.cos(rise) * (x * np.cos(turn) + y * np.sin(turn)) + z * np.sin(rise)
    wanted = (2 / np.pi) ** 0.25 * PROFILES[order, output](u) * np.exp(-(x**2) - y**2 - z**2)
    turned = {"orientation": 130, "elevation": -35}
    item = Steerable(sigma=sigma, order=order, output=output, truncate=2, **turned)
    got = impulse_response(evaluate, item, radii, Grid(spacing, "mm"))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("order", [2, 4])
def test_odd_is_the_hilbert_transform_of_even(order):
    """As well as Freeman and Adelson's fits; both of norm 1, as theirs."""
    u = np.linspace(-40, 40, 2**13, endpoint=False)
    even, odd = (PROFILES[order, part](u) * np.exp(-(u**2)) for part in ("even", "odd"))
    assert np.corrcoef(np.imag(scipy.signal.hilbert(even)), odd)[0, 1] > 0.995
    for part in (even, odd):
        integral = np.square(part).sum() * (u[1] - u[0]) * np.sqrt(np.pi / 2)
        assert integral == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("order", [2, 4])
def test_even_is_a_derivative_of_a_gaussian(order):
    """By Hermite's polynomial, which the derivative of e^(-u^2) is the product of."""
    hermite = np.polynomial.hermite.herm2poly([0] * order + [1])
    np.testing.assert_allclose(G[order], hermite * G[order][-1] / hermite[-1], rtol=1e-14)


@pytest.mark.parametrize("order", [2, 4])
def test_odd_has_the_coefficients_that_fit_the_hilbert_transform_best(order):
    """By least squares of our own: those of the paper differ by 0.2 %, a slip would by more."""
    u = np.linspace(-40, 40, 2**13, endpoint=False)
    gaussian = np.exp(-(u**2))
    wanted = np.imag(scipy.signal.hilbert(np.polyval(G[order][::-1], u) * gaussian))
    odd = range(1, order + 2, 2)
    fitted = np.linalg.lstsq(np.stack([u**k * gaussian for k in odd], axis=1), wanted)[0]
    np.testing.assert_allclose([H[order][k] for k in odd], fitted, rtol=3e-3)


def test_energy_does_not_depend_on_the_phase(evaluate):
    x = np.arange(64) * np.ones((64, 1))
    item = Steerable(sigma=2.0, order=4)
    steady = [
        evaluate(node(item), np.cos(2 * np.pi * x / 8 + phase)[None], "wrap")[0]
        for phase in (0, 0.7, 1.6)
    ]
    assert np.ptp(steady) < 0.02 * np.mean(steady)


def test_directions_share_their_basis():
    nodes = {
        this
        for k in range(16)
        for this in nodes_of(node(Steerable(sigma=2, orientation=11.25 * k)))
        if isinstance(this, Conv)
    }
    assert len(nodes) == 3 + 4


def test_steerable_pools_directions(evaluate, image):
    picture = image(30, 36)[None]
    each = [evaluate(node(Steerable(sigma=1.5, orientation=a)), picture) for a in (10, 100)]
    item = Steerable(sigma=1.5, orientation=10, orientations=2, pool="mean")
    np.testing.assert_allclose(evaluate(node(item), picture), np.mean(each, axis=0), rtol=1e-12)


# ---------------------------------------------------------------- the VGG's texture banks
def matlab_normalise(f):
    f = f - f.mean()
    return f / np.abs(f).sum()


def matlab_gauss1d(sigma, x, order):
    variance = sigma**2
    g = np.exp(-(x**2) / (2 * variance)) / np.sqrt(np.pi * 2 * variance)
    return {0: g, 1: -g * x / variance, 2: g * (x**2 - variance) / variance**2}[order]


def matlab_stripes(scales, order):
    columns, rows = np.meshgrid(np.arange(-24, 25), np.arange(24, -25, -1))
    points = np.stack([columns.ravel(), rows.ravel()])
    for scale in scales:
        for k in range(6):
            c, s = np.cos(np.pi * k / 6), np.sin(np.pi * k / 6)
            turned = np.array([[c, -s], [s, c]]) @ points
            f = matlab_gauss1d(3 * scale, turned[0], 0) * matlab_gauss1d(scale, turned[1], order)
            yield matlab_normalise(f.reshape(49, 49))


def matlab_special(kind, sigma):
    """fspecial('gaussian' | 'log', 49, sigma), normalised."""
    y, x = np.mgrid[-24:25, -24:25]
    h = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    h[h < np.finfo(float).eps * h.max()] = 0
    h /= h.sum()
    if kind == "log":
        h = h * (x**2 + y**2 - 2 * sigma**2) / sigma**4
        h = h - h.sum() / h.size
    return matlab_normalise(h)


def lm_filters(first):
    scales = np.sqrt(2) ** (first + np.arange(4))
    yield from matlab_stripes(scales[:3], 1)
    yield from matlab_stripes(scales[:3], 2)
    for scale in scales:
        yield matlab_special("gaussian", scale)
        yield matlab_special("log", scale)
        yield matlab_special("log", 3 * scale)


def rfs_filters():
    yield from matlab_stripes([1, 2, 4], 1)
    yield from matlab_stripes([1, 2, 4], 2)
    yield matlab_special("gaussian", 10)
    yield matlab_special("log", 10)


def s_filters():
    y, x = np.mgrid[-24:25, -24:25]
    r = np.sqrt(x * x + y * y)
    taus = {2: (1,), 4: (1, 2), 6: (1, 2, 3), 8: (1, 2, 3), 10: (1, 2, 3, 4)}
    for sigma in taus:
        for tau in taus[sigma]:
            yield matlab_normalise(
                np.cos(r * (np.pi * tau / sigma)) * np.exp(-(r * r) / (2 * sigma * sigma))
            )


BANKS = {
    "LML": (LeungMalik(), list(lm_filters(1)), 48),
    "LMS": (LeungMalik(variant="small"), list(lm_filters(0)), 48),
    "RFS": (RootFilterSet(), list(rfs_filters()), 38),
    "S": (Schmid(), list(s_filters()), 13),
}


@pytest.mark.parametrize("bank", BANKS)
def test_kernels_are_those_of_the_matlab_code_in_its_order(bank):
    item, wanted, count = BANKS[bank]
    got = list(item.responses(FLAT).values())
    assert len(got) == len(wanted) == count
    for conv, kernel in zip(got, wanted, strict=True):
        margins = [((49 - n) // 2,) * 2 for n in conv.kernel.shape]
        taps = np.pad(conv.kernel.array[::-1, ::-1], margins)
        np.testing.assert_allclose(taps, kernel, rtol=0, atol=TOLERANCE)
        assert np.abs(taps - kernel).sum() < 2 * TOLERANCE


@pytest.mark.parametrize("item", [RootFilterSet(), LeungMalik()], ids=["RFS", "LML"])
def test_stripes_are_derivatives_of_scipys_turned_gaussian(item):
    """By differences of its density, whose covariance is turned; edges look upwards at 0."""
    y, x = np.mgrid[-24:25, -24:25].astype(float)
    step = 1e-3
    for name, conv in item.responses(FLAT).items():
        kind, *numbers = name.strip("[]").split(",")
        if kind not in ("edge", "bar"):
            continue
        sigma, turn = (
            2 ** (round(2 * np.log2(float(numbers[0]))) / 2),
            np.radians(int(numbers[1])),
        )
        along, up = np.array([np.cos(turn), np.sin(turn)]), np.array([np.sin(turn), -np.cos(turn)])
        covariance = (3 * sigma) ** 2 * np.outer(along, along) + sigma**2 * np.outer(up, up)
        density = scipy.stats.multivariate_normal([0, 0], covariance).pdf
        less, at, more = (density(np.stack([x, y], -1) + k * step * up) for k in (-1, 0, 1))
        wanted = more - less if kind == "edge" else more - 2 * at + less
        wanted -= wanted.mean()
        margins = [((49 - n) // 2,) * 2 for n in conv.kernel.shape]
        taps = np.pad(conv.kernel.array[::-1, ::-1], margins)
        error = np.abs(taps - wanted / np.abs(wanted).sum()).max()
        assert error < 1e-5 * np.abs(taps).max(), name


def test_edges_are_positive_where_the_image_grows_upwards(evaluate):
    ramp = -np.arange(80.0)[:, None] * np.ones(80)
    edge = RootFilterSet().responses(FLAT)["[edge,1,0]"]
    assert evaluate(edge, ramp[None])[0, 40, 40] > 0


@pytest.mark.parametrize("sign", ["abs", "signed"])
def test_mr8_is_the_maximum_over_six_angles_of_the_rfs(evaluate, image, sign):
    picture = image(30, 35)[None]
    roots = RootFilterSet(scale=0.25).responses(FLAT).values()
    each = np.stack([evaluate(root, picture)[0] for root in roots])
    stripes = each[:36].reshape(6, 6, *each.shape[1:])
    wanted = [*(np.abs(stripes) if sign == "abs" else stripes).max(axis=1), *each[36:]]
    found = MaximumResponse8(sign=sign, scale=0.25).responses(FLAT)
    assert list(found) == [
        *("[edge,1]", "[edge,2]", "[edge,4]", "[bar,1]", "[bar,2]", "[bar,4]"),
        *("[gaussian]", "[log]"),
    ]
    for this, values in zip(found.values(), wanted, strict=True):
        np.testing.assert_allclose(evaluate(this, picture)[0], values, rtol=1e-12)


def test_schmid_in_a_volume_is_the_same_function_of_the_distance():
    kernel = Schmid(scale=0.25).responses(VOLUME)["[8,3]"].kernel.array
    z, y, x = np.mgrid[-6:7, -6:7, -6:7] / 0.25
    r = np.sqrt(x**2 + y**2 + z**2)
    wanted = matlab_normalise(np.cos(np.pi * 3 / 8 * r) * np.exp(-(r**2) / 128))
    np.testing.assert_allclose(kernel, wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("item", [LeungMalik, RootFilterSet, MaximumResponse8, Schmid])
def test_the_scale_is_a_length(item):
    assert item(scale=0.5).responses(Grid((2.0, 2.0), "mm")) == item(scale=0.25).responses(FLAT)


# ---------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("item", "grid", "text"),
    [
        (LeungMalik(), VOLUME, "leung_malik needs 2-D images with square pixels .got 3 axes"),
        (RootFilterSet(), Grid((2.0, 1.0), "mm"), r"rfs needs 2-D .* spacing \(2.0, 1.0\)"),
        (MaximumResponse8(), LINE, r"mr8 needs 2-D .*filter slice by slice .rank: 2."),
        (Schmid(scale=0.01), FLAT, "schmid: scale=0.01 is 0.01 pixels .* give a larger scale"),
        (RootFilterSet(scale=1e9), FLAT, "too large"),
        (Steerable(sigma=1), LINE, r"steerable needs 2 or 3 axes \(got 1\)"),
        (Steerable(sigma=1, elevation=10), FLAT, "elevation=10 needs volumes"),
        (Steerable(sigma=0.01), FLAT, "give a larger sigma"),
        (LogGabor(wavelength=4), LINE, r"log_gabor needs 2 or 3 axes \(got 1\)"),
        (LogGabor(wavelength=3), Grid((1.0, 2.0), "mm"), "less than two pixels on spacing"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, grid, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid)

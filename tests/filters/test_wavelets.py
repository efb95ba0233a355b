"""Separable wavelets against PyWavelets and scipy; the frequency-domain one against its formula."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import pywt
from pydantic import ValidationError
from scipy import ndimage

from pipeline.errors import PlanError
from pipeline.filters.simoncelli import Simoncelli, SimoncelliBand
from pipeline.filters.wavelet import Wavelet
from pipeline.types import Grid

ROUNDING = 1e-11  # relative to the largest pixel
SHAPES = {1: (48,), 2: (16, 24), 3: (8, 16, 12)}


def grid_of(ndim, *spacing):
    return Grid(spacing or (1.0,) * ndim)


def assert_equal(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


# ---------------------------------------------------------------- separable
@pytest.mark.parametrize("ndim", SHAPES)
@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize(
    "name", ["haar", "db2", "db7", "sym4", "coif1", "bior1.3", "bior2.2", "rbio3.1"]
)
def test_all_subbands_equal_pywavelets_stationary_transform(evaluate, image, name, level, ndim):
    picture = image(*SHAPES[ndim])
    coarsest, *_ = pywt.swtn(picture, name, level)
    found = Wavelet(wavelet=name, level=level).responses(grid_of(ndim))
    assert len(found) == 2**ndim
    for suffix, node in found.items():
        letters = suffix[1:-1][::-1]  # x, y, z -> the axes' order
        key = letters.replace("L", "a").replace("H", "d")
        assert_equal(evaluate(node, picture[None], "wrap")[0], coarsest[key])


@pytest.mark.parametrize("family", ["db", "sym", "coif", "bior", "rbio", "dmey"])
def test_every_wavelet_of_a_family_equals_pywavelets(evaluate, image, family):
    picture = image(256)
    for name in pywt.wavelist(family, "discrete"):
        ((approximation, detail),) = pywt.swt(picture, name, 1)
        for letter, wanted in (("L", approximation), ("H", detail)):
            node = Wavelet(wavelet=name, subbands=letter).responses(grid_of(1))[""]
            assert_equal(evaluate(node, picture[None], "wrap")[0], wanted)


def scipys_subband(volume, name, letters, level, mode):
    """The IBSI's words: taps with a trailing zero, dilated, padded at every level; any axes."""
    wavelet = pywt.Wavelet(name)
    for j in range(1, level + 1):
        for axis, letter in enumerate(letters if j == level else "L" * volume.ndim):
            padded = np.append(wavelet.dec_lo if letter == "L" else wavelet.dec_hi, 0.0)
            taps = np.zeros((padded.size - 1) * 2 ** (j - 1) + 1)
            taps[:: 2 ** (j - 1)] = padded
            volume = ndimage.convolve1d(volume, taps, axis=axis, mode=mode)
    return volume


@pytest.mark.parametrize("mode", ["reflect", "mirror", "nearest", "constant"])
def test_every_level_is_extended_anew(evaluate, image, mode):
    volume = image(7, 9, 12)
    node = Wavelet(wavelet="db2", subbands="HLL", level=3).responses(grid_of(3))[""]
    got = evaluate(node, volume[None], mode)[0]
    assert_equal(got, scipys_subband(volume, "db2", "LLH", 3, mode))
    if mode != "constant":
        return
    wide = np.pad(volume, 40)  # once, before the first level
    once = scipys_subband(wide, "db2", "LLH", 3, mode)[40:-40, 40:-40, 40:-40]
    assert np.abs(got - once).max() > 0.1 * np.ptp(got)


@pytest.mark.parametrize(("pool", "subbands"), [("max", "HHL"), ("mean", "LHL")])
def test_all_levels_turn_together_through_24_rotations(evaluate, image, pool, subbands):
    volume = image(7, 9, 12)
    item = Wavelet(wavelet="db3", subbands=subbands, level=2, rotation_invariant=pool)
    got = evaluate(item.responses(grid_of(3))[""], volume[None], "nearest")[0]
    turns = []
    for order in permutations(range(3)):
        for flips in product((1, -1), repeat=3):
            if np.linalg.det(np.eye(3)[list(order)]) * np.prod(flips) < 0:
                continue
            there = tuple(slice(None, None, f) for f in flips)
            turned = volume.transpose(order)[there]
            response = scipys_subband(turned, "db3", subbands[::-1], 2, "nearest")
            turns.append(response[there].transpose(np.argsort(order)))
    assert len(turns) == 24
    assert_equal(got, getattr(np, pool)(turns, axis=0))


def test_energy_is_the_mean_of_the_absolute_subband(evaluate, image):
    picture = image(16, 24)
    plain, energy = (
        evaluate(
            Wavelet(wavelet="db2", subbands="LH", energy=e).responses(grid_of(2))[""], picture[None]
        )[0]
        for e in (None, 3)
    )
    assert_equal(energy, ndimage.uniform_filter(np.abs(plain), 7))


def test_a_kernel_ends_where_its_taps_do():
    node = Wavelet(wavelet="bior2.2", subbands="H", level=2).responses(grid_of(1))[""]
    assert np.count_nonzero(node.kernel.array) == 3
    assert (node.kernel.array[[0, -1]] != 0).all()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"wavelet": "db99"}, "unknown wavelet 'db99'; did you mean 'db"),
        ({"wavelet": "mexh"}, "unknown wavelet 'mexh'; choose from: haar, db1 to db38, sym2 to "),
        ({"wavelet": "haar", "subbands": "LX"}, "'LX' is not a sub-band; write L or H per axis"),
        ({"wavelet": "haar", "level": 0}, "greater than or equal to 1"),
    ],
)
def test_unknown_wavelets_and_subbands_are_refused(given, text):
    with pytest.raises(ValidationError, match=text):
        Wavelet(**given)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Wavelet(wavelet="haar", subbands="LLH"), "has 3 letters, these images have 2 axes"),
        (Wavelet(wavelet="db38", level=10), "taps is too large"),
    ],
)
def test_what_does_not_suit_the_grid_is_a_plan_error(item, text):
    with pytest.raises(PlanError, match=text):
        item.responses(grid_of(2))


# ---------------------------------------------------------------- Simoncelli
def by_formula(volume, level, grid):
    """The kit's formula, with the spectrum's middle shifted to the array's."""
    axes = []
    for n in volume.shape:
        evenly = (np.arange(n) - (n - 1) / 2) / ((n - 1) / 2)
        axes.append(evenly if grid == "ibsi" else np.fft.fftshift(np.fft.fftfreq(n)) * 2)
    nu = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    top = 0.5 ** (level - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        band = np.cos(np.pi / 2 * np.log2(2 * nu / top))
    band = np.where((nu >= top / 4) & (nu <= top), band, 0)
    return np.fft.ifftn(np.fft.fftn(volume) * np.fft.ifftshift(band)).real


@pytest.mark.parametrize("shape", [(15, 22), (16, 9), (6, 7, 12)])
@pytest.mark.parametrize("grid", ["ibsi", "dft"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_simoncelli_equals_the_formula_whatever_shape_and_spacing(
    evaluate, image, shape, grid, level
):
    volume = image(*shape)
    spacing = (3.0, 2.0, 0.5)[: len(shape)]
    node = Simoncelli(level=level, grid=grid).responses(grid_of(len(shape), *spacing))[""]
    assert_equal(evaluate(node, volume[None], "reflect")[0], by_formula(volume, level, grid))


def test_simoncelli_sees_the_padding_it_is_asked_for(evaluate, image):
    picture = image(10, 13)
    node = Simoncelli(level=2, grid="dft", pad=0.5).responses(grid_of(2))[""]
    wide = np.pad(picture, [(5, 5), (7, 7)], "symmetric")
    wanted = by_formula(wide, 2, "dft")[5:-5, 7:-7]
    assert_equal(evaluate(node, picture[None], "reflect")[0], wanted)


@pytest.mark.parametrize("grid", ["ibsi", "dft"])
def test_simoncelli_misses_the_images_that_it_answers_0_to(grid):
    sizes = [1, 2, 3, 4, 5, 8, 9, 16, 17, 40]
    shapes = [(n,) for n in sizes] + [(n, m) for n in sizes for m in sizes] + [(4, 4, 5), (3, 9, 5)]
    for shape, level in product(shapes, range(1, 8)):
        band = SimoncelliBand(level, grid)
        assert band.misses(shape) == bool((band.sample(shape) < 1e-12).all())


def test_the_levels_of_simoncelli_are_a_tight_frame():
    """J. Portilla, E. Simoncelli, 2000: the squares of the bands add up to 1."""
    bands = [
        Simoncelli(level=j, grid="dft").responses(grid_of(2))[""].transfer.sample((64, 80))
        for j in range(1, 9)
    ]
    nu = np.hypot(*np.meshgrid(np.fft.fftfreq(64) * 2, np.fft.fftfreq(80) * 2, indexing="ij"))
    total = sum(band**2 for band in bands)
    np.testing.assert_allclose(total[(nu > 0) & (nu <= 0.5)], 1.0, rtol=1e-12)


def test_only_the_transforms_own_frequencies_know_no_left_and_right(evaluate, image):
    picture = image(16, 20)
    for grid, same in (("dft", True), ("ibsi", False)):
        node = Simoncelli(level=2, grid=grid).responses(grid_of(2))[""]
        there, back = (evaluate(node, p[None])[0] for p in (picture, picture[:, ::-1].copy()))
        assert np.allclose(back[:, ::-1], there, rtol=0, atol=1e-9) is same

"""Expressions against IBSI 2 phase 1's consensus maps, evaluated by the slow oracle."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.filters.gabor import Gabor
from pipeline.filters.laws import Laws
from pipeline.filters.log import LaplacianOfGaussian
from pipeline.filters.mean import Mean
from pipeline.filters.riesz import Riesz
from pipeline.filters.simoncelli import Simoncelli
from pipeline.filters.wavelet import Wavelet
from pipeline.types import Grid

IBSI = 0.01  # of the reference map's range: the pass rule of the reference data
PADDING = {"zero": "constant", "mirror": "reflect", "nearest": "nearest", "periodic": "wrap"}
CASES = [
    ("1_a_1", 3, "checkerboard", "zero", Mean(size=15)),
    ("2_a", 3, "impulse", "zero", LaplacianOfGaussian(sigma=3.0)),
    ("2_c", 2, "checkerboard", "mirror", LaplacianOfGaussian(sigma=5.0)),
    ("3_a_1", 3, "impulse", "zero", Laws(kernels="E5L5S5")),
    ("3_a_2", 3, "impulse", "zero", Laws(kernels="E5L5S5", rotation_invariant="max")),
    ("3_b_1", 3, "checkerboard", "mirror", Laws(kernels="E3W5R5")),
    ("3_c_1", 2, "checkerboard", "mirror", Laws(kernels="L5S5")),
    (
        "3_c_3",
        2,
        "checkerboard",
        "mirror",
        Laws(kernels="L5S5", rotation_invariant="max", energy=7),
    ),
    ("5_a_1", 3, "impulse", "zero", Wavelet(wavelet="db2", subbands="LHL")),
    ("6_a_1", 3, "sphere", "periodic", Wavelet(wavelet="coif1", subbands="HHL")),
    (
        "7_a_2",
        3,
        "checkerboard",
        "mirror",
        Wavelet(wavelet="haar", level=2, subbands="HHH", rotation_invariant="mean"),
    ),
    ("8_a_1", 3, "checkerboard", "zero", Simoncelli(level=1)),
    ("8_a_2", 3, "checkerboard", "zero", Simoncelli(level=2)),
    ("8_a_3", 3, "checkerboard", "zero", Simoncelli(level=3)),
    ("9_a", 3, "impulse", "zero", Riesz(order="x", sigma=3.0)),
    ("9_b_1", 3, "sphere", "zero", Riesz(order="yy", sigma=3.0)),
    ("10_b_1", 3, "pattern_1", "nearest", Riesz(order="yy", level=1)),
]


def load(path):
    """Stored values as (z, y, x)."""
    nibabel = pytest.importorskip("nibabel")
    return np.asarray(nibabel.load(path).dataobj, dtype=np.float64).T


@pytest.mark.parametrize(
    ("test", "rank", "phantom", "padding", "item"), CASES, ids=[c[0] for c in CASES]
)
def test_maps_pass_the_ibsi_rule(shared, evaluate, test, rank, phantom, padding, item):
    volume = load(shared / "ibsi" / "phantoms" / f"{phantom}.nii.gz")
    reference = load(shared / "ibsi" / "reference_maps_int16" / f"{test}-ValidCRM.nii.gz")
    # The mean's size counts voxels. A 2-D filter takes the slices of a volume as its planes.
    grid = Grid((1.0,) * rank) if isinstance(item, Mean) else Grid((2.0,) * rank, "mm")
    planes = volume[None] if rank == 3 else volume
    got = evaluate(item.responses(grid)[""], planes, PADDING[padding]).reshape(volume.shape)
    assert np.abs(got - reference).max() <= IBSI * np.ptp(reference)


def test_gabor_turns_the_way_ibsi_does(shared, evaluate):
    """4.a.1 up to the amplitude, in the one slice where the impulse is."""
    volume = load(shared / "ibsi" / "phantoms" / "impulse.nii.gz")
    reference = load(shared / "ibsi" / "reference_maps_int16" / "4_a_1-ValidCRM.nii.gz")
    item = Gabor(wavelength=4.0, sigma=10.0, gamma=0.5, orientation=60, truncate=6)
    (index,) = set(np.nonzero(volume)[0])
    node = item.responses(Grid((2.0, 2.0), "mm"))[""]
    got = evaluate(node, volume[index][None], "constant")[0] * (2 * np.pi * 5.0**2 / 0.5)
    assert np.abs(got - reference[index]).max() <= IBSI * np.ptp(reference)

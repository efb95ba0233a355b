"""Regenerate gabor_skimage.npz: `python tests/golden/gabor_skimage.py` with scikit-image 0.26."""

from __future__ import annotations

from math import radians
from pathlib import Path

import numpy as np


def main() -> None:
    """Write scikit-image's complex Gabor kernels, one per case of tests/filters/test_gabor.py."""
    from skimage.filters import gabor_kernel

    cases = {
        "plain": gabor_kernel(1 / 4),
        "turned": gabor_kernel(1 / 5, radians(30)),
        "octaves": gabor_kernel(1 / 6.5, radians(112.5), bandwidth=1.7),
        "elongated": gabor_kernel(1 / 4, radians(-20), sigma_x=2.5, sigma_y=5, n_stds=2),
    }
    np.savez(Path(__file__).with_suffix(".npz"), **cases)


if __name__ == "__main__":
    main()

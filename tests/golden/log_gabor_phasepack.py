"""Regenerate log_gabor_phasepack.npz with phasepack 1.5, which ports P. Kovesi's phasecong3."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main() -> None:
    """Write what its filters of the first orientation multiply waves along +x by."""
    from phasepack import phasecong

    image = np.random.default_rng(0).normal(size=(32, 64))
    gains = {}
    for wavelength, sigma_on_f in ((3, 0.55), (6.3, 0.65), (12, 0.75)):
        found = phasecong(image, nscale=2, norient=6, minWaveLength=wavelength, sigmaOnf=sigma_on_f)
        responses = np.fft.fft2(found[-2][0][0])[0] / np.fft.fft2(image)[0]
        gains[f"{wavelength},{sigma_on_f}"] = responses.real[1:32]
    np.savez(Path(__file__).with_suffix(".npz"), **gains)


if __name__ == "__main__":
    main()

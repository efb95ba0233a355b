"""A folder whose patches are known: images of exactly one patch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from learned import SIZE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """300 images of one patch each: 5x5, made of four planted patterns."""
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(25, 4)))[0].T
    images = rng.normal(size=(300, 4)) * (90, 40, 20, 9) @ basis + 500
    images += rng.normal(size=images.shape) / 10
    (tmp_path / "in").mkdir()
    for i, image in enumerate(images.reshape(-1, SIZE, SIZE)):
        np.save(tmp_path / f"in/{i:03}.npy", image)
    return tmp_path / "in"

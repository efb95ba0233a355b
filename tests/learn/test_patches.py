"""What a bank is learned from, and that it is used as it was learned."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from command import filterbank
from learned import SIZE, bank_of, photos, up_to_sign, written
from running import run_bank

from pipeline import learn as learning
from pipeline.config import load


def test_a_bank_is_learned_and_then_used(folder: Path, tmp_path: Path) -> None:
    """The planted patterns come back, and a run's maps hold the scores of the images on them."""
    config = written(tmp_path, folder)
    said = filterbank("learn", config)
    assert said.code == 0, said.err
    told = (
        r"learned 4 filters of 1x5x5 \(pca\), 300 patches of 300 images, failed 0; [\d.]+ s; bank "
    )
    assert re.fullmatch(f"{told}in {tmp_path}/bank.safetensors\n", said.out)
    x = np.stack([np.load(path).ravel() for path in sorted(folder.iterdir())])
    _, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    weights = bank_of(tmp_path / "bank.safetensors")["weights"].reshape(4, 25)
    np.testing.assert_allclose(weights, up_to_sign(weights, vt[:4]), atol=1e-6)
    output = run_bank(config, tmp_path / "out")
    scores = (x - x.mean(0)) @ weights.T.astype(float)
    for i in (0, 17, 299):
        for k in range(4):
            middle = output.maps(f"{i:03}.npy", f"own[{k + 1}]")[SIZE // 2, SIZE // 2]
            assert middle == pytest.approx(scores[i, k], abs=1e-4 * s[0] / np.sqrt(300))
    assert np.abs(np.corrcoef(scores.T) - np.eye(4)).max() < 1e-5


def test_all_bands_make_one_patch_and_prepare_comes_first(tmp_path: Path) -> None:
    images = photos(tmp_path / "in")
    banks = []
    for top in (255, 1):
        prepare = [{"rescale": {"from": "dtype", "to": [0, top]}}]
        config = written(tmp_path, images, prepare=prepare, learn={"patches": "zca", "count": 3})
        assert filterbank("learn", config).code == 0
        banks.append(bank_of(tmp_path / "bank.safetensors"))
    assert [b["weights"].shape for b in banks] == [(3, 3, 5, 5)] * 2
    np.testing.assert_allclose(banks[1]["weights"], banks[0]["weights"] * 255, rtol=1e-3, atol=1e-5)
    middle = np.abs(banks[0]["weights"]).reshape(3, -1).argmax(1)
    assert middle.tolist() == [12, 25 + 12, 50 + 12]  # the middle pixel of each band
    config = written(tmp_path, images, input={"bands": "luminance"})
    assert filterbank("learn", config).code == 0
    assert bank_of(tmp_path / "bank.safetensors")["weights"].shape == (4, 1, 5, 5)


def test_volumes_have_volumes_as_patches(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/v.npy", np.random.default_rng(0).normal(size=(9, 10, 11)).cumsum(0))
    config = written(tmp_path, tmp_path / "in", learn={"size": 3, "count": 2})
    said = filterbank("learn", config)
    assert "learned 2 filters of 1x3x3x3 (pca), 504 patches of 1 image, failed 0; " in said.out
    assert run_bank(config, tmp_path / "out").maps("v.npy", "own[2]").shape == (9, 10, 11)


def cut_all(config: Path) -> tuple[learning.Draw, dict[str, np.ndarray]]:
    draw = learning.draw(load(config, learning=True))
    found: dict[str, np.ndarray] = {}
    for part in learning.cut(draw):
        found.update(part.patches)
    return draw, found


def test_patches_are_places_of_their_image_none_twice_none_with_holes(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):  # every pixel has its own value, and says where it lies
        image = 1e4 * i + np.arange(20.0 * (18 + i)).reshape(20, 18 + i)
        image[9, 9] = np.nan
        np.save(tmp_path / f"in/{i}.npy", image)
    draw, found = cut_all(written(tmp_path, tmp_path / "in", learn={"samples": 500}))
    assert sum(draw.quotas.values()) == 500
    places = np.array([16 * (14 + i) for i in range(3)])
    share = np.array(list(draw.quotas.values())) - 500 * places / places.sum()
    assert (np.abs(share) < 1).all()
    for i in range(3):
        image, mine = np.load(tmp_path / f"in/{i}.npy"), found[f"{i}.npy"]
        starts = mine[:, 0, 0, 0] - 1e4 * i
        assert len(set(starts)) == len(mine) < draw.quotas[f"{i}.npy"]
        for patch, start in zip(mine[:, 0], starts.astype(int), strict=True):
            y, x = divmod(start, image.shape[1])
            np.testing.assert_array_equal(patch, image[y : y + SIZE, x : x + SIZE])


def test_all_places_are_taken_where_there_are_fewer_than_samples(tmp_path: Path) -> None:
    draw, found = cut_all(written(tmp_path, photos(tmp_path / "in", 2, (12, 9, 3))))
    assert draw.quotas == {"0.png": 40, "1.png": 40}
    assert all(len(np.unique(part, axis=0)) == 40 for part in found.values())

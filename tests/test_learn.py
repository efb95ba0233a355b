"""Learning a bank: the methods against textbook formulas, the command against folders of all kinds.

Images of exactly one patch make the patches known: what is learned can be computed beside it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import filterbank, finish, started
from PIL import Image
from running import run_bank
from safetensors import safe_open
from scipy import linalg

from pipeline import learn as learning
from pipeline.config import load
from pipeline.errors import InputError, PlanError
from pipeline.learn.methods import CONTRAST, kmeans, pca, zca
from pipeline.plan import Plan

ROUNDING = 1e-9
"""float64 sums of a few thousand products."""


def patches(n: int = 400, d: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated patches with a mean, no two directions of equal variance."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.geomspace(30, 0.5, d)
    return rng.normal(size=(n, d)) @ mix.T + rng.normal(size=d) * 50


def up_to_sign(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The wanted rows with the signs that the rows have."""
    return wanted * np.sign((rows * wanted).sum(1, keepdims=True))


# ---------------------------------------------------------------- methods
def test_principal_components_equal_the_singular_vectors() -> None:
    x = patches()
    u, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    bank = pca(x, 5)
    np.testing.assert_allclose(bank.filters, up_to_sign(bank.filters, vt[:5]), atol=ROUNDING)
    scores = x @ bank.filters.T + bank.bias
    np.testing.assert_allclose(np.abs(scores), np.abs(u * s)[:, :5], atol=1e-7)
    assert (bank.filters.max(1) >= -bank.filters.min(1)).all()


def test_whitened_patches_have_the_identity_as_covariance() -> None:
    x = patches()
    bank = zca(x, 12, 0.0, np.arange(12))
    white = x @ bank.filters.T + bank.bias
    np.testing.assert_allclose(white.mean(0), 0, atol=ROUNDING)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(12), atol=ROUNDING)
    np.testing.assert_allclose(bank.filters, bank.filters.T, atol=ROUNDING)


def test_whitening_is_the_inverse_root_of_the_covariance() -> None:
    x = patches()
    covariance = np.cov(x.T, bias=True)
    wide = covariance + 0.3 * np.trace(covariance) / 12 * np.eye(12)
    order = np.array([7, 2, 11])
    wanted = linalg.inv(linalg.sqrtm(wide))[order]
    np.testing.assert_allclose(zca(x, 3, 0.3, order).filters, wanted, atol=ROUNDING)


def templates(count: int, d: int) -> np.ndarray:
    """Orthonormal rows that add up to 0 each."""
    rng = np.random.default_rng(8)
    return linalg.orth((c := rng.normal(size=(d, count))) - c.mean(0)).T


@pytest.mark.parametrize("seed", range(5))
def test_centroids_are_the_planted_templates_whatever_contrast_and_brightness(seed: int) -> None:
    planted = templates(6, 16)
    rng = np.random.default_rng(seed)
    contrast = rng.choice([-1, 1], (600, 1)) * rng.uniform(20, 60, (600, 1))
    x = contrast * np.tile(planted, (100, 1)) + rng.uniform(0, 200, (600, 1))
    found = kmeans(x, 6, 0.1, seed).filters
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    likeness = np.abs(found @ planted.T)
    np.testing.assert_allclose(np.sort(likeness.max(0)), 1, atol=1e-3)
    assert sorted(likeness.argmax(1)) == list(range(6))


def test_centroids_stay_where_they_are_under_one_more_step_of_the_paper() -> None:
    """Coates and Ng, 2012, written out on their whitened patches; filters are d W."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 1)) * 9 * np.repeat(templates(5, 10), 100, 0)
    x += rng.normal(size=x.shape) / 2 + 100
    bank = kmeans(x, 5, 0.1, 0)
    flat = x - x.mean(1, keepdims=True)
    variance = flat.var(1, keepdims=True)
    flat = flat / np.sqrt(variance + CONTRAST * variance.mean())
    covariance = np.cov(flat.T, bias=True)
    root = linalg.sqrtm(covariance + 0.1 * np.trace(covariance) / 10 * np.eye(10))
    white = (flat - flat.mean(0)) @ linalg.inv(root)
    d = bank.filters @ root
    np.testing.assert_allclose(np.linalg.norm(d, axis=1), 1, atol=1e-9)
    nearest = np.abs(white @ d.T).argmax(1)
    sizes = np.bincount(nearest)
    assert (np.diff(sizes) <= 0).all()
    for j in range(5):
        mine = white[nearest == j]
        moved = (mine @ d[j]) @ mine
        assert moved @ d[j] / np.linalg.norm(moved) > 1 - 1e-6
    np.testing.assert_allclose(bank.filters.sum(1), 0, atol=1e-12)


def test_fewer_shapes_than_centroids_are_refused() -> None:
    x = np.repeat(templates(3, 8), 50, 0) * np.linspace(1, 9, 150)[:, None]
    x = np.concatenate([x, -x])
    with pytest.raises(InputError, match=r"no more than \d shapes; lower learn.count \(got 9\)"):
        kmeans(x, 9, 0.1, 0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_patches_without_contrast_are_refused(value: float) -> None:
    with pytest.raises(InputError, match="all patches are alike"):
        pca(np.full((50, 4), value), 2)
    with pytest.raises(InputError, match="all patches are alike"):
        kmeans(np.full((50, 4), value) * np.arange(50)[:, None], 2, 0.1, 0)


def test_whitening_a_direction_without_variance_needs_an_epsilon() -> None:
    x = patches()
    x[:, 3] = x[:, 2]
    with pytest.raises(PlanError, match=r"give learn.epsilon more than 0"):
        zca(x, 1, 0.0, np.arange(12))


# ---------------------------------------------------------------- the command
SIZE = 5


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


def photos(folder: Path, count: int = 4, shape: tuple[int, ...] = (40, 50, 3)) -> Path:
    """Smooth colour images."""
    folder.mkdir(exist_ok=True)
    for i in range(count):
        noise = np.random.default_rng(i).normal(size=shape).cumsum(0).cumsum(1)
        scaled = 255 * (noise - noise.min()) / np.ptp(noise)
        Image.fromarray(scaled.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def written(folder: Path, images: Path, **sections: Any) -> Path:
    """A config that learns a bank and uses it."""
    kernel = {"name": "own", "file": "bank.safetensors", "tensor": "weights", "bias": "bias"}
    learn = {"patches": "pca", "size": SIZE, "count": 4, "file": "bank.safetensors"}
    whole: dict[str, Any] = {
        "version": 1,
        "input": {"path": str(images)},
        "learn": learn | sections.pop("learn", {}),
        "filters": [{"kernel": kernel}],
        "output": {"path": str(folder / "out"), "maps": "float32"},
        "run": {"workers": 0},
    }
    for key, value in sections.items():
        whole[key] = {**whole.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "c.yaml").write_text(yaml.safe_dump(whole))
    return folder / "c.yaml"


def bank_of(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


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
    assert "learned 2 filters of 1x3x3x3 (pca), 504 patches of 1 images" in said.out
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


# ---------------------------------------------------------------- the same bytes
def test_bytes_depend_on_neither_workers_nor_order_nor_process(tmp_path: Path) -> None:
    images = photos(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for path in sorted(images.iterdir(), reverse=True):  # listed in another order, where it matters
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    learn = {"patches": "kmeans", "count": 8, "samples": 900}
    config = written(tmp_path, images, learn=learn)
    runs = (
        ("a", "0", {"PYTHONHASHSEED": "1", "OPENBLAS_NUM_THREADS": "1"}),
        ("b", "2", {"PYTHONHASHSEED": "2"}),
    )
    with ExitStack() as stack:  # side by side
        for process in [
            stack.enter_context(
                started(
                    *("learn", config, "--input", tmp_path / name, "--workers", workers),
                    *("--output", tmp_path / f"{name}.safetensors"),
                    env=env,
                )
            )
            for name, workers, env in runs
        ]:
            assert finish(process).code == 0
    one, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in "ab")
    assert one == other
    assert not list(tmp_path.glob("*.tmp"))
    assert filterbank("learn", written(tmp_path, images, learn=learn | {"seed": 1})).code == 0
    assert (tmp_path / "bank.safetensors").read_bytes() != one


def test_the_order_of_listing_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(tmp_path, photos(tmp_path / "in"), learn={"samples": 300})
    assert filterbank("learn", config).code == 0
    before = (tmp_path / "bank.safetensors").read_bytes()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: list(scandir(path))[::-1])
    assert filterbank("learn", config).code == 0
    assert (tmp_path / "bank.safetensors").read_bytes() == before


def test_the_header_says_what_a_bank_was_made_of(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder)
    assert filterbank("learn", config).code == 0
    with safe_open(tmp_path / "bank.safetensors", framework="np") as file:
        (text,) = file.metadata().values()
    told = json.loads(text)
    assert (told["images"], told["patches"], told["learn"]["patches"]) == (300, 300, "pca")
    assert re.fullmatch("[0-9a-f]{64}", told["config"])
    assert {"filterbank", "numpy", "torch"} <= set(told["versions"])
    assert str(tmp_path) not in text


# ---------------------------------------------------------------- bad folders
def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 3)
    config = written(tmp_path, images, input={"exclude": ["thumb*"]})
    assert filterbank("learn", config).code == 0
    alone = bank_of(tmp_path / "bank.safetensors")
    (images / "a_header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "notes.txt").write_text("no image")
    (images / "thumb.png").write_text("excluded, and so not counted")
    Image.new("L", (40, 50)).save(images / "gray.png")
    Image.new("RGB", (4, 50)).save(images / "narrow.png")
    said = filterbank("learn", config)
    assert said.code == 0, said.err
    assert said.err.startswith("failed: a_header.png: corrupt: ")
    assert "failed 1 (1 corrupt), left out 3 (1 no known image format, " in said.out
    assert "1 other rank or bands than most, 1 smaller than a patch)" in said.out
    after = bank_of(tmp_path / "bank.safetensors")
    assert all((after[key] == alone[key]).all() for key in alone)
    (images / "3.png").write_bytes((images / "2.png").read_bytes()[:-4000])  # its pixels are cut
    said = filterbank("learn", config)
    assert said.code == 0, said.err
    assert "patches of 3 images, failed 2 (2 corrupt)" in said.out


def test_a_failed_attempt_leaves_the_old_bank(tmp_path: Path) -> None:
    config = written(tmp_path, photos(tmp_path / "in"))
    assert filterbank("learn", config).code == 0
    before = (tmp_path / "bank.safetensors").read_bytes()
    for path in (tmp_path / "in").iterdir():
        Image.new("RGB", (20, 20), (9, 9, 9)).save(path)
    said = filterbank("learn", config)
    assert said.code == 4
    assert "all patches are alike: nothing can be learned from images without contrast" in said.err
    assert (tmp_path / "bank.safetensors").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bank.safetensors", "c.yaml", "in"]


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "larger than the images": ({"size": 60}, 4, r"no image to learn .*\(2 smaller than a patch\)"),
    "few patches": ({"samples": 70}, 4, r"70 patches of 5x5 pixels and 3 bands .*at least 76"),
    "few for the centroids": (
        {"patches": "kmeans", "count": 99, "samples": 80},
        4,
        "80 patches .* are too few .at least 99.; give more images, raise learn.samples, or lower",
    ),
    "more filters than numbers": ({"count": 76}, 3, "makes 75 filters .got learn.count 76."),
    "too many patches for the memory": ({"samples": 3000}, 3, "needs about .* lower learn.samples"),
    "no file there": (
        {"file": "c.yaml/x.safetensors"},
        7,
        "cannot write .*; free the disk or allow it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_wishes_have_their_exit_codes(name: str, tmp_path: Path) -> None:
    learn, code, text = REFUSED[name]
    run = {"memory": "6MiB"} if "memory" in name else {}
    said = filterbank("learn", written(tmp_path, photos(tmp_path / "in", 2), learn=learn, run=run))
    assert said.code == code, said.err
    assert re.search(text, said.err), said.err
    assert not (tmp_path / "bank.safetensors").exists()


def test_the_budget_of_failures_holds(tmp_path: Path) -> None:
    images = photos(tmp_path / "in")
    for name in "ab":
        (images / f"{name}.png").write_bytes((images / "0.png").read_bytes()[:-4000])
    said = filterbank("learn", written(tmp_path, images, run={"max_failed": 1}))
    assert said.code == 6
    assert "2 images failed, more than run.max_failed (1); stopped" in said.err


@pytest.mark.parametrize("what", ["missing", "empty", "only bad"])
def test_no_images_end_with_code_4_before_torch_is_imported(what: str, tmp_path: Path) -> None:
    images = tmp_path / "in"
    if what != "missing":
        images.mkdir()
    if what == "only bad":
        (images / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code = (
        "import sys, pipeline.cli as c\ntry: c.main()\nfinally: assert 'torch' not in sys.modules"
    )
    arguments = [sys.executable, "-c", code, "learn", str(written(tmp_path, images))]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    text = {
        "missing": "does not exist",
        "empty": "no image to learn",
        "only bad": "1 corrupt image",
    }
    assert text[what] in done.stderr


# ---------------------------------------------------------------- the section
BAD: dict[str, tuple[str, list[str]]] = {
    "unknown word": (
        "{patches: pac, size: 1, cuont: 4, file: b.safetensors}",
        [
            "3:18: learn.patches: must be 'pca', 'zca' or 'kmeans' (got 'pac'); did you mean '",
            "3:29: learn.size: must be at least 2 (got 1)",
            "3:32: learn.cuont: unknown key; did you mean 'count'?",
        ],
    ),
    "nothing": ("", ["is missing; add 'patches: ...'", "is missing; add 'size: ...'"]),
    "kmeans without count": (
        "{patches: kmeans, size: 8, file: b.safetensors}",
        ["3:8: learn: kmeans needs a count; write count: 64"],
    ),
    "pickle": (
        "{patches: pca, size: 8, file: b.pt}",
        ["learn.file: must end in .safetensors (got 'b.pt'); write file: bank.safetensors"],
    ),
    "infinite": (
        "{patches: zca, size: 8, file: b.safetensors, epsilon: .inf, samples: many}",
        ["learn.epsilon: must be", "learn.samples: must be a whole number (got 'many')"],
    ),
}


@pytest.mark.parametrize("command", ["learn", "check"])
@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_all_told_with_their_places(name: str, command: str, tmp_path: Path) -> None:
    section, texts = BAD[name]
    config = tmp_path / "c.yaml"
    config.write_text(
        f"version: 1\ninput: {{path: {tmp_path}, bnads: all}}\nlearn: {section}\n"
        "filters: [sobel]\noutput: {path: out}\n"
    )
    said = filterbank(command, config)
    assert said.code == 2
    for text in (*texts, "2:", "input.bnads: unknown key; did you mean 'bands'?"):
        assert text in said.err
    assert said.err.count("c.yaml:") == len(texts) + 1 + (name == "nothing")


def test_learning_needs_its_section(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("version: 1\ninput: {path: in}\nlerne: {}\n")
    said = filterbank("learn", config)
    assert said.code == 2
    assert "learn: is missing; add 'learn: {patches: pca, size: 9, file: bank.saf" in said.err
    assert "lerne: unknown key; did you mean 'learn'?" in said.err


def test_the_section_changes_nothing_of_a_run(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder, filters=["sobel"])
    plain = yaml.safe_load(config.read_text())
    del plain["learn"]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    one, other = (Plan(load(tmp_path / n), "cpu") for n in ("c.yaml", "plain.yaml"))
    assert one.digest == other.digest
    assert one.expanded == other.expanded


def test_a_run_waits_for_the_bank_it_names(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder)
    said = filterbank("check", config)
    assert said.code == 2
    assert "there is no file" in said.err
    assert filterbank("learn", config).code == 0
    assert filterbank("check", config).out.splitlines() == [f"own[{i}]" for i in range(1, 5)]

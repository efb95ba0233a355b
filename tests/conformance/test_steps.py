"""What every prepare step must do, found in the registry: a new one needs an entry below."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preparing import images
from running import write_config

from pipeline.config import expanded, load
from pipeline.plan import Plan
from pipeline.steps.base import STEPS, Step
from pipeline.types import Grid, ImageInfo, Region, Roi, Uptake

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "resample": [
        {"spacing": 0.7},
        {"spacing": [2.3, None]},
        {"spacing": [None, 1.5], "order": 1},
    ],
    "rescale": [
        {"from": "image"},
        {"from": "dtype", "to": [1, 0]},
        {"from": [10, 300.5], "to": [-1, 1]},
    ],
    "resegment": [
        {"range": [20, 200]},
        {"range": [None, 100.5]},
        {"sigma": 1},
        {"range": [50, None], "sigma": 1.5},
    ],
    "round": [{}],
    "suv": [{"by": "bodyweight"}],
    "zscore": [{"within": "image"}, {"within": "mask"}],
}
MASKED = {"path": "unused", "mask": {"path": "*_m.png"}}
CASES = [(name, i) for name, some in EXAMPLES.items() for i in range(len(some))]
INFO = ImageInfo(
    (9, 11),
    ("1", "2"),
    "uint8",
    Grid((1.0, 1.0), "mm"),
    value_unit="BQML",
    uptake=Uptake("BQML", 0.3),
)


def plan_of(name: str, index: int, folder: Path) -> Plan:
    config = write_config(folder / "c.yaml", input=MASKED, prepare=[{name: EXAMPLES[name][index]}])
    return Plan(load(config), "cpu")


def step_of(name: str, index: int, folder: Path) -> Step:
    (step,) = plan_of(name, index, folder).config.prepare
    return step


def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(4)
    values = torch.from_numpy(rng.integers(0, 256, (3, 2, 9, 11)).astype(np.float64))
    return values, torch.from_numpy(rng.random((3, 2, 9, 11)) > 0.2)


def rois() -> list[list[Roi]]:
    """Of three images: the whole, and two parts, one of them with a mask."""
    rng = np.random.default_rng(5)
    whole, part, strip = Region((0, 0), (9, 11)), Region((2, 3), (8, 7)), Region((0, 5), (9, 11))
    return [
        [
            Roi("image", "image", None, whole),
            Roi("roi=1", "roi", "1", part, rng.random(part.shape) > 0.3),
            Roi("roi=2", "roi", "2", strip),
        ]
        for _ in range(3)
    ]


def same_regions(a: Sequence[Roi], b: Sequence[Roi]) -> bool:
    """Also where one says with a mask of True what another says without a mask."""
    return all(
        replace(x, mask=None) == replace(y, mask=None) and np.array_equal(filled(x), filled(y))
        for x, y in zip(a, b, strict=True)
    )


def filled(roi: Roi) -> np.ndarray:
    return np.ones(roi.box.shape, np.bool_) if roi.mask is None else roi.mask


def test_every_registered_step_has_examples_here() -> None:
    assert EXAMPLES.keys() == STEPS.keys()


@pytest.mark.parametrize(("name", "index"), CASES)
def test_the_expanded_config_is_a_config_of_the_same_digest(
    name: str, index: int, tmp_path: Path
) -> None:
    plan = plan_of(name, index, tmp_path)
    again = load(
        write_config(
            tmp_path / "again.yaml", input=MASKED, prepare=expanded(plan.config)["prepare"]
        )
    )
    assert Plan(again, "cpu").digest == plan.digest
    without = Plan(load(write_config(tmp_path / "none.yaml", input=MASKED)), "cpu")
    assert without.digest != plan.digest


@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_step_survives_a_trip_to_another_process(name: str, index: int, tmp_path: Path) -> None:
    step = step_of(name, index, tmp_path)
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step.whole_image, bool)


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_an_image_has_the_same_bits_alone_and_among_others(
    name: str, index: int, masked: bool, tmp_path: Path
) -> None:
    step = step_of(name, index, tmp_path)
    values, valid = pixels()
    regions, before = rois(), values.clone()
    together = step.apply(images(values, valid if masked else None, INFO, regions))
    assert torch.equal(values, before), "a step changed its input"
    assert all(map(same_regions, regions, rois())), "a step changed its input"
    for i in range(3):
        mask = valid[i : i + 1] if masked else None
        alone = step.apply(images(values[i : i + 1], mask, INFO, regions[i : i + 1]))
        assert torch.equal(alone.values[0], together.values[i])
        assert (alone.valid is None) == (together.valid is None)
        if alone.valid is not None and together.valid is not None:
            assert torch.equal(alone.valid[0], together.valid[i])
        assert same_regions(alone.regions[0], together.regions[i])


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
@pytest.mark.parametrize(("name", "index"), CASES)
def test_what_it_says_of_an_image_is_what_it_makes_of_it(
    name: str, index: int, masked: bool, tmp_path: Path
) -> None:
    step = step_of(name, index, tmp_path)
    values, valid = pixels()
    after = step.apply(images(values, valid if masked else None, INFO, rois()))
    known = step.info(INFO)
    assert after.infos == (known,) * 3
    assert (known.bands, known.dtype) == (INFO.bands, INFO.dtype)
    assert after.box == Region.whole(known.shape)
    assert (after.values.shape, after.values.dtype) == ((3, 2, *known.shape), torch.float64)
    if after.valid is not None:
        assert (after.valid.shape, after.valid.dtype) == (after.values.shape, torch.bool)
    for part in after.regions:
        assert [roi.region for roi in part] == ["image", "roi=1", "roi=2"]
        for roi in part:
            assert roi.box == roi.box.clip(known.shape)
            assert roi.mask is None or (roi.mask.shape, roi.mask.dtype) == (roi.box.shape, bool)


@pytest.mark.parametrize(("name", "index"), CASES)
def test_invalid_pixels_have_no_say(name: str, index: int, tmp_path: Path) -> None:
    step = step_of(name, index, tmp_path)
    values, valid = pixels()
    other = torch.where(valid, values, 1e9)
    first, second = (step.apply(images(x, valid, INFO, rois())) for x in (values, other))
    assert first.valid is not None
    assert second.valid is not None
    assert torch.equal(first.valid, second.valid)
    assert torch.equal(first.values[first.valid], second.values[first.valid])
    assert all(map(same_regions, first.regions, second.regions))


@pytest.mark.parametrize(("name", "index"), CASES)
def test_a_step_that_does_not_see_the_whole_image_sees_each_pixel_alone(
    name: str, index: int, tmp_path: Path
) -> None:
    step = step_of(name, index, tmp_path)
    values, _ = pixels()
    whole = step.apply(images(values, None, INFO, rois()))
    box = Region((2, 3), (7, 8))
    cut = [[within(roi, box) for roi in part] for part in rois()]
    crop = step.apply(replace(images(values[..., 2:7, 3:8], None, INFO, cut), box=box))
    assert step.whole_image or torch.equal(crop.values, whole.values[..., 2:7, 3:8])
    for mine, all_of_it in zip(crop.regions, whole.regions, strict=True):
        part = [within(roi, box) for roi in all_of_it]
        assert step.whole_image or same_regions(mine, part)


def within(roi: Roi, box: Region) -> Roi:
    """The part of a region in a tile."""
    part = roi.box.overlap(box)
    mask = None if roi.mask is None else roi.mask[part.slices(roi.box.start)]
    return replace(roi, box=part, mask=mask)

"""Codes of previews that are made by torch, where responses are, against those of the encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.config import load
from pipeline.plan import Plan
from pipeline.stages.quantise import quantise
from pipeline.stages.render import Pictures
from pipeline.types import Grid, ImageInfo, Region, Response, Source
from pipeline.writers import png

PLANES = arrays(
    np.float32,
    (3, 4, 5),
    elements=st.one_of(
        st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, 2.5, -3.0, np.nan, np.inf])
    ),
)


def same(values: np.ndarray, valid: np.ndarray | None, limits: png.Limits | None, depth: png.Depth):
    mask = None if valid is None else torch.from_numpy(valid)
    lines, codes = quantise(torch.from_numpy(values), mask, limits, depth)
    for p, (line, pixels) in enumerate(zip(lines, codes.numpy(), strict=True)):
        wanted = png.render(
            values[p], None if valid is None else valid[p], depth=depth, limits=limits, text={}
        )
        assert png.coded(pixels, line, limits=limits, text={}) == wanted


@settings(max_examples=60)
@given(
    PLANES,
    st.one_of(st.none(), arrays(np.bool_, (3, 4, 5))),
    st.sampled_from([None, (0.0, 1.0), (-2.0, 0.5), (1e-3, 1e30)]),
    st.sampled_from([8, 16]),
)
def test_codes_are_those_of_the_encoder_to_the_bit(values, valid, limits, depth) -> None:
    same(values, valid, limits, depth)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("limits", [None, (-1.0, 3.0)], ids=["auto", "given"])
def test_so_are_those_of_many_pixels(depth: png.Depth, limits: png.Limits | None) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((2, 200, 150)) * [[[1.0]], [[1e-20]]]).astype(np.float32)
    same(values, None, limits, depth)
    same(np.abs(values), rng.random(values.shape) < 0.9, limits, depth)
    same(np.round(values * 100), None, limits, depth)


def test_pictures_are_the_same_wherever_they_are_coded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those images and responses that are drawn."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "version: 1\ninput: {path: .}\nfilters: [sobel]\n"
        "output: {path: out, png: {what: maps, range: {sobel*: [0, 3]}}}\n"
    )
    plan = Plan(load(path), "cpu")
    info = ImageInfo((6, 7), ("1", "2"), "uint8", Grid((1.0, 1.0)))
    sources = [Source(f"{i}.png", (), "png", info=info, drawn=i != 1) for i in range(3)]
    whole = Region.whole(info.shape)
    values = torch.from_numpy(np.random.default_rng(0).normal(1, 1, (3, 2, 6, 7)))
    response = Response("sobel", info.bands, whole, values.float(), values > 0)

    def files() -> dict[str, list[tuple[str, bytes]]]:
        pictures = Pictures(plan, sources)
        pictures.add(response)
        return pictures.files

    wanted = files()
    assert [len(wanted[source.key]) for source in sources] == [2, 0, 2]
    monkeypatch.setattr(Pictures, "_on_device", lambda self, response: True)
    monkeypatch.setattr(Pictures, "draw", None)
    assert files() == wanted


@pytest.mark.parametrize(
    ("drawn", "shape", "device", "codes"),
    [
        ("what: maps", (6, 7), "meta", True),
        ("what: maps", (6, 7), "cpu", False),
        ("what: both", (6, 7), "meta", False),
        ("what: maps, size: 6", (6, 7), "meta", False),
        ("what: maps", (2, 6, 7), "meta", False),
    ],
)
def test_what_needs_values_on_the_cpu_is_not_coded_before(
    drawn: str, shape: tuple[int, ...], device: str, codes: bool, tmp_path: Path
) -> None:
    """A sheet does, and a picture of fewer pixels than the response has, and of a volume."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "version: 1\ninput: {path: .}\nfilters: [sobel]\n"
        f"output: {{path: out, png: {{{drawn}}}}}\n"
    )
    values = torch.empty((1, 1, *shape), device=device)
    response = Response("sobel", ("1",), Region.whole(shape), values)
    assert Pictures(Plan(load(path), "cpu"), [])._on_device(response) == codes

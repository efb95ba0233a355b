"""What travels to the device: pixels in the type of their files, converted when they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from pipeline.config import load
from pipeline.plan import Plan
from pipeline.stages.prepare import prepare
from pipeline.types import Batch, Grid, ImageInfo, Region, Roi, Source, Tile


class Copies(TorchFunctionMode):
    """Types and sizes of the tensors that are asked to be on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if function is torch.Tensor.to and args[1:] == ("cpu",):
            assert (kwargs or {})["non_blocking"]
            self.seen.append((args[0].dtype, tuple(args[0].shape)))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pixels_travel_as_they_are_stored(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("version: 1\ninput: {path: .}\nfilters: [sobel]\noutput: {path: out}\n")
    info = ImageInfo((5, 6), ("1", "2"), dtype, Grid((1.0, 1.0)))
    whole = Region.whole(info.shape)
    tiles = tuple(Tile(Source(f"{i}.png", (), "png", info=info), whole) for i in range(3))
    pixels = np.random.default_rng(0).integers(0, 200, (3, 2, 5, 6)).astype(dtype)
    rois = ((Roi("image", "image", None, whole),),) * 3
    valid = torch.from_numpy(pixels > 20)
    batch = Batch(tiles, whole, info.bands, torch.from_numpy(pixels), valid, regions=rois)
    with Copies() as copies:
        prepared = prepare(Plan(load(path), "cpu"), batch)
    stored = getattr(torch, dtype)
    assert copies.seen == [(stored, pixels.shape), (torch.bool, pixels.shape)]
    assert prepared.values.dtype == torch.float32
    offset = 0.0 if prepared.offset is None else prepared.offset[:, :, None, None].numpy()
    wanted = np.where(pixels > 20, pixels, offset)
    np.testing.assert_array_equal(prepared.values.numpy() + offset, wanted)

"""Responses -> pictures: a preview of each map, and a sheet of each image's whole bank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Array, Conv, Node, Spectral, nodes_of
from pipeline.keys import picture_folder, picture_part
from pipeline.writers import png
from pipeline.writers.sheet import captioned, kernel_sheet, photograph, sheet

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.types import Batch, Response, Source

Tile = tuple[str, str, npt.NDArray[np.uint8], str]

_DRAWN = 63
"""Pixels, per axis, of the image for which a transfer function is drawn as a kernel."""


class Pictures:
    """The pictures of one batch, gathered response by response."""

    def __init__(self, plan: Plan, batch: Batch) -> None:
        self.plan, self.batch = plan, batch
        self.sources = [tile.source for tile in batch.tiles]
        self.files: dict[str, list[tuple[str, bytes]]] = {s.key: [] for s in self.sources}
        self._tiles: dict[str, list[Tile]] = {s.key: [] for s in self.sources}
        self._ids = {response.name: response.id for response in plan.responses}

    def add(self, response: Response) -> None:
        """Draw a response of every image that is to be drawn."""
        config = self.plan.config.output.png
        if config is None or not self.plan.draws(response.name) or not response.region.size:
            return
        limits = config.range_of(response.name)
        values = response.values.cpu().numpy()
        valid = None if response.valid is None else response.valid.cpu().numpy()
        for n, source in enumerate(self.sources):
            for c, band in enumerate(response.bands):
                if not source.drawn:
                    continue
                plane, mask = values[n, c], None if valid is None else valid[n, c]
                if config.what != "sheet":
                    folder = f"{picture_folder(source.key)}/{picture_part(band)}"
                    name = f"{folder}/{self._ids[response.name]}.png"
                    text = self._text(source, band, response.name)
                    data = png.render(
                        plane, mask, depth=config.depth, limits=limits, text=text, size=config.size
                    )
                    self.files[source.key].append((name, data))
                if config.what != "maps":
                    tile = (response.name, band, *captioned(plane, mask, limits))
                    self._tiles[source.key].append(tile)

    def _text(self, source: Source, band: str, response: str) -> dict[str, str]:
        digest = self.plan.digest[:16]
        return {
            "image": source.key,
            "band": band,
            "filter": response,
            "unit": "response",
            "digest": digest,
        }

    def finish(self) -> Mapping[str, list[tuple[str, bytes]]]:
        """Every picture by image key, as (path below the output folder, PNG)."""
        config = self.plan.config.output.png
        if config is None or config.what == "maps":
            return self.files
        order = {response.name: i for i, response in enumerate(self.plan.responses)}
        for n, source in enumerate(self.sources):
            tiles = sorted(self._tiles[source.key], key=lambda t: order[t[0]])
            if tiles:
                text = {"image": source.key, "digest": self.plan.digest[:16]}
                data = sheet(
                    source.key, self._photograph(n), tiles, about=_about(source), text=text
                )
                self.files[source.key].append((f"{picture_folder(source.key)}/sheet.png", data))
        return self.files

    def _photograph(self, n: int) -> Any:
        batch = self.batch
        planes = batch.values[n].double().numpy()
        masks = None if batch.valid is None else batch.valid[n].numpy()
        info = batch.tiles[n].source.header
        return photograph(
            dict(zip(info.bands, planes, strict=True)),
            None if masks is None else dict(zip(info.bands, masks, strict=True)),
            limits=(0, 255) if info.dtype == "uint8" else None,
        )


def _about(source: Source) -> list[str]:
    info = source.header
    size = " x ".join(map(str, info.shape))
    bands = "1 band" if len(info.bands) == 1 else f"{len(info.bands)} bands"
    about = [f"{size} pixels, {bands}, {info.dtype}"]
    if len(info.shape) == 3:
        about.append(f"slice z={info.shape[0] // 2} of 0..{info.shape[0] - 1}")
    return about


def draw_kernels(plan: Plan, title: str) -> bytes:
    """A picture of the bank's kernels; a response made of several has a tile for each.

    Of a transfer function it is the kernel that it amounts to on a small image.
    """
    tiles = []
    for response in plan.responses:
        kernels = [k for k in map(_taps, nodes_of(plan.example(response))) if k is not None]
        for i, kernel in enumerate(kernels):
            note = f"part {i + 1} of {len(kernels)}" if len(kernels) > 1 else ""
            tiles.append((response.name, kernel, note))
    return kernel_sheet(title, tiles)


def _taps(node: Node) -> Array | None:
    """The taps, as applied, of a node that weighs neighbours."""
    if isinstance(node, Conv):
        return node.kernel.array
    if not isinstance(node, Spectral):
        return None
    kernel = np.fft.ifftn(node.transfer.sample((_DRAWN,) * node.of.rank))
    part = kernel.real if node.part == "real" else kernel.imag
    return np.flip(np.fft.fftshift(part))

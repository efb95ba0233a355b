"""Responses -> pictures: a preview of each map, and a sheet of each image's whole bank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.bank.expr import Array, Conv, Node, Spectral, nodes_of
from pipeline.keys import picture_folder, picture_part
from pipeline.writers import png
from pipeline.writers.png import Floats, Mask
from pipeline.writers.sheet import captioned, kernel_sheet, photograph, sheet

if TYPE_CHECKING:
    from pipeline.plan import Plan
    from pipeline.types import Batch, Response, Source

Tile = tuple[str, str, npt.NDArray[np.uint8], str]

_DRAWN = 63
"""Pixels, per axis, of the image for which a transfer function is drawn as a kernel."""


class Pictures:
    """The pictures of some images, gathered response by response."""

    def __init__(self, plan: Plan, sources: Sequence[Source]) -> None:
        self.plan, self.sources = plan, sources
        self.files: dict[str, list[tuple[str, bytes]]] = {s.key: [] for s in sources}
        self._tiles: dict[str, list[Tile]] = {s.key: [] for s in sources}
        self._photographs: dict[str, npt.NDArray[np.uint8]] = {}
        self._ids = {response.name: response.id for response in plan.responses}

    def photograph(self, batch: Batch) -> None:
        """Keep a small picture of each image as it is stored, for its sheet."""
        config = self.plan.config.output.png
        if config is None or config.what == "maps":
            return
        for n, source in enumerate(self.sources):
            if source.drawn:
                planes = batch.values[n].cpu().double().numpy()
                masks = None if batch.valid is None else batch.valid[n].numpy()
                self.portray(
                    source,
                    dict(zip(batch.bands, planes, strict=True)),
                    None if masks is None else dict(zip(batch.bands, masks, strict=True)),
                )

    def portray(
        self, source: Source, bands: Mapping[str, Floats], valid: Mapping[str, Mask] | None = None
    ) -> None:
        """Keep a small picture of an image, given by its stored bands."""
        limits = (0, 255) if source.header.dtype == "uint8" else None
        spacing = source.header.grid.spacing
        self._photographs[source.key] = photograph(bands, valid, limits, spacing)

    def add(self, response: Response) -> None:
        """Draw a response of every image that is to be drawn."""
        wanted = self.plan.draws(response.name) and any(source.drawn for source in self.sources)
        if not wanted or not response.region.size:
            return
        if self._on_device(response):
            self._code(response)
            return
        values = response.values.cpu().numpy()
        valid = None if response.valid is None else response.valid.cpu().numpy()
        for n, source in enumerate(self.sources):
            for c, band in enumerate(response.bands):
                mask = None if valid is None else valid[n, c]
                self.draw(source, response.name, band, values[n, c], mask)

    def _on_device(self, response: Response) -> bool:
        """Whether codes are made where a response is: of every pixel one, and no sheet."""
        config, (_, _, *shape) = self.plan.config.output.png, response.residual.shape
        return (
            response.residual.device.type != "cpu"
            and config is not None
            and config.what == "maps"
            and len(shape) == 2
            and max(shape) <= config.size
        )

    def _code(self, response: Response) -> None:
        """Draw all planes of a response by codes that are made where it is."""
        from pipeline.stages.quantise import quantise

        config = self.plan.config.output.png
        assert config is not None
        limits = config.range_of(response.name)
        valid = None if response.valid is None else response.valid.flatten(0, 1)
        lines, codes = quantise(response.values.flatten(0, 1), valid, limits, config.depth)
        planes = zip(lines, codes.cpu().numpy(), strict=True)
        for (source, band), (line, pixels) in zip(
            product(self.sources, response.bands), planes, strict=True
        ):
            if source.drawn:
                text = self._text(source, band, response.name)
                data = png.coded(pixels, line, limits=limits, text=text)
                self._file(source, band, response.name, data)

    def draw(
        self,
        source: Source,
        name: str,
        band: str,
        plane: Floats,
        mask: Mask | None,
        text: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Draw one plane of a response; text: more chunks for its file."""
        config = self.plan.config.output.png
        if config is None or not source.drawn:
            return
        limits = config.range_of(name)
        spacing = self.plan.prepared(source.header).grid.spacing
        if config.what != "sheet":
            text = {**self._text(source, band, name), **text}
            data = png.render(
                plane,
                mask,
                depth=config.depth,
                limits=limits,
                text=text,
                size=config.size,
                spacing=spacing,
            )
            self._file(source, band, name, data)
        if config.what != "maps":
            self._tiles[source.key].append((name, band, *captioned(plane, mask, limits, spacing)))

    def _file(self, source: Source, band: str, response: str, data: bytes) -> None:
        folder = f"{picture_folder(source.key)}/{picture_part(band)}"
        self.files[source.key].append((f"{folder}/{self._ids[response]}.png", data))

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
        order = {response.name: i for i, response in enumerate(self.plan.responses)}
        for source in self.sources:
            tiles = sorted(self._tiles[source.key], key=lambda t: order[t[0]])
            if tiles:
                text = {"image": source.key, "digest": self.plan.digest[:16]}
                drawn = self._photographs[source.key]
                data = sheet(source.key, drawn, tiles, about=_about(source), text=text)
                self.files[source.key].append((f"{picture_folder(source.key)}/sheet.png", data))
        return self.files


def _about(source: Source) -> list[str]:
    info = source.header
    size = " x ".join(map(str, info.shape))
    bands = "1 band" if len(info.bands) == 1 else f"{len(info.bands)} bands"
    about = [f"{size} pixels, {bands}, {info.dtype}"]
    if len(info.shape) == 3:
        z, y, x = (n // 2 for n in info.shape)
        about.append(f"slices z={z}, y={y} and x={x}; the last z on top")
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

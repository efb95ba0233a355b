"""Stacks of layers against torch's modules, which stride where a stack spaces its kernels out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from reference import tolerance
from running import write_config
from torch import nn

from pipeline.bank.apply import apply_bank
from pipeline.bank.compile import compile_bank
from pipeline.bank.expr import reach_of
from pipeline.boundary import Boundary, Mode
from pipeline.config import load
from pipeline.errors import ConfigError, PlanError
from pipeline.filters.stack import MAX_PATHS, Stack
from pipeline.types import Batch, Grid, ImageInfo, Region, Source, Tile

FLAT, VOLUME = Grid((1.0, 1.0)), Grid((1.0, 1.0, 1.0))
CHANNELS = (3, 4, 2, 5)


def weights(out: int, into: int, *sizes: int) -> np.ndarray:
    rng = np.random.default_rng((out, into, *sizes))
    return rng.normal(size=(out, into, *sizes)) / np.sqrt(into * np.prod(sizes))


def layers(ndim: int, size: int, pool: str, pooling: int, activation: str) -> list[dict[str, Any]]:
    """Three layers, all but the last of which pool."""
    made = []
    for i, (into, out) in enumerate(pairwise(CHANNELS)):
        kernel = {"weights": weights(out, into, *(size,) * ndim), "bias": np.linspace(-1, 1, out)}
        pools = {"pool": pool, "size": pooling} if i < 2 else {}
        made.append(kernel | {"activation": activation} | pools)
    return made


class Absolute(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs()


def network(given: list[dict[str, Any]], padding: str, padding_mode: str) -> nn.Sequential:
    """The layers as modules of torch, float64."""
    modules: list[nn.Module] = []
    for one in given:
        out, into, *sizes = one["weights"].shape
        flat = len(sizes) == 2
        conv = (nn.Conv2d if flat else nn.Conv3d)(
            into, out, tuple(sizes), padding=padding, padding_mode=padding_mode
        ).double()
        conv.weight.data = torch.from_numpy(one["weights"])
        conv.bias.data = torch.from_numpy(one["bias"])
        rectified = {"relu": nn.ReLU, "abs": Absolute, "none": nn.Identity}[one["activation"]]
        modules += [conv, rectified()]
        if "pool" in one:
            kinds = {"max": (nn.MaxPool2d, nn.MaxPool3d), "mean": (nn.AvgPool2d, nn.AvgPool3d)}
            modules.append(kinds[one["pool"]][0 if flat else 1](one["size"]))
    return nn.Sequential(*modules)


def respond(given: list[dict[str, Any]], picture: np.ndarray, mode: Mode) -> np.ndarray:
    """Maps of a stack over a picture (C, *shape): (out, *shape)."""
    shape = picture.shape[1:]
    found = Stack(layers=given).responses(Grid((1.0,) * len(shape)))
    bank = compile_bank(((k, n, Boundary(mode)) for k, n in found.items()), len(shape))
    bands = tuple(str(i) for i in range(len(picture)))
    info = ImageInfo(shape, bands, "float32", Grid((1.0,) * len(shape)))
    tile = Tile(Source("x", (), "npy", info=info), Region.whole(shape))
    batch = Batch((tile,), tile.core, bands, torch.from_numpy(picture[None].copy()))
    return np.stack([response.values[0, 0].numpy() for response in apply_bank(bank, batch)])


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(4).normal(size=shape).astype(np.float32)


def asked(net: nn.Sequential, image: np.ndarray) -> np.ndarray:
    """What a network of torch answers, in float64."""
    return net(torch.from_numpy(image[None].astype(np.float64)))[0].detach().numpy()


CASES = [
    (2, 3, "max", 2, "relu"),
    (2, 3, "mean", 2, "abs"),
    (2, 2, "max", 3, "relu"),
    (2, 5, "mean", 3, "none"),
    (3, 3, "max", 2, "relu"),
    (3, 2, "mean", 2, "abs"),
]
cases = pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c[0]}-D {c[1]} {c[2]} {c[3]} {c[4]}"
)


@cases
def test_every_stride_th_pixel_is_that_of_a_network_without_padding(case: Any) -> None:
    given, stride = layers(*case), case[3] ** 2
    image = picture(3, *((80, 73) if case[0] == 2 else (26, 24, 25)))
    want = asked(network(given, "valid", "zeros"), image)
    got = respond(given, image, "valid")
    every = got[:, *(slice(None, None, stride),) * case[0]]
    assert all(n >= m for n, m in zip(every.shape, want.shape, strict=True))
    trimmed = every[:, *(slice(0, n) for n in want.shape[1:])]
    np.testing.assert_allclose(trimmed, want, rtol=0, atol=tolerance(want))


@pytest.mark.parametrize("case", [c for c in CASES if c[1] % 2 and c[3] == 2], ids=str)
@pytest.mark.parametrize(("mode", "padding"), [("constant", "zeros"), ("wrap", "circular")])
def test_a_network_that_pads_is_sampled_at_the_end_of_each_block(
    case: Any, mode: Mode, padding: str
) -> None:
    given, stride = layers(*case), 4
    image = picture(3, *((20, 32) if case[0] == 2 else (8, 12, 16)))
    want = asked(network(given, "same", padding), image)
    got = respond(given, image, mode)
    assert got.shape[1:] == image.shape[1:]
    every = got[:, *(slice(stride - 1, None, stride),) * case[0]]
    np.testing.assert_allclose(every, want, rtol=0, atol=tolerance(want))


def test_the_reach_is_what_the_layers_see() -> None:
    """3 taps, a pool of 2, 3 taps 2 apart, a pool of 2 at 2, 3 taps 4 apart: 18 pixels in all."""
    (node, *_) = Stack(layers=layers(*CASES[0])).responses(FLAT).values()
    ((before, after), _) = reach_of(node, 2)
    assert before + after + 1 == 3 + 1 + 4 + 2 + 8
    assert (before, after) == (1 + 1 + 2 + 2 + 4, 1 + 2 + 4)


def test_a_stack_of_one_bare_layer_is_the_kernel_family() -> None:
    from pipeline.filters.kernel import Kernel

    numbers = weights(2, 3, 3, 3)
    stack = Stack(layers=[{"weights": numbers, "bias": 1, "activation": "none"}])
    assert stack.responses(FLAT) == Kernel(weights=numbers, bias=1).responses(FLAT)


def save(folder: Any, name: str) -> list[dict[str, Any]]:
    """Two layers in a file; the same layers as numbers."""
    inline = layers(*CASES[0])[:2]
    arrays = {
        f"{i}.{k}": torch.as_tensor(v[k]) for i, v in enumerate(inline) for k in ("weights", "bias")
    }
    if name.endswith("pt"):
        torch.save({"state": arrays}, folder / name)
    else:
        from safetensors.torch import save_file

        save_file(arrays, folder / name)
    return inline


@pytest.mark.parametrize(
    ("name", "prefix"), [("net.safetensors", ""), ("net.pt", "state.")], ids=["safetensors", "pt"]
)
def test_layers_come_from_files_beside_the_config(tmp_path: Any, name: str, prefix: str) -> None:
    inline = save(tmp_path, name)
    named = [
        {"file": name, "tensor": f"{prefix}{i}.weights", "bias": f"{prefix}{i}.bias"}
        | {"pool": "max", "size": 2}
        for i in range(2)
    ]
    config = write_config(tmp_path / "c.yaml", filters=[{"stack": {"name": "n", "layers": named}}])
    (found,) = load(config).filters
    assert found.filter == Stack(layers=inline)


PLAIN = {"weights": [[[[1.0]]]]}


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], "layers: must be a list of at least 1"),
        ([{"weights": [[1]]}], r"layers\[0\]: a layer's weights are \[out\]\[in\]\[kh\]\[kw\]"),
        ([PLAIN | {"bias": [1, 2]}], "bias of shape .2,. does not suit 1 channels"),
        ([PLAIN, PLAIN | {"pool": "max"}], r"layers\[1\]: pool and size belong together"),
        ([PLAIN | {"size": 2}], r"layers\[0\]: pool and size belong together"),
        ([PLAIN | {"pool": "max", "size": 1}], r"layers\[0\].size: must be at least 2"),
        ([PLAIN | {"aktivation": "abs"}], r"layers\[0\].aktivation: unknown key; did you mean"),
        ([PLAIN | {"activation": "rely"}], "must be 'relu', 'abs' or 'none' .*did you mean 'relu'"),
        ([{"pool": "max", "size": 2}], r"layers\[0\]: give either weights or a file"),
        ([PLAIN, {"file": "no.safetensors", "tensor": "a"}], r"layers\[1\]: there is no file"),
        ([PLAIN, {"weights": [[[[1]], [[2]]]]}], r"layers\[1\] takes 2 channels, "),
        ("conv", "layers: must be a list"),
    ],
)
def test_bad_layers_are_refused_where_they_stand(tmp_path: Any, given: Any, text: str) -> None:
    config = write_config(tmp_path / "c.yaml", filters=[{"stack": {"name": "n", "layers": given}}])
    with pytest.raises(ConfigError, match=f"c.yaml:[0-9]+:[0-9]+: .*{text}"):
        load(config)


def test_a_stack_too_wide_to_write_out_is_refused() -> None:
    wide = [{"weights": weights(16, n, 1, 1)} for n in (3, 16, 16, 16)]
    with pytest.raises(ValidationError, match=f"12288 ways .* at most {MAX_PATHS}"):
        TypeAdapter(Stack).validate_python({"layers": wide})


@pytest.mark.parametrize("grid", [FLAT, VOLUME], ids=["2-D", "3-D"])
def test_weights_of_another_rank_are_a_plan_error(grid: Grid) -> None:
    other = Stack(layers=[{"weights": weights(2, 3, *(3,) * (5 - grid.ndim))}])
    with pytest.raises(PlanError, match=r"layers\[0\] has weights of shape"):
        other.responses(grid)

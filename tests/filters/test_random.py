"""Random banks are torch's initial weights, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.bank.expr import Conv, Input, Join, Map
from pipeline.errors import PlanError
from pipeline.filters.random import Random
from pipeline.types import Grid

LAYERS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}


def read_back(found):
    """(weights [out][in][*kernel], bias [out]) from the expressions, float64."""
    weights, bias = [], []
    for node in found.values():
        bias.append(node.amount if isinstance(node, Map) else 0.0)
        total = node.of if isinstance(node, Map) else node
        convs = total.of if isinstance(total, Join) else (total,)
        weights.append([conv.kernel.array for conv in convs])
    return np.array(weights), np.array(bias)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
@pytest.mark.parametrize(
    ("count", "channels", "size"), [(1, 1, 1), (2, None, 2), (16, 3, 5), (7, 4, 3), (64, 3, 7)]
)
def test_numbers_are_bit_identical_to_a_fresh_torch_layer(ndim, seed, count, channels, size):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = LAYERS[ndim](channels or 1, count, size)
    found = Random(count=count, size=size, seed=seed, channels=channels).responses(
        Grid((1.0,) * ndim)
    )
    weights, bias = read_back(found)
    np.testing.assert_array_equal(weights, layer.weight.detach().double().numpy())
    np.testing.assert_array_equal(bias, layer.bias.detach().double().numpy())


def test_without_channels_each_band_is_filtered_by_itself():
    node = Random(count=3, size=3, bias=False).responses(Grid((1.0, 1.0)))["[3]"]
    assert isinstance(node, Conv)
    assert node.of == Input()


def test_with_channels_bands_are_joined_in_order():
    node = Random(count=1, size=3, channels=2, bias=False).responses(Grid((1.0, 1.0)))["[1]"]
    assert [conv.of for conv in node.of] == [Input(band=0), Input(band=1)]


def test_a_bank_too_large_for_memory_is_a_plan_error():
    with pytest.raises(PlanError, match="4096x1x1000x1000 taps is too large"):
        Random(count=4096, size=1000).responses(Grid((1.0, 1.0)))

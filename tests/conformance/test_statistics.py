"""What every statistic must do, found in the registry."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.statistics import COLUMNS, STATISTICS, Block, Statistic
from pipeline.statistics.cells import CELL

SHAPE = (2 * CELL + 40, CELL + 70)
UNITS = {"response", "response^2", "1", "bit"}


def planes(masked: bool) -> tuple[Tensor, Tensor | None]:
    """Three planes of skewed noise, one of them constant; (3, *SHAPE)."""
    rng = np.random.default_rng(2)
    values = torch.from_numpy(rng.gamma(2.0, 50.0, (3, *SHAPE)).astype(np.float32))
    values[1] = 7.25
    valid = torch.from_numpy(rng.random((3, *SHAPE)) > 0.3) if masked else None
    return values, valid


def blocks(values: Tensor, valid: Tensor | None) -> list[Block]:
    """A response cut at the borders of cells, both ways."""
    cut = [list(pairwise([*range(0, n, CELL), n])) for n in SHAPE]
    found = []
    for a, b in cut[0]:
        for c, d in cut[1]:
            at = (slice(None), slice(a, b), slice(c, d))
            found.append(Block(values[at], None if valid is None else valid[at], (a, c), SHAPE))
    return found


def reduced(statistic: Statistic, parts: list[Block]) -> Mapping[str, Tensor]:
    """Merge the states of blocks, with as many passes as the statistic asks for."""
    brief: Any = None
    for _ in range(statistic.passes):
        state = statistic.start(parts[0], brief)
        for part in parts[1:]:
            state = statistic.merge(state, pickle.loads(pickle.dumps(statistic.start(part, brief))))
        if (brief := statistic.next(state)) is None:
            return {k: torch.from_numpy(v) for k, v in statistic.finish(state).items()}
    pytest.fail("more passes than declared")


@pytest.mark.parametrize("masked", [False, True], ids=["all valid", "holes"])
@pytest.mark.parametrize("name", STATISTICS)
def test_blocks_merge_to_the_bits_of_the_whole_in_any_order(name: str, masked: bool) -> None:
    values, valid = planes(masked)
    statistic, parts = STATISTICS[name](), blocks(values, valid)
    assert len(parts) == 6
    whole = reduced(statistic, [Block.whole(values, valid)])
    for order in (parts, parts[::-1], parts[3:] + parts[:3]):
        found = reduced(statistic, order)
        assert found.keys() == whole.keys()
        for column, value in found.items():
            torch.testing.assert_close(value, whole[column], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", STATISTICS)
def test_a_plane_has_the_same_bits_alone_and_among_others(name: str) -> None:
    values, valid = planes(masked=True)
    assert valid is not None
    together = reduced(STATISTICS[name](), [Block.whole(values, valid)])
    for i in range(3):
        alone = reduced(STATISTICS[name](), [Block.whole(values[i : i + 1], valid[i : i + 1])])
        for column, value in alone.items():
            assert value.item() == together[column][i].item()


@pytest.mark.parametrize("name", STATISTICS)
def test_columns_are_what_is_declared_and_described(name: str) -> None:
    values, _ = planes(masked=False)
    found = reduced(STATISTICS[name](), [Block.whole(values)])
    assert found.keys() == STATISTICS[name].columns.keys()
    for column, value in found.items():
        assert (value.dtype, value.shape, value.device.type) == (torch.float64, (3,), "cpu")
        assert torch.isfinite(value).all(), column
        assert COLUMNS[column].unit in UNITS
        assert COLUMNS[column].formula


@pytest.mark.parametrize("name", STATISTICS)
def test_invalid_pixels_have_no_say(name: str) -> None:
    values, valid = planes(masked=True)
    assert valid is not None
    other = torch.where(valid, values, -1e30)
    first, second = (reduced(STATISTICS[name](), [Block.whole(x, valid)]) for x in (values, other))
    for column, value in first.items():
        assert torch.equal(value, second[column]), column


@pytest.mark.parametrize("name", STATISTICS)
def test_a_plane_without_a_valid_pixel_is_nan(name: str) -> None:
    values, _ = planes(masked=False)
    valid = torch.ones_like(values, dtype=torch.bool)
    valid[2] = False
    for column, value in reduced(STATISTICS[name](), [Block.whole(values, valid)]).items():
        assert torch.isfinite(value[:2]).all(), column
        assert torch.isnan(value[2]), column

"""Sums of taps on a GPU, in Triton's interpreter and by torch's shifted planes, as on a CPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from distant import CUDA, Distant, distant_gpu
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.bank import engine, shifted
from pipeline.bank.expr import Kernel
from pipeline.types import Ints

WAYS = ("triton", "torch")


@pytest.fixture(params=WAYS)
def gpu(request: pytest.FixtureRequest) -> Iterator[str]:
    """What multiplies and adds there."""
    way: str = request.param
    if way == "triton":
        pytest.importorskip("triton", reason="Triton is not installed")
    with distant_gpu() as patch:
        patch.setattr(shifted, "possible", lambda device: way == "triton")
        yield way


def there(x: torch.Tensor) -> torch.Tensor:
    return x.as_subclass(Distant)


KERNELS: dict[str, tuple[np.ndarray, ...]] = {
    "even row": (np.array([[1.0, 2.0, 1.0]]),),
    "odd row and even row": (np.array([[1.0, 2.0, 1.0]]), np.array([[-1.0, 0.0, 1.0]])),
    "column": (np.arange(1.0, 6.0)[:, None],),
    "tall column": (np.arange(1.0, 12.0)[:, None],),
    "taller column": (np.random.default_rng(9).standard_normal((23, 1)),),
    "holes": (np.diag([0.5, 0.0, 0.25, 0.0, 1.0]),),
    "nothing": (np.zeros((2, 2)),),
    "three": tuple(np.random.default_rng(i).standard_normal((3, 4)) for i in range(3)),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", [(3, 5), (9, 131)], ids=str)
def test_a_bank_of_one_window_is_scipy_in_float64(name: str, shape: Ints, gpu: str) -> None:
    """From a corner on, of planes whose lines lie apart."""
    arrays = KERNELS[name]
    rows, columns = arrays[0].shape
    wide = np.random.default_rng(1).integers(
        0, 256, (2, shape[0] + rows + 3, shape[1] + columns + 4)
    )
    planes = torch.from_numpy(wide.astype(np.float32))[:, 1:]
    found = engine.correlate((there(planes), (1, 2)), tuple(Kernel.of(a) for a in arrays), shape)
    for result, array in zip(found, arrays, strict=True):
        assert result.device == CUDA
        origin = tuple(-(n // 2) for n in array.shape)
        for plane, one in zip(wide, result.cpu().double().numpy(), strict=True):
            full = ndimage.correlate(plane.astype(float), array, origin=origin, mode="constant")
            right = full[2 : 2 + shape[0], 2 : 2 + shape[1]]
            assert one == pytest.approx(right, abs=255e-6 * (1 + np.abs(array).sum()))


def test_volumes_and_planes_far_apart(gpu: str) -> None:
    cube = np.random.default_rng(2).standard_normal((2, 6, 7, 8)).astype(np.float32)
    array = np.random.default_rng(3).standard_normal((3, 1, 2))
    here = torch.from_numpy(cube)
    for planes in (here, here.transpose(1, 3).contiguous().transpose(1, 3)):
        (found,) = engine.correlate((there(planes), (1, 2, 3)), (Kernel.of(array),), (3, 4, 4))
        (right,) = engine.correlate((here, (1, 2, 3)), (Kernel.of(array),), (3, 4, 4))
        assert found.cpu().numpy() == pytest.approx(right.numpy(), rel=1e-5, abs=1e-5)


def test_what_follows_a_column_is_that_of_both_one_after_the_other(gpu: str) -> None:
    planes = torch.from_numpy(np.random.default_rng(4).random((1, 12, 14)).astype(np.float32))
    column = Kernel.of(np.array([[1.0], [2.0], [3.0]]))
    lines = (Kernel.of(np.array([[1.0, 2.0, 1.0]])), Kernel.of(np.array([[-1.0, 0.0, 1.0]])))
    both = (
        engine.correlate_through((x, (1, 2)), column, lines, (8, 9))
        for x in (there(planes), planes)
    )
    for found, right in zip(*both, strict=True):
        assert found.cpu().numpy() == pytest.approx(right.numpy(), rel=1e-5, abs=1e-5)


@given(data=st.data())
def test_a_pixel_does_not_know_its_neighbours(data: st.DataObject) -> None:
    """Its bits are those it has alone: of any size of image, among any planes and kernels."""
    pytest.importorskip("triton", reason="Triton is not installed")
    draw = data.draw
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 140)), "shape")
    at = tuple(draw(st.integers(0, n - 1)) for n in shape)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    kernels = tuple(Kernel.of(rng.standard_normal((2, 3))) for _ in range(3))
    planes = rng.standard_normal((2, shape[0] + 1, shape[1] + 2)).astype(np.float32)
    with distant_gpu() as patch:
        patch.setattr(shifted, "possible", lambda device: True)
        every = shifted.correlate(there(torch.from_numpy(planes)), (0, 0), kernels, shape)
        for whole, kernel in zip(every, kernels, strict=True):
            alone = there(torch.from_numpy(planes[1:]))
            (one,) = shifted.correlate(alone, at, (kernel,), (1, 1))
            assert whole.cpu()[1][at].item() == one.cpu().item()

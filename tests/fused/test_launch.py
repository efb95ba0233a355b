"""What becomes of a kernel that Triton cannot compile or launch, and how long one is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.bank.expr import Kernel
from pipeline.errors import DeviceError
from pipeline.fused import launch
from pipeline.fused.choose import COUNTERS
from pipeline.fused.launch import reduce
from pipeline.fused.moments import moments
from pipeline.fused.ranks import ranked
from pipeline.fused.reductions import Reduction, bins
from pipeline.fused.source import Stencil
from pipeline.types import Region

pytest.importorskip("triton", reason="Triton is not installed")

from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

PLANES = torch.zeros((1, 2, 4))
BOX = Region((0, 0), (2, 4))


def stencil() -> Stencil:
    return Stencil((Kernel.of([[2.0]]),), ((0, 0), (0, 0)))


def raising(error: Exception) -> Callable[[str], Any]:
    """Instead of Triton: a kernel whose launch raises."""

    def start(*args: object, **constants: object) -> None:
        raise error

    class Program:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            return start

    return lambda text: Program()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Triton Error [CUDA]: invalid argument"), "CUDA]: invalid argument"),
        (OutOfResources(300000, 232448, "shared memory"), "out of resource: shared memory"),
        (PTXASError("fatal: no space\nand more"), "kernel: fatal: no space;"),
        (CompilationError("x = 1", None, "no such type"), "kernel: no such type;"),
        (subprocess.CalledProcessError(1, "cc"), "Command 'cc' returned non-zero exit status 1"),
        (PermissionError(13, "Permission denied", "/cache"), "Permission denied: '/cache'"),
        (KeyError(), "kernel: KeyError;"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Exception) else None,
)
def test_what_cannot_be_compiled_or_launched_is_said_in_a_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "build", raising(error))
    with pytest.raises(DeviceError) as caught:
        reduce(PLANES, BOX, stencil(), [moments()])
    text = str(caught.value)
    assert said in text
    assert text.endswith("; use --device cpu with another output folder")
    assert "\n" not in text
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Triton Error [CUDA]: out of memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
    ],
    ids=["triton", "torch", "lost"],
)
def test_memory_and_a_lost_device_are_what_torch_calls_them(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "build", raising(error))
    memory = "out of memory" in str(error)
    with pytest.raises(torch.OutOfMemoryError if memory else torch.AcceleratorError):
        reduce(PLANES, BOX, stencil(), [moments()])


def test_a_kernel_is_built_once_for_as_long_as_its_stencil_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[str] = []
    build = launch.build
    monkeypatch.setattr(launch, "build", lambda text: (built.append(text), build(text))[1])
    one = stencil()
    extremes = np.array([[0.0, 1.0]])
    for _ in range(2):
        reduce(PLANES, BOX, one, [moments()])
        reduce(PLANES, BOX, one, [bins(extremes, 8, PLANES.device)])
    assert len(built) == len(one.programs) == 2
    assert not stencil().programs


def test_a_walk_holds_no_more_counters_than_are_planned() -> None:
    """Counters of keys and their sums, tables of nodes, counters of bins."""
    search: Any = ranked(np.arange(18)[None] // 3, torch.device("cpu"))
    while isinstance(search, Reduction):
        counts = search.room(1, (1,), torch.device("cpu"))
        given = sum(x.nbytes for x in search.given)
        assert given + 2 * counts.nbytes <= COUNTERS
        counts[0, :, 0] = 6
        search = search.answer(counts)

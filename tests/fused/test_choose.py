"""Which responses are fused, and with which others: decided without pixels, torch or Triton."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import gpu
from pipeline.bank.compile import compile_bank
from pipeline.bank.expr import Conv, Input, Kernel, Map, Node
from pipeline.boundary import Boundary
from pipeline.fused.choose import FEWER, LITERALS, TOGETHER, Group, choose
from pipeline.gpu import possible

REFLECT = Boundary("reflect")


def kernel(*shape: int, seed: int = 0) -> Kernel:
    return Kernel.of(np.random.default_rng(seed).uniform(1, 2, shape))


def groups(*nodes: Node, boundary: Boundary = REFLECT) -> tuple[Group, ...]:
    named = [(f"r{i}", node, boundary) for i, node in enumerate(nodes)]
    return choose(compile_bank(named, 2).outputs)


def test_kernels_of_one_input_share_a_group_until_it_is_full() -> None:
    many = [Conv(Input(), kernel(3, 3, seed=i)) for i in range(TOGETHER + 3)]
    first, second = groups(*many)
    assert first.names == tuple(f"r{i}" for i in range(TOGETHER))
    assert len(second.names) == 3
    assert [k.shape for k in first.kernels] == [(3, 3)] * TOGETHER


def test_larger_kernels_have_less_company() -> None:
    """Whose sums would not stay in registers: `test_compiled` looks."""
    large = [Conv(Input(), kernel(7, 7, seed=i)) for i in range(FEWER + 2)]
    assert [len(group.names) for group in groups(*large)] == [FEWER, 2]
    small = [Conv(Input(), kernel(5, 5, seed=i)) for i in range(FEWER + 1)]
    assert [len(group.names) for group in groups(*small, large[0])] == [FEWER + 1, 1]


def test_a_text_has_no_more_taps_than_triton_takes_in_seconds() -> None:
    large = [Conv(Input(), kernel(15, 15, seed=i)) for i in range(6)]
    found = groups(*large)
    assert [len(group.names) for group in found] == [4, 2]
    assert all(sum(k.array.size for k in group.kernels) <= LITERALS for group in found)


def test_what_is_no_convolution_of_an_image_or_too_large_is_left_to_others() -> None:
    conv = Conv(Input(), kernel(3, 3))
    (group,) = groups(Map(conv, "abs"), conv, Conv(Input(), kernel(17, 17)), Map(Input(), "sqrt"))
    assert group.names == ("r1",)
    assert groups(conv, boundary=Boundary("nodata")) == ()


def test_two_convolutions_are_one() -> None:
    """They compose before they are looked at."""
    ((one,),) = (g.kernels for g in groups(Conv(Conv(Input(), kernel(1, 3)), kernel(3, 1))))
    assert one.shape == (3, 3)


def test_the_margin_is_that_of_the_widest_and_only_valid_loses_pixels() -> None:
    nodes = Conv(Input(), kernel(1, 5)), Conv(Input(), kernel(4, 1))
    (group,) = groups(*nodes)
    assert group.margin == ((2, 1), (2, 2))
    assert group.lost == ((0, 0), (0, 0))
    wide, tall = groups(*nodes, boundary=Boundary("valid"))
    assert wide.lost == wide.margin == ((0, 0), (2, 2))
    assert tall.lost == tall.margin == ((2, 1), (0, 0))


def test_only_a_gpu_where_triton_can_build_will_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    look = possible.__wrapped__  # once is enough for a process
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(gpu, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CC", "cc")
    assert look("cuda")
    assert not look("cpu")
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not look("cuda")
    monkeypatch.setenv("CC", "cc")
    (tmp_path / "Python.h").unlink()
    assert not look("cuda")
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert not look("cuda")


def test_choosing_loads_neither_torch_nor_triton() -> None:
    script = "import sys, pipeline.bands; print({'torch', 'triton'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"

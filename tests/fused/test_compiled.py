"""Kernels of a full bank compiled for a GPU that is not there: what they would ask of it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.fused.choose import FEWER, TOGETHER

ERROR = 1e-4
"""Of a column, in standard deviations of the response, or in bits."""
BANKS = (f"{TOGETHER}x3", f"{FEWER}x7", "1x1")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ptxas() -> None:
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        pytest.skip("Triton is not installed")
    if not (Path(found.origin).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this Triton brings no ptxas")


@pytest.fixture(scope="module")
def walks(ptxas: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each walk of full groups is compiled to, and of one tap of 1, by their names."""
    cache = tmp_path_factory.mktemp("triton")
    lines = run("--compile", *BANKS, TRITON_CACHE_DIR=str(cache)).splitlines()
    found: dict[str, dict[str, Any]] = {bank: {} for bank in BANKS}
    for walk in map(json.loads, lines):
        found[walk["bank"]][walk["walk"]] = walk
    return found


def run(*options: str, **environment: str) -> str:
    """What the benchmark says, without the interpreter of the other tests."""
    given = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT), **environment}
    script = [sys.executable, ROOT / "benchmarks" / "gpu.py", *options]
    return subprocess.run(script, env=given, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("bank", BANKS[:2])
def test_full_groups_are_compiled_without_spilling_registers(
    bank: str, walks: dict[str, dict[str, Any]]
) -> None:
    """And most instructions of a row multiply and add, where nothing is looked up for a pixel."""
    full = walks[bank]
    assert len(full) == 5
    assert all(walk["spilled"] == 0 for walk in full.values())
    for name in ("moments, extremes, first bits", "deviations", "within"):
        assert full[name]["multiply-adds"] > full[name]["loop"] / 2


@pytest.mark.parametrize(
    ("bank", "filters", "taps"), [*zip(BANKS, (TOGETHER, FEWER, 1), (9, 49, 1), strict=True)]
)
def test_the_first_tap_multiplies_and_each_other_one_is_a_fused_multiply_add(
    bank: str, filters: int, taps: int, walks: dict[str, dict[str, Any]]
) -> None:
    """In PTX, of each copy of the loop; a tap of 1 is its pixel."""
    assert len(walks[bank]) == 5
    for name, walk in walks[bank].items():
        multiplied, added = (walk["ptx"].get(op, 0) for op in ("mul", "fma"))
        assert added == (taps - 1) * multiplied, name
        assert multiplied % filters == 0, name
        assert (multiplied > 0) == (taps > 1), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_float64_and_with_itself() -> None:
    found = re.search(
        r"^fused: .*largest error (\S+) .*same bits again: (\w+)", run(), re.MULTILINE
    )
    assert found is not None
    assert float(found[1]) < ERROR
    assert found[2] == "True"


def test_without_a_device_only_the_interpreter_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu = importlib.import_module("gpu")
    gpu.measure()
    assert capsys.readouterr().out == "no CUDA device: not measured\n"
    gpu.interpret()
    errors = re.findall(r"largest error \((\S+),", capsys.readouterr().out)
    assert len(errors) == 2
    assert max(map(float, errors)) < ERROR

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

import pytest
import torch

ERROR = 1e-4
"""Of a column, in standard deviations of the response, or in bits."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ptxas() -> None:
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        pytest.skip("Triton is not installed")
    if not (Path(found.origin).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this Triton brings no ptxas")


def run(*options: str, **environment: str) -> str:
    """What the benchmark says, without the interpreter of the other tests."""
    given = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT), **environment}
    script = [sys.executable, ROOT / "benchmarks" / "gpu.py", *options]
    return subprocess.run(script, env=given, capture_output=True, text=True, check=True).stdout


def test_16_kernels_are_compiled_without_spilling_registers(ptxas: None, tmp_path: Path) -> None:
    """And most instructions of a row multiply and add, where nothing is looked up for a pixel."""
    lines = run("--compile", "16x3", TRITON_CACHE_DIR=str(tmp_path)).splitlines()
    walks = {walk["walk"]: walk for walk in map(json.loads, lines)}
    assert len(walks) == 5
    assert all(walk["spilled"] == 0 for walk in walks.values())
    assert all(walk["registers"] < 255 for walk in walks.values())
    for name in ("moments, extremes, first bits", "deviations", "within"):
        assert walks[name]["multiply-adds"] > walks[name]["loop"] / 2


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

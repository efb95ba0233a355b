"""Kernels of a full bank compiled for a GPU that is not there: what they would ask of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ptxas() -> None:
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        pytest.skip("Triton is not installed")
    if not (Path(found.origin).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this Triton brings no ptxas")


def test_16_kernels_are_compiled_without_spilling_registers(ptxas: None, tmp_path: Path) -> None:
    """And most instructions of a row multiply and add, where nothing is looked up for a pixel."""
    environment = {
        **os.environ,
        "TRITON_INTERPRET": "0",
        "TRITON_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    script = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--compile", "16x3"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
    walks = {walk["walk"]: walk for walk in map(json.loads, done.stdout.splitlines())}
    assert len(walks) == 5
    assert all(walk["spilled"] == 0 for walk in walks.values())
    assert all(walk["registers"] < 255 for walk in walks.values())
    for name in ("moments, extremes, first bits", "deviations", "within"):
        assert walks[name]["multiply-adds"] > walks[name]["loop"] / 2

"""The benchmarks run, and what they measure is right; how long it took is not looked at."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command import filterbank
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ERROR = 1e-3
"""Of a statistic, in standard deviations: float32 puts a pixel of 64 x 64 into the next bin."""
SIDE = 64


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts find each other beside them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def load(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_all_tools_do_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, peers = load("job"), load("peers")
    some = dict(list(job.bank().items())[::4])  # of every kind
    monkeypatch.setattr(peers, "bank", lambda: some)
    folder = peers.make(tmp_path / "in", 1, SIDE)
    right = job.wanted(job.picture(0, SIDE), some)
    for tool in peers.TOOLS:
        (tmp_path / tool).mkdir()
        peers.play(tool, folder, tmp_path / tool, "B")
    words = peers.command("filterbank", folder, tmp_path / "filterbank", "B")
    assert filterbank(*words[words.index("run") :]).code == 0
    for tool in (*peers.TOOLS, "filterbank"):
        error, where = job.deviation(tmp_path / tool, "0000.png", right)
        assert error <= ERROR, (tool, where)
        drawn = [path for path in (tmp_path / tool).rglob("*.png") if path.is_file()]
        assert len(drawn) == len(right), tool
    wrong = job.wanted(job.picture(1, SIDE), some)
    assert job.deviation(tmp_path / "filterbank", "0000.png", wrong)[0] > 1e-2


def test_statistics_of_copies_are_those_of_the_large_picture() -> None:
    curves, job = load("curves"), load("job")
    kernels = {name: job.bank()[name] for name in ("gabor_4_45", "log_2")}
    block = curves.block(3, SIDE)
    by_copies = job.wanted(block, kernels, "reflect", copies=9)
    at_once = job.wanted(np.tile(block, (3, 3)), kernels, "reflect")
    for name, values in at_once.items():
        assert by_copies[name] == pytest.approx(values, rel=1e-9, abs=1e-9)


def test_curves_measure_what_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves, chart = load("curves"), load("chart")
    found = curves.measure(curves.curves(quick=True), 1, tmp_path, 0)
    for name, curve in found.items():
        for line, points in curve["lines"].items():
            assert len(points["errors"]) == len(points["costs"]) > 0
            assert max(points["errors"]) <= ERROR, (name, line)
    curves.report(found, quick=True)  # of jobs whose costs say nothing
    said = capsys.readouterr().out
    assert "worst statistic" in said
    assert "ms" not in said
    chart.draw(curves.panels(found), tmp_path / "curves.png")
    chart.draw_bars("ratios", {"a": 0.1, "b": 1.0}, tmp_path / "bars.png")
    for name in ("curves.png", "bars.png"):
        with Image.open(tmp_path / name) as drawn:
            assert drawn.format == "PNG"


def test_filters_of_volumes_are_right(tmp_path: Path) -> None:
    volume = load("volume")
    pixels = volume.make(tmp_path / "in", SIDE // 4)
    for number, job in enumerate(volume.JOBS.values()):
        out = tmp_path / f"out{number}"
        words = volume.by_filterbank(job, tmp_path / "in", out)
        assert filterbank(*words[words.index("run") :]).code == 0
        assert volume.apart(volume.answer(out), job.right(pixels)) <= 1e-5
        assert volume.apart(volume.answer(out), job.right(pixels[::-1])) > 1e-3


def test_the_compilers_plans_are_right(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = load("bank")
    some = ("3x3 edges", "Laws", "steerable")
    monkeypatch.setattr(bank, "BANKS", {name: bank.BANKS[name] for name in some})
    bank.compare(4 * SIDE, 1)
    errors = [
        float(error)
        for error in re.findall(r" {3}(\S+e[-+]\d+)$", capsys.readouterr().out, re.MULTILINE)
    ]
    assert len(errors) == len(some)
    assert max(errors) <= 1e-5


def test_decoders_are_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a CPU both are libjpeg-turbo, and make the same of a file."""
    monkeypatch.setattr("sys.argv", ["jpeg.py", "--interpret", "--images", "2", "--side", "64"])
    load("jpeg").main()
    assert "at most 0 gray levels apart" in capsys.readouterr().out

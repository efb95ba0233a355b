"""IBSI 2 phase 2 through the whole pipeline: statistics inside a mask."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml
from command import Said, filterbank

pytest.importorskip("nibabel")

CONFIGS = Path(__file__).resolve().parents[1] / "configs" / "ibsi" / "phase_2"
SOME = ("3.A", "1.B")
"""All 18 take most of a minute; FILTERBANK_SLOW=1 runs them."""


@pytest.fixture(scope="session")
def kit(shared: Path) -> Path:
    return shared / "ibsi"


def conformance(kit: Path, configs: Path, *only: str, more: tuple[object, ...] = ()) -> Said:
    globs = [word for name in only for word in ("--only", name)]
    where = ("--kit", kit, "--configs", configs, "--device", "cpu")
    return filterbank("conformance", "--phase", "2", *where, *globs, *more)


def test_statistics_are_those_of_the_ibsi(kit: Path) -> None:
    """323 of 323."""
    only = () if os.environ.get("FILTERBANK_SLOW") == "1" else SOME
    said = conformance(kit, CONFIGS, *only)
    assert said.code == 0, said.out
    tests = json.loads((kit / "phase2.json").read_text())["tests"]
    known = [
        value
        for test in tests
        if not only or test["id"] in only
        for value in test["reference"].values()
        if value["value"] is not None
    ]
    assert len(known) == (36 if only else 323)
    assert f"{len(known)} of {len(known)} pass" in said.out
    assert said.out.count(" pass\n") == len(known)
    assert " s of CPU time" in said.out


def test_the_configs_name_every_test_once(kit: Path) -> None:
    found = [
        next(iter(entry.values()))["name"]
        for path in sorted(CONFIGS.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text())["filters"]
    ]
    tests = json.loads((kit / "phase2.json").read_text())["tests"]
    assert sorted(found) == sorted(test["id"] for test in tests)


def test_a_value_that_differs_fails(kit: Path, tmp_path: Path) -> None:
    """Without re-segmentation the greatest value is beyond 400 HU."""
    config = yaml.safe_load((CONFIGS / "a.yaml").read_text())
    config |= {"prepare": [], "statistics": ["max", "p50"]}
    config["filters"] = [{"identity": {"name": "1.A"}}]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    said = conformance(kit, tmp_path, "1.A")
    lines = {line.split()[1]: line for line in said.out.splitlines() if line.startswith("1.A")}
    assert said.code == 9
    assert lines["p50"].endswith("pass")
    assert lines["max"].endswith("FAIL")
    assert "the config leaves it out" in lines["cov"]


def test_it_says_what_is_missing(kit: Path, tmp_path: Path) -> None:
    said = conformance(tmp_path, CONFIGS)
    assert (said.code, "holds no kit of IBSI 2 phase 2" in said.err) == (4, True)
    said = conformance(kit, CONFIGS, more=("--out", tmp_path))
    assert (said.code, "phase 2 has none" in said.err) == (2, True)

"""The banks that ship: each loads, is listed in the docs, and holds what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.config.schema import Config, NamedFilter
from pipeline.filters.laws import Laws

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
BANKS = sorted((CONFIGS / "banks").glob("*.yaml"))


def bank(path: Path, tmp_path: Path) -> Config:
    """A config that holds one bank."""
    text = "version: 1\ninput: {path: .}\noutput: {path: out}\nfilters: [bank: '%s']\n"
    config = tmp_path / "config.yaml"
    config.write_text(text % path)
    return load(config)


def computed(named: NamedFilter) -> tuple[object, ...]:
    """All of a filter but its name."""
    return named.filter, named.bands, named.unit, named.boundary, named.rank


@pytest.mark.parametrize("path", BANKS, ids=lambda path: path.stem)
def test_each_bank_loads_and_is_in_the_docs(path: Path, tmp_path: Path) -> None:
    assert bank(path, tmp_path).filters
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert f"`{path.name}`" in pages


@pytest.mark.parametrize("half", ["a", "b"])
def test_the_ibsis_banks_are_the_filters_that_conform(half: str, tmp_path: Path) -> None:
    shared = bank(CONFIGS / "banks" / f"ibsi2_{half}.yaml", tmp_path).filters
    conforming = load(CONFIGS / "ibsi" / "phase_2" / f"{half}.yaml").filters
    assert list(map(computed, shared)) == list(map(computed, conforming))


def test_laws_nine_measures_are_all_pairs_but_the_level(tmp_path: Path) -> None:
    filters = [named.filter for named in bank(CONFIGS / "banks" / "laws.yaml", tmp_path).filters]
    names = [one.kernels for one in filters if isinstance(one, Laws)]
    pairs = {frozenset((name[:2], name[2:])) for name in names}
    every = {frozenset((a, b)) for a in ("L5", "E5", "S5", "R5") for b in ("L5", "E5", "S5", "R5")}
    assert len(names) == len(filters) == len(pairs) == 9
    assert pairs == every - {frozenset(["L5"])}


def test_a_config_says_with_a_bank_what_it_says_written_out(tmp_path: Path) -> None:
    """Names, sweeps and places; so the digest, which is made of these, is the same too."""
    text = (CONFIGS / "textures.yaml").read_text()
    head, _, _ = text.partition("filters:\n")
    used = [path for path in BANKS if f"bank: banks/{path.name}" in text]
    assert len(used) == 3
    order = sorted(used, key=lambda path: text.index(path.name))
    lines = [path.read_text().partition("filters:\n")[2] for path in order]
    config = tmp_path / "written.yaml"
    config.write_text(f"{head}filters:\n{''.join(lines)}output: {{path: out}}\n")
    assert load(config).filters == load(CONFIGS / "textures.yaml").filters

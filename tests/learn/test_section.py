"""The section `learn` of a config."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command import filterbank
from learned import written

from pipeline.config import load
from pipeline.plan import Plan

BAD: dict[str, tuple[str, list[str]]] = {
    "unknown word": (
        "{patches: pac, size: 1, cuont: 4, file: b.safetensors}",
        [
            "3:18: learn.patches: must be 'pca', 'zca' or 'kmeans' (got 'pac'); did you mean '",
            "3:29: learn.size: must be at least 2 (got 1)",
            "3:32: learn.cuont: unknown key; did you mean 'count'?",
        ],
    ),
    "nothing": ("", ["is missing; add 'patches: ...'", "is missing; add 'size: ...'"]),
    "kmeans without count": (
        "{patches: kmeans, size: 8, file: b.safetensors}",
        ["3:8: learn: kmeans needs a count; write count: 64"],
    ),
    "pickle": (
        "{patches: pca, size: 8, file: b.pt}",
        ["learn.file: must end in .safetensors (got 'b.pt'); write file: bank.safetensors"],
    ),
    "infinite": (
        "{patches: zca, size: 8, file: b.safetensors, epsilon: .inf, samples: many}",
        ["learn.epsilon: must be", "learn.samples: must be a whole number (got 'many')"],
    ),
}


@pytest.mark.parametrize("command", ["learn", "check"])
@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_all_told_with_their_places(name: str, command: str, tmp_path: Path) -> None:
    section, texts = BAD[name]
    config = tmp_path / "c.yaml"
    config.write_text(
        f"version: 1\ninput: {{path: {tmp_path}, bnads: all}}\nlearn: {section}\n"
        "filters: [sobel]\noutput: {path: out}\n"
    )
    said = filterbank(command, config)
    assert said.code == 2
    for text in (*texts, "2:", "input.bnads: unknown key; did you mean 'bands'?"):
        assert text in said.err
    assert said.err.count("c.yaml:") == len(texts) + 1 + (name == "nothing")


def test_learning_needs_its_section(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("version: 1\ninput: {path: in}\nlerne: {}\n")
    said = filterbank("learn", config)
    assert said.code == 2
    assert "learn: is missing; add 'learn: {patches: pca, size: 9, file: bank.saf" in said.err
    assert "lerne: unknown key; did you mean 'learn'?" in said.err


def test_the_section_changes_nothing_of_a_run(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder, filters=["sobel"])
    plain = yaml.safe_load(config.read_text())
    del plain["learn"]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
    one, other = (Plan(load(tmp_path / n), "cpu") for n in ("c.yaml", "plain.yaml"))
    assert one.digest == other.digest
    assert one.expanded == other.expanded


def test_a_run_waits_for_the_bank_it_names(folder: Path, tmp_path: Path) -> None:
    config = written(tmp_path, folder)
    said = filterbank("check", config)
    assert said.code == 2
    assert "there is no file" in said.err
    assert filterbank("learn", config).code == 0
    assert filterbank("check", config).out.splitlines() == [f"own[{i}]" for i in range(1, 5)]

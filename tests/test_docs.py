"""The documentation is true: its examples run, its words exist, its reference is up to date."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from PIL import Image
from running import run_bank

from pipeline.boundary import MODES
from pipeline.cli import EXIT_CODES, cli, main
from pipeline.config import load
from pipeline.config.load import KEYS
from pipeline.filters.base import FILTERS
from pipeline.statistics import COLUMNS, GROUPS
from pipeline.steps.base import STEPS
from pipeline.writers import parquet

ROOT = Path(__file__).resolve().parents[1]
GUIDE = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDE, *sorted((ROOT / "docs" / "reference").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"[|&;<>$`\"'*]")
LOOSELY = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
BASE = {
    "version": "version: 1",
    "input": "input: {path: data}",
    "filters": "filters: [identity]",
    "output": "output: {path: out}",
}


@dataclass(frozen=True)
class Block:
    """A fenced example."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in FENCE.findall(page.read_text())]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


guide = pytest.mark.parametrize("page", GUIDE, ids=name_of)


@pytest.fixture(scope="session")
def generate() -> ModuleType:
    """docs/generate.py, which is a script."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fresh(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory like a clone after `make`, with what the examples need."""
    shutil.copytree(samples, tmp_path / "data" / "samples")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / ".venv").mkdir()
    programs = Path(sys.executable).parent
    (tmp_path / ".venv" / "bin").symlink_to(programs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FILTERBANK_RUN_WORKERS", "0")  # a reader process costs a torch import
    monkeypatch.setenv("FILTERBANK_LEARN_WORKERS", "0")
    return tmp_path


Shell = Callable[[str], str]


@pytest.fixture
def shell(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    """Run commands: those of filterbank alone in this process, all others in bash.

    A command may fail only where the next one asks for `$?`.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    code = 0

    def run(command: str) -> str:
        nonlocal code
        assert code == 0 or "$?" in command, f"exit code {code} before {command!r}"
        words = shlex.split(command)
        capsys.readouterr()
        if Path(words[0]).name == "filterbank" and not SHELL.search(command):
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as stop:
                main()
            code = int(stop.value.code or 0)
            return "".join(capsys.readouterr())
        done = subprocess.run(
            ["bash", "-c", f"(exit {code})\n{command}"], capture_output=True, text=True
        )
        code = done.returncode
        return done.stdout + done.stderr

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert code == 0


# ---------------------------------------------------------------- examples
@guide
def test_examples_do_what_the_page_says(
    page: Path, fresh: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    # an example registers one, which whoever follows it has registered too
    known = {name: cls for name, cls in FILTERS._items.items() if name != "local_contrast"}
    monkeypatch.setattr(FILTERS, "_items", known)
    module = ModuleType(f"{page.stem}_examples")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page):
        if block.language == "console":
            check_session(block.text, shell)
        elif block.language == "sh":
            shell(block.text)
        elif block.language == "python":
            exec(compile(block.text, f"{page.name}", "exec", dont_inherit=True), vars(module))
        elif block.language == "yaml":
            check_yaml(block.text, fresh)
        else:
            assert block.language == "text", f"{page.name}: nobody checks {block.language}"
    for name, function in list(vars(module).items()):
        if name.startswith("test_"):
            function()
    assert doctest.testmod(module).failed == 0


def check_session(text: str, shell: Shell) -> None:
    """Run each line after `$ `, and compare what it prints with the lines below it."""
    assert text.startswith("$ ")
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, wanted = part.partition("\n")
        found = shell(command)
        if not doctest.OutputChecker().check_output(wanted, found, LOOSELY):
            pytest.fail(f"{command}\nprints:\n{found}\nthe page says:\n{wanted}")


def check_yaml(text: str, folder: Path) -> None:
    """Load a config, or a part of one with the rest around it; keep one that has a file name."""
    value = yaml.safe_load(text)
    if "jobs" in value:
        return  # a workflow: its commands are checked with all others
    title = re.match(r"# (\S+\.yaml)\n", text)
    if title:
        (folder / title[1]).write_text(text)
    if isinstance(value, list):
        text, value = f"filters:\n{text}", {"filters": value}
    rest = "\n".join(line for key, line in BASE.items() if key not in value)
    example = folder / "example.yaml"
    example.write_text(f"{text}\n{rest}\n")
    assert load(example).filters


# ---------------------------------------------------------------- words
def code_of(page: Path) -> list[str]:
    """Every line of every example, and every word set as code."""
    text = page.read_text()
    inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [line for block in blocks(page) for line in block.text.splitlines()] + inline


@guide
def test_commands_flags_and_targets_in_code_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in code_of(page):
        for target in re.findall(r"\bmake ([a-z]+)", line):
            assert target in targets, line
        for name, rest in re.findall(r"\bfilterbank ([a-z]+)(.*)", line):
            assert name in cli.commands, line
            assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= flags(name), line
        if line.startswith("--"):
            assert line.split()[0] in set().union(*map(flags, cli.commands)), line


def flags(command: str) -> set[str]:
    return {flag for parameter in cli.commands[command].params for flag in parameter.opts}


def test_flags_are_looked_at() -> None:
    assert {"--fail-on", "--input", "--prune-limit"} <= flags("run")
    assert any("--fail-on" in line for line in code_of(ROOT / "README.md"))


def test_the_guide_names_everything_there_is() -> None:
    text = "\n".join(line for page in GUIDE for line in code_of(page))
    words = {*re.findall(r"\w+", text), *re.findall(r"\w+:\w+", text)}
    assert {f"filterbank {name}" for name in cli.commands} <= set(
        re.findall(r"filterbank \w+", text)
    )
    assert {*KEYS, *FILTERS, *STEPS, *MODES, *COLUMNS, *GROUPS} <= words
    tables = (parquet.IMAGES, parquet.REGIONS, parquet.FILTERS, parquet.maps_schema("float32"))
    assert {name for table in tables for name in table.names} <= words


def test_the_guide_says_what_to_do_about_each_exit_code() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text()
    rows = re.findall(r"^\| ([0-9, ]+) \|", text, re.MULTILINE)
    codes = [int(code) for row in rows for code in row.split(",")]
    assert sorted(codes) == sorted(EXIT_CODES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", FENCE.sub("", page.read_text())):
        path, _, anchor = target.partition("#")
        found = page if not path else page.parent / path
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / t).resolve() for t in re.findall(r"\]\(([^)]+)\)", index.read_text())}
    assert listed | {index} == set(PAGES)


# ---------------------------------------------------------------- generated
def test_the_reference_is_up_to_date(generate: ModuleType) -> None:
    wanted = generate.pages()
    old = [name for name, text in wanted.items() if (ROOT / name).read_text() != text]
    assert not old, "run make docs"
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in GUIDE} < set(wanted)


def test_each_config_names_the_schema_for_editors() -> None:
    schema = json.loads((ROOT / "configs" / "schema.json").read_text())
    assert set(schema["properties"]) == set(KEYS)
    for config in (ROOT / "configs").glob("*.yaml"):
        first = config.read_text().splitlines()[0]
        assert first == "# yaml-language-server: $schema=schema.json", config.name


def test_the_picture_is_what_the_readmes_config_draws(
    generate: ModuleType, fresh: Path, tmp_path: Path
) -> None:
    (tmp_path / "my.yaml").write_text(generate.readme_config())
    output = run_bank(tmp_path / "my.yaml", tmp_path / "out", fresh / generate.PICTURED)
    drawn = (output.root / "png" / Path(generate.PICTURED).name / "sheet.png").read_bytes()
    shown = (ROOT / "docs" / "images" / "sheet.png").read_bytes()
    with Image.open(BytesIO(drawn)) as new, Image.open(BytesIO(shown)) as old:
        assert new.size == old.size
        difference = np.abs(np.subtract(new, old, dtype=np.float64))
    assert difference.mean() < 0.1


def test_the_catalogue_shows_every_filter_family(generate: ModuleType) -> None:
    assert {named.family for named in load(generate.CATALOGUE).filters} == set(FILTERS)
    drawn = generate.kernel_pictures()
    shown = {name_of(path) for path in (ROOT / "docs" / "images" / "filters").iterdir()}
    assert shown == drawn.keys()
    for name, data in drawn.items():
        with Image.open(BytesIO(data)) as new, Image.open(ROOT / name) as old:
            assert new.size == old.size, name
            assert np.abs(np.subtract(new, old, dtype=np.float64)).mean() < 0.1, name


def test_pictures_are_small() -> None:
    pictures = [p for p in (ROOT / "docs" / "images").rglob("*") if p.is_file()]
    assert {path.suffix for path in pictures} == {".png"}
    assert max(path.stat().st_size for path in pictures) < 300_000

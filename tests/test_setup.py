"""What a fresh machine meets: the Makefile, the pins, the hooks, the CI script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TARGETS = ("run", "plan", "test", "faults", "check", "format", "bench", "docs", "help", "clean")
NOT_PINNED = re.compile(r"(?!nvidia-nvimgcodec)(nvidia|cuda)-.*")
"""torch pins these itself, and only where there is such a device."""
MAKE = shutil.which("make")


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    if MAKE is None:
        pytest.skip("make is not installed")
    # `make test ARGS=...` hands its variables down to the tests: start without them.
    inherited = re.compile(r"M(AKE.*|FLAGS)|ARGS|CONFIG|PYTHON")
    plain = {key: value for key, value in os.environ.items() if not inherited.fullmatch(key)}
    return subprocess.run([MAKE, *arguments], cwd=folder, env=plain, capture_output=True, text=True)


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A folder with the Makefile and what its rules look at, without a .venv."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "make_samples.py").write_text("print('samples')\n")
    (tmp_path / "data" / "samples").mkdir()
    return tmp_path


@pytest.fixture
def ready(fresh: Path) -> Path:
    """A folder where every step of the set-up has succeeded, with programs that say their name."""
    programs = fresh / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "filterbank", "pytest"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n')
        (programs / name).chmod(0o755)
    for stamp in (".venv/.created", ".venv/.installed-run", ".venv/.installed-dev"):
        (fresh / stamp).touch()
    (fresh / "data" / "samples" / ".made").touch()
    return fresh


def interpreter(folder: Path, script: str | None) -> str:
    """A shell script that stands in for a Python; None: there is no such program."""
    path = folder / "some_python"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return f"PYTHON={path}"


ELSEWHERE = {"gcs"}
"""Extras that nothing here installs."""


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return dict(pairs)


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    found = [text for name, texts in extras if name not in ELSEWHERE for text in texts]
    return [Requirement(text) for text in project["dependencies"] + found]


def test_help_lists_every_target(fresh: Path) -> None:
    lines = make(fresh).stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(TARGETS)


def test_a_ready_folder_installs_nothing(ready: Path) -> None:
    assert make(ready, "test", "run").stdout.splitlines() == [
        "pytest -n auto --maxprocesses 4 --dist worksteal",
        "filterbank run edges.yaml",
    ]


@pytest.mark.parametrize("edited", ["pyproject.toml", "constraints.txt"])
def test_new_requirements_are_installed_once(ready: Path, edited: str) -> None:
    now = (ready / ".venv" / ".installed-run").stat().st_mtime
    os.utime(ready / edited, (now - 50, now - 50))
    for stamp in (".installed-run", ".installed-dev"):
        os.utime(ready / ".venv" / stamp, (now - 100, now - 100))
    first, second = make(ready, "test", "run").stdout, make(ready, "test", "run").stdout
    installed = [line for line in first.splitlines() if line.startswith("python -m pip")]
    assert len(installed) == 1
    assert "-e .[geo,medical,dev] -c constraints.txt" in installed[0]
    assert "pip" not in second


def test_a_failed_installation_is_tried_again(ready: Path) -> None:
    (ready / ".venv" / ".installed-run").unlink()
    (ready / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    assert make(ready, "run").returncode == 2
    assert not (ready / ".venv" / ".installed-run").exists()


def test_edited_samples_are_made_again(ready: Path) -> None:
    later = (ready / "data" / "samples" / ".made").stat().st_mtime + 1
    os.utime(ready / "data" / "make_samples.py", (later, later))
    assert make(ready, "run").stdout.splitlines()[0] == "python data/make_samples.py"


def test_a_config_is_found_in_configs_and_as_a_path(ready: Path) -> None:
    (ready / "configs").mkdir()
    for name in ("configs/edges.yaml", "my study.yaml"):
        (ready / name).touch()
    found = {
        config: make(ready, "run", f"CONFIG={config}", "ARGS=--limit 2").stdout.strip()
        for config in ("edges.yaml", "configs/edges.yaml", "my study.yaml", "none.yaml")
    }
    assert found == {
        "edges.yaml": "filterbank run configs/edges.yaml --limit 2",
        "configs/edges.yaml": "filterbank run configs/edges.yaml --limit 2",
        "my study.yaml": "filterbank run my study.yaml --limit 2",
        "none.yaml": "filterbank run none.yaml --limit 2",
    }


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('[ "$1" = -V ] && echo Python 3.9.2 || echo False', r'3\.11 or newer.*"Python 3\.9\.2"'),
        (None, r"3\.11 or newer.*not found"),
        ('case "$2" in *ensurepip*) exit 1;; *) echo True;; esac', "has no venv module"),
    ],
    ids=["old", "missing", "without venv"],
)
def test_what_the_machine_lacks_is_said_in_one_line(
    fresh: Path, script: str | None, message: str
) -> None:
    result = make(fresh, "run", interpreter(fresh, script))
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert re.search(message + r".*PYTHON=python3\.12", result.stderr)
    assert not (fresh / ".venv").exists()


def test_pins_satisfy_the_ranges() -> None:
    for requirement in requirements():
        version = pins()[canonicalize_name(requirement.name)]
        assert Version(version) in requirement.specifier, requirement


def test_everything_that_gets_installed_is_pinned() -> None:
    waiting, seen = [r.name for r in requirements()], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in seen and not NOT_PINNED.fullmatch(name):
            seen.add(name)
            needs = (Requirement(text) for text in metadata.requires(name) or ())
            waiting += [r.name for r in needs if not r.marker or r.marker.evaluate({"extra": ""})]
    assert seen == set(pins())


def test_the_hook_and_ci_run_what_the_makefile_runs() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repo["hooks"]] == ["make check"]
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-2:] == ["make check", "make test"]


def test_the_set_up_compiles_every_loop() -> None:
    """Else the first run does, and each of its processes waits for it."""
    (line,) = re.findall(
        r"^COMPILE := .*import (.*)\"$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    with_signature = re.compile(r"compiled\(\s*_\w+,")
    wanted = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "pipeline").rglob("*.py")
        if with_signature.search(path.read_text())
    }
    code = f"import sys, {line}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert len(wanted) > 5
    assert wanted <= {*found.stdout.split()}, found.stderr

"""The files of deploy/ name commands, flags, files and exit codes that there are."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import EXIT_CODES, cli

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMMAND = re.compile(r"(?:/opt/filterbank/bin/|run: )filterbank (.*?)(?: 2>&1.*)?$", re.MULTILINE)


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / name).read_text())
    return found


def container() -> dict[str, Any]:
    job = loaded("kubernetes-cronjob.yaml")["spec"]["jobTemplate"]["spec"]
    (found,) = job["template"]["spec"]["containers"]
    return {**found, "policy": job["podFailurePolicy"], "pod": job["template"]["spec"]}


def commands() -> dict[str, list[list[str]]]:
    """The arguments of every call of filterbank, by file."""
    found = {
        path.name: [shlex.split(words) for words in COMMAND.findall(path.read_text())]
        for path in DEPLOY.iterdir()
    }
    found["kubernetes-cronjob.yaml"].append(container()["args"])
    return {name: lines for name, lines in found.items() if lines}


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(path)
    return parser


def test_every_command_line_is_one_that_filterbank_takes() -> None:
    found = commands()
    assert set(found) == {
        "filterbank@.service", "filterbank.cron", "github-workflow.yaml", "kubernetes-cronjob.yaml",
    }  # fmt: skip
    for lines in found.values():
        for name, *arguments in lines:
            with cli.commands[name].make_context(name, arguments) as context:
                assert context.params["fail_on"] == "new"


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    service = unit(DEPLOY / "filterbank@.service")
    assert service["Service"]["Type"] == "oneshot"
    assert {"Unit", "Timer", "Install"} <= set(unit(DEPLOY / "filterbank@.timer"))
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    for path in DEPLOY.glob("filterbank@.*"):
        text = path.read_text().replace("/opt/filterbank/bin/filterbank", "/bin/true")
        (tmp_path / path.name).write_text(text)
    paths = sorted(map(str, tmp_path.iterdir()))
    said = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_the_cron_line_has_a_time_a_user_and_one_command() -> None:
    (line,) = (
        text for text in (DEPLOY / "filterbank.cron").read_text().splitlines() if text[:1].isdigit()
    )
    assert re.match(r"([\d*/,-]+ ){5}filterbank  cd \S+ && ", line)
    assert "%" not in line, "cron makes it a new line"
    shell = line.split(maxsplit=6)[-1]
    assert subprocess.run(["sh", "-n", "-c", shell], check=False).returncode == 0


def test_a_job_is_tried_again_only_where_that_may_help() -> None:
    """Not what `docs/reliability.md` asks somebody to mend, nor images that have failed.

    Nor after rows were lost (9): that is said once, and another try that answers 0 would hide it.
    """
    (rule,) = container()["policy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container()["name"]
    codes = set(rule["onExitCodes"]["values"])
    assert codes == {1, 2, 3, 4, 5, 6, 8, 9}
    assert set(EXIT_CODES) - codes == {0, 7, 10, 75, 130, 143}


def test_what_a_job_mounts_it_has() -> None:
    found = container()
    mounted = {mount["name"] for mount in found["volumeMounts"]}
    assert mounted == {volume["name"] for volume in found["pod"]["volumes"]}
    assert found["pod"]["securityContext"]["runAsNonRoot"]


def test_the_workflow_can_be_started_and_keeps_results() -> None:
    workflow = loaded("github-workflow.yaml")
    assert set(workflow[True]) == {"schedule", "workflow_dispatch"}, "YAML 1.1 reads `on` so"
    steps = workflow["jobs"]["run"]["steps"]
    assert all(("uses" in step) != ("run" in step) for step in steps)
    cached, kept, uploaded = (
        [step for step in steps if step.get("uses", "").startswith(f"actions/{name}@")]
        for name in ("cache/restore", "cache/save", "upload-artifact")
    )
    assert [step["if"] for step in (*kept, *uploaded)] == ["always()"] * 2, "also after code 5"
    assert cached[0]["with"]["path"] == kept[0]["with"]["path"] == uploaded[0]["with"]["path"]
    assert kept[0]["with"]["key"].startswith(cached[0]["with"]["restore-keys"])


def test_the_image_is_made_of_files_that_there_are() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = re.search(r'^ARG EXTRAS="(.*)"', text, re.MULTILINE)
    assert asked
    assert set(asked[1].split(",")) <= set(project["optional-dependencies"])
    (script,) = re.findall(r"sed -n '(.*)' /src/Makefile", text)
    said = subprocess.run(
        ["sed", "-n", script, ROOT / "Makefile"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith('/opt/filterbank/bin/python -c "import pipeline.')
    assert said.stdout.count("\n") == 1, "what `make` compiles"
    assert "-c /src/constraints.txt" in text
    user = re.findall(r"^USER (.*)", text, re.MULTILINE)
    assert user == ["10001:10001"]
    assert text.rindex("USER") < text.index("ENTRYPOINT")

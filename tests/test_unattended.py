"""What a run leaves for people and monitors who were not there: run.json, log.jsonl, gauges."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
from command import draw, filterbank, write_config
from prometheus_client.parser import text_string_to_metric_families

from pipeline import cli, logfile
from pipeline.cli.progress import shown
from pipeline.journal import Summary
from pipeline.logfile import Log
from pipeline.metrics import write_metrics
from pipeline.storage import place
from pipeline.watch import Timesheet


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(3):
        draw(tmp_path / "in" / f"{i}.png", i)
    return tmp_path / "in"


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Path:
    return write_config(tmp_path / "c.yaml", images, tmp_path / "out")


def record(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "run.json").read_bytes())
    return found


def events(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]


def gauges(path: Path) -> dict[tuple[str, str], float]:
    """(name, state or kind) -> value, as Prometheus reads them."""
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            which = sample.labels.get("state") or sample.labels.get("kind") or ""
            found[sample.name.removeprefix("filterbank_run_"), which] = sample.value
    return found


# ---------------------------------------------------------------- run.json
def refused(folder: Path) -> dict[str, tuple[list[object], int]]:
    """Flags that make the second run end before its first pixel, and its exit code."""
    (folder / "empty").mkdir(exist_ok=True)
    return {
        "another plan": ([], 3),
        "a missing root": (["--input", folder / "gone"], 4),
        "an empty root": (["--input", folder / "empty"], 4),
        "the prune guard": (["--input", folder / "empty", "--prune"], 3),
    }


@pytest.mark.parametrize(
    "why", ["another plan", "a missing root", "an empty root", "the prune guard"]
)
def test_a_run_that_is_refused_leaves_its_reason_in_run_json(
    why: str, config: Path, images: Path, tmp_path: Path
) -> None:
    assert filterbank("run", config).code == 0
    flags, code = refused(tmp_path)[why]
    if why == "another plan":
        config = write_config(tmp_path / "d.yaml", images, tmp_path / "out", filters=["scharr"])
    said = filterbank("run", config, *flags)
    assert said.code == code, said
    found = record(tmp_path / "out")
    assert (found["state"], found["exit_code"]) == ("stopped", code)
    assert found["error"]
    assert found["error"] in said.err
    assert events(tmp_path / "out")[-1]["error"] == found["error"]
    status = json.loads(filterbank("status", tmp_path / "out", "--json").out)
    assert (status["images"], status["last_exit_code"]) == (3, code)


BAD = b"\x89PNG\r\n\x1a\n"


def test_a_failure_that_a_stopped_run_committed_is_new_to_the_next(
    config: Path, images: Path, tmp_path: Path
) -> None:
    """Whether that run could still put down that it was stopped, or not."""
    new, count = ("--fail-on", "new"), ("--max-failed", "0")
    (images / "bad.png").write_bytes(BAD)
    assert filterbank("run", config, *new, *count).code == 6
    assert record(tmp_path / "out")["unsaid"]["failed"] == ["bad.png"]
    assert filterbank("run", config, "--input", tmp_path / "gone", *new).code == 4
    assert filterbank("run", config, *new).code == 5
    assert filterbank("run", config, *new).code == 0
    (images / "worse.png").write_bytes(BAD)
    killed = record(tmp_path / "out") | {"state": "running"}
    assert filterbank("run", config, *new).code == 5
    (tmp_path / "out" / "run.json").write_text(json.dumps(killed))
    assert filterbank("run", config, *new).code == 5
    assert filterbank("run", config, *new).code == 0


def test_a_failure_that_is_mended_before_anybody_told_of_it_is_none(
    config: Path, images: Path
) -> None:
    new = ("--fail-on", "new")
    (images / "bad.png").write_bytes(BAD)
    assert filterbank("run", config, *new, "--max-failed", "0").code == 6
    (images / "bad.png").write_bytes((images / "0.png").read_bytes())
    assert filterbank("run", config, *new).code == 0


def test_what_was_lost_is_said_until_a_run_ends_with_it(config: Path, tmp_path: Path) -> None:
    assert filterbank("run", config).code == 0
    stopped = record(tmp_path / "out") | {"unsaid": {"failed": [], "lost": ["a.png is lost"]}}
    (tmp_path / "out" / "run.json").write_text(json.dumps(stopped))
    assert filterbank("run", config, "--input", tmp_path / "gone").code == 4
    said = filterbank("run", config)
    assert (said.code, "a.png is lost" in said.err) == (9, True)
    assert filterbank("run", config).code == 0


def test_what_kept_a_run_busy_is_in_run_json(config: Path, tmp_path: Path) -> None:
    assert filterbank("run", config).code == 0
    effort = record(tmp_path / "out")["effort"]
    assert set(effort["busy"]) == {"read", "filter", "measure", "render", "write"}
    assert all(0 <= share <= 1.1 for share in effort["busy"].values())
    assert effort["bottleneck"] in effort["busy"]
    assert list(effort["peak_memory"]) == ["compute"]  # which reads, too, without workers
    assert effort["peak_memory"]["compute"] > 50 << 20
    assert filterbank("run", config).code == 0
    assert record(tmp_path / "out")["effort"] == {
        "busy": {},
        "bottleneck": None,
        "peak_memory": {},
    }


def test_the_bottleneck_is_what_was_busy_longest_for_each_of_its_processes() -> None:
    sheet = Timesheet({"read": 4, "filter": 2, "measure": 2, "write": 1})
    sheet.add({"read": 8.0})
    sheet.add({"filter": 1.0, "measure": 2.0})
    sheet.add({"filter": 0.5, "write": 1.0})
    effort = sheet.close()
    assert effort.busy == {"read": 2.0, "filter": 0.75, "measure": 1.0, "write": 1.0}
    assert effort.bottleneck == "read"  # 2 s; computing 1.75 s, all in all
    sheet.add({"measure": 1.0})
    effort.add(sheet.close())
    assert effort.bottleneck == "measure"
    assert sheet.close().busy == {}


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="there is a GPU, so asking for one is fine"
)
def test_a_device_that_is_not_there_is_in_run_json(config: Path, tmp_path: Path) -> None:
    assert filterbank("run", config, "--device", "cuda").code == 10
    assert record(tmp_path / "out")["exit_code"] == 10


def test_a_defect_in_planning_is_1_with_its_traceback_in_the_log(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("this cannot happen")

    monkeypatch.setattr("pipeline.survey.list_members", fail)
    with pytest.raises(ZeroDivisionError):
        filterbank("run", config, "--metrics", tmp_path / "m.prom")
    found = record(tmp_path / "out")
    assert (found["state"], found["exit_code"]) == ("stopped", 1)
    assert "in fail" in events(tmp_path / "out")[-1]["traceback"]
    assert gauges(tmp_path / "m.prom")["exit_code", ""] == 1


def test_attempts_outlive_a_run_that_is_refused(config: Path, tmp_path: Path) -> None:
    assert filterbank("run", config).code == 0
    path = tmp_path / "out" / "run.json"
    path.write_text(json.dumps({**record(tmp_path / "out"), "attempts": {"0.png": 2}}))
    assert filterbank("run", config, "--input", tmp_path / "gone").code == 4
    assert record(tmp_path / "out")["attempts"] == {"0.png": 2}


def test_status_tells_a_run_that_works_from_one_that_is_gone(config: Path, tmp_path: Path) -> None:
    assert filterbank("run", config).code == 0
    finished = record(tmp_path / "out")

    def state(**changed: Any) -> str:
        path = tmp_path / "out" / "run.json"
        path.write_text(json.dumps({**finished, "state": "running", **changed}))
        found = json.loads(filterbank("status", tmp_path / "out", "--json").out)
        assert any("killed" in text for text in found["warnings"]) == (
            found["last_state"] == "killed"
        )
        return str(found["last_state"])

    with subprocess.Popen(["sleep", "60"]) as other:
        assert state() == "running", "this process"
        assert state(pid=other.pid) == "killed", "its number was given to another process"
        other.kill()
    assert state(pid=other.pid) == "killed"
    assert state(pid=other.pid, host=f"not-{socket.gethostname()}") == "running", "who knows"


# ---------------------------------------------------------------- log.jsonl
def test_a_long_log_is_put_aside_when_a_run_starts(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "MOST", 600)
    root = tmp_path / "out"
    sizes = []
    for _ in range(12):
        assert filterbank("run", config).code == 0
        last = [event["event"] for event in events(root)][-2:]
        assert last == ["start", "end"] or "committed" in last
        sizes.append(sum(path.stat().st_size for path in root.glob("log*")))
    assert sorted(path.name for path in root.glob("log*")) == ["log.1.jsonl", "log.jsonl"]
    assert max(sizes) < 2 * (600 + sizes[0])
    assert filterbank("verify", root).code == 0


def test_a_line_cut_off_is_gone_with_the_next_run_and_none_besides(tmp_path: Path) -> None:
    Log(tmp_path).add("start", image="a\n\x1b\udc80")
    whole = (tmp_path / "log.jsonl").read_bytes()
    for rest in (b'{"time": "20', b"\0" * 9):
        (tmp_path / "log.jsonl").write_bytes(whole + rest)
        Log(tmp_path)
        assert (tmp_path / "log.jsonl").read_bytes() == whole
    Log(tmp_path).add("end")
    assert [event["event"] for event in events(tmp_path)] == ["start", "end"]


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_leaves_no_half_line(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path)
    log.add("start")
    before = (tmp_path / "log.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, limits[1]))
    try:
        with pytest.raises(OSError, match=r"No space left|File too large"):
            log.add("end")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_the_log_of_an_object_store_is_whole_when_the_run_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logfile, "MOST", 200)
    root = place("memory://logs/out")
    for run in range(4):
        log = Log(root)
        for event in ("start", "committed", "end"):
            log.add(event, run=run)
        last = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()][-3:]
        assert [(line["event"], line["run"]) for line in last] == [
            ("start", run), ("committed", run), ("end", run),
        ]  # fmt: skip
    assert sorted(path.name for path in root.iterdir()) == ["log.1.jsonl", "log.jsonl"]


# ---------------------------------------------------------------- gauges
def test_gauges_tell_of_success_and_of_failure(config: Path, images: Path, tmp_path: Path) -> None:
    (images / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    path = tmp_path / "monitor" / "edges.prom"
    assert filterbank("run", config, "--metrics", path).code == 5
    found = gauges(path)
    assert found["exit_code", ""] == 5
    assert found["end_timestamp_seconds", ""] == pytest.approx(path.stat().st_mtime, abs=5)
    counts = {"done": 3, "failed": 1, "unchanged": 0, "waiting": 0, "vanished": 0}
    assert {state: found["images", state] for state in counts} == counts
    assert (found["failed_images", "corrupt"], found["failed_images", "io"]) == (1, 0)
    (images / "2.png").unlink()
    assert filterbank("run", config, "--metrics", path, "--fail-on", "none").code == 0
    found = gauges(path)
    assert (found["images", "unchanged"], found["images", "vanished"]) == (3, 1)
    assert (found["failed_before_images", ""], found["images", "failed"]) == (1, 0)
    assert filterbank("run", config, "--metrics", path, "--input", tmp_path / "gone").code == 4
    assert gauges(path)["exit_code", ""] == 4
    assert [p.name for p in path.parent.iterdir()] == ["edges.prom"]


def test_gauges_tell_of_a_config_that_cannot_be_read_where_a_flag_names_them(
    tmp_path: Path,
) -> None:
    assert filterbank("run", tmp_path / "gone.yaml", "--metrics", tmp_path / "m.prom").code == 2
    assert gauges(tmp_path / "m.prom")["exit_code", ""] == 2


def test_gauges_replace_no_file_of_another_kind(config: Path, images: Path) -> None:
    before = (images / "0.png").read_bytes()
    said = filterbank("run", config, "--metrics", images / "0.png")
    assert said.code == 2
    assert "--metrics: must end in .prom" in said.err
    assert (images / "0.png").read_bytes() == before


def test_the_config_may_name_the_gauges_and_it_is_the_same_plan(
    config: Path, images: Path, tmp_path: Path
) -> None:
    assert filterbank("run", config).code == 0
    text = config.read_text().replace("run:\n", f"run:\n  metrics: {tmp_path / 'm.prom'}\n")
    config.write_text(text)
    assert filterbank("run", config).code == 0
    assert gauges(tmp_path / "m.prom")["images", "unchanged"] == 3


def test_gauges_that_cannot_be_written_fail_no_run(config: Path, tmp_path: Path) -> None:
    said = filterbank("run", config, "--metrics", config / "m.prom")
    assert said.code == 0
    assert "filterbank: cannot write" in said.err


def test_labels_come_back_as_they_were(tmp_path: Path) -> None:
    labels = {"config": 'a"b\\c\nd é', "output": "{} # \\n"}
    write_metrics(tmp_path / "m.prom", labels, 0, Summary())
    for family in text_string_to_metric_families((tmp_path / "m.prom").read_text()):
        for sample in family.samples:
            assert {name: sample.labels[name] for name in labels} == labels
    write_metrics(tmp_path / "m.prom", {"config": "\udc80"}, 0, Summary())
    assert 'config="?"' in (tmp_path / "m.prom").read_text()


# ---------------------------------------------------------------- flags and words
def test_every_flag_may_be_a_variable(
    config: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "input": images, "output": tmp_path / "other", "device": "cpu", "workers": 0, "threads": 1,
        "batch": 2, "memory": "4GiB", "max_failed": "50%", "limit": 2, "retry_failed": 1,
        "prune": 0, "prune_limit": 20, "overwrite": "0" * 8, "if_empty": "skip", "fail_on": "new",
        "if_locked": "skip", "metrics": tmp_path / "m.prom", "verify": 0,
    }  # fmt: skip
    options = {p.name for p in cli.cli.commands["run"].params if isinstance(p, click.Option)}
    assert options - {"executor", "address"} <= given.keys()
    for name, value in given.items():
        monkeypatch.setenv(f"FILTERBANK_RUN_{name.upper()}", str(value))
    assert filterbank("run", config).code == 0
    assert gauges(tmp_path / "m.prom")["images", "done"] == 2
    assert (tmp_path / "other" / "run.json").exists()
    for name, wrong in {"limit": "0", "fail_on": "old", "max_failed": "x", "workers": "y"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(f"FILTERBANK_RUN_{name.upper()}", wrong)
            assert filterbank("run", config).code == 2, name


def test_names_cannot_talk_to_the_terminal(config: Path, images: Path, tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\u202e"
    root = tmp_path / evil
    said = [
        filterbank("run", config, "--output", root),
        filterbank("status", root),
        filterbank("run", config, "--output", root, "--input", tmp_path / evil / "gone"),
        filterbank("run", tmp_path / f"{evil}.yaml"),
        filterbank("run", config, "--output", os.fsdecode(bytes(tmp_path) + b"/\xff")),
    ]
    assert [one.code for one in said] == [0, 0, 4, 2, 2]
    for one in said:
        assert all(c.isprintable() or c == "\n" for c in one.out + one.err)
    assert r"\x1b]0;owned\x07\u202e" in said[0].out
    assert shown("ä 图 a\tb") == "ä 图 a\\tb"

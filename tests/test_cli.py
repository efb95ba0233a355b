"""Every command as its user meets it: what it prints, what it leaves, how it ends."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import draw, filterbank, rows, status_of, tree, write_config
from PIL import Image

from pipeline import __version__, cli
from pipeline.cli import progress
from pipeline.cli.exits import code_of
from pipeline.errors import FilterbankError, ReadError
from pipeline.filters.base import FILTERS
from pipeline.readers.base import READERS
from pipeline.statistics import COLUMNS
from pipeline.steps.base import STEPS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i in range(4):
        draw(tmp_path / "in" / f"{i}.png", i)
    return tmp_path / "in"


@pytest.fixture
def config(tmp_path: Path, images: Path) -> Path:
    return write_config(tmp_path / "c.yaml", images, tmp_path / "out")


@pytest.fixture
def broken(images: Path) -> Path:
    path = images / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    return path


def in_a_process(*arguments: object) -> tuple[subprocess.CompletedProcess[str], float, bool]:
    """Run the command by itself; its CPU seconds, and whether it imported torch."""
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, seconds, done.stderr.splitlines()[-1] == "True"


# ---------------------------------------------------------------- run
def test_run_ends_with_a_summary_of_the_folder(config: Path, tmp_path: Path) -> None:
    said = filterbank("run", config)
    assert said.code == 0, said.err
    last = said.out.splitlines()[-1]
    assert re.match(r"done 4, failed 0, unchanged 0; [\d.]+ s, [\d.]+ images/s, ", last)
    assert last.endswith(f"results in {tmp_path / 'out'}")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["state"], record["exit_code"], record["counts"]["done"]) == ("finished", 0, 4)
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in log]
    assert [event["event"] for event in events] == ["start", "committed", "end"]


def test_a_second_run_has_nothing_to_do_and_changes_nothing(config: Path, tmp_path: Path) -> None:
    filterbank("run", config)
    before = tree(tmp_path / "out")
    done, seconds, torch = in_a_process("run", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("nothing to do: 4 images are done")
    assert tree(tmp_path / "out") == before
    assert not torch
    assert seconds < 2, "twice what a quiet machine takes"


def test_failed_files_make_the_exit_code_5_also_when_nothing_is_left_to_do(
    config: Path, broken: Path
) -> None:
    first = filterbank("run", config)
    assert first.code == 5
    assert first.out.splitlines()[-1].startswith("done 4, failed 1 (1 corrupt), unchanged 0;")
    again = filterbank("run", config)
    assert again.code == 5
    assert again.out.startswith("nothing to do: 5 images are done or known to fail (1 failed)")
    assert filterbank("run", config, "--fail-on", "new").code == 0
    assert filterbank("run", config, "--fail-on", "none").code == 0


def test_new_failures_count_once(config: Path, broken: Path) -> None:
    assert filterbank("run", config, "--fail-on", "new").code == 5
    assert filterbank("run", config, "--fail-on", "new", "--retry-failed").code == 0


def test_a_trial_takes_the_first_files(config: Path, tmp_path: Path) -> None:
    said = filterbank("run", config, "--limit", 2, "--output", tmp_path / "trial")
    assert said.code == 0
    assert list(status_of(tmp_path / "trial")) == ["0.png", "1.png"]
    assert not (tmp_path / "out").exists()


def test_flags_say_where_and_how_and_change_no_result(config: Path, tmp_path: Path) -> None:
    filterbank("run", config)
    flags = ["--batch", 3, "--threads", 2, "--memory", "4GiB", "--device", "cpu"]
    said = filterbank("run", config, "--output", tmp_path / "other", *flags)
    assert said.code == 0
    assert tree(tmp_path / "other") == tree(tmp_path / "out")


def test_several_inputs_are_one_listing(config: Path, images: Path, tmp_path: Path) -> None:
    draw(tmp_path / "more" / "x.png", 9)
    said = filterbank("run", config, "--input", images / "1.png", "--input", tmp_path / "more")
    assert said.code == 0
    assert list(status_of(tmp_path / "out")) == ["in/1.png", "more/x.png"]


def test_a_flag_may_be_a_variable(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FILTERBANK_RUN_OUTPUT", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("FILTERBANK_RUN_LIMIT", "3")
    assert filterbank("run", config).code == 0
    assert len(status_of(tmp_path / "elsewhere")) == 3
    assert not (tmp_path / "out").exists()


def test_inputs_may_be_a_variable_separated_by_colons(
    config: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = sorted(images.iterdir())
    monkeypatch.setenv("FILTERBANK_RUN_INPUT", f"{first}:{second}")
    assert filterbank("run", config).code == 0
    assert set(status_of(tmp_path / "out")) == {first.name, second.name}


def test_without_a_terminal_progress_is_a_plain_line_every_30_seconds(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 12))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    said = filterbank("run", config, "--batch", 1)
    *lines, last = said.out.splitlines()
    assert lines == ["3/4 images, 0.1/s, 0.0 Mpixel/s, failed 0, 12 s left"]
    assert last.startswith("done 4")
    assert "\r" not in said.out + said.err
    assert "\x1b" not in said.out + said.err


def test_too_many_failures_stop_the_run_with_6(config: Path, broken: Path, tmp_path: Path) -> None:
    said = filterbank("run", config, "--max-failed", 0)
    assert said.code == 6
    assert "1 images failed, more than run.max_failed (0)" in said.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["state"], record["exit_code"]) == ("stopped", 6)
    assert filterbank("run", config, "--max-failed", "50%").code == 5


def test_another_bank_in_the_same_folder_is_refused_with_the_difference(
    config: Path, images: Path, tmp_path: Path
) -> None:
    filterbank("run", config)
    before = tree(tmp_path / "out")
    other = write_config(tmp_path / "d.yaml", images, tmp_path / "out", filters=["scharr"])
    said = filterbank("run", other)
    assert said.code == 3
    assert "filters[0].family: " in said.err
    assert tree(tmp_path / "out") == before
    digest = re.search(r"--overwrite (\w{8})", said.err)
    assert digest
    assert filterbank("run", other, "--overwrite", "00000000").code == 3
    assert tree(tmp_path / "out") == before
    assert filterbank("run", other, "--overwrite", digest[1]).code == 0
    assert {key[3] for key in rows(tmp_path / "out", "statistics")} == {"scharr"}


def test_prune_removes_what_is_gone_unless_it_is_too_much(
    config: Path, images: Path, tmp_path: Path
) -> None:
    filterbank("run", config)
    (images / "2.png").unlink()
    assert filterbank("run", config).out.startswith("nothing to do")
    said = filterbank("run", config, "--prune")
    assert said.code == 3
    assert "would remove 1 of 4 images" in said.err
    assert len(status_of(tmp_path / "out")) == 4
    assert filterbank("run", config, "--prune", "--prune-limit", 30).code == 0
    assert list(status_of(tmp_path / "out")) == ["0.png", "1.png", "3.png"]


def test_an_unexpected_error_is_1_and_its_traceback_is_in_the_log(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        message = "this cannot happen"
        raise ZeroDivisionError(message)

    monkeypatch.setattr("pipeline.run.filters_table", fail)
    with pytest.raises(ZeroDivisionError):
        filterbank("run", config)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["exit_code"], record["error"]) == (1, "ZeroDivisionError: this cannot happen")
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert "in fail" in last["traceback"]


# ---------------------------------------------------------------- refusals
def test_a_bad_config_is_2_at_once_with_every_problem(config: Path, tmp_path: Path) -> None:
    config.write_text("version: 1\nfilters: [sobl]\noutput: {path: out, mpas: none}\n")
    done, seconds, torch = in_a_process("run", config)
    assert done.returncode == 2
    assert f"{config}:2:11: filters[0]: unknown filter 'sobl'; did you mean 'sobel'?" in done.stderr
    assert f"{config}:3:21: output.mpas: unknown key; did you mean 'maps'?" in done.stderr
    assert "input: is missing" in done.stderr
    assert done.stdout == ""
    assert not torch
    assert seconds < 2, "twice what a quiet machine takes"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "{config}", "--input", "{tmp}/gone"], 4, "gone' does not exist"),
        (["plan", "{config}", "--input", "{tmp}/gone"], 4, "gone' does not exist"),
        (["run", "{config}", "--input", "{tmp}/empty"], 4, "no input matched"),
        (["run", "{config}", "--output", "{config}/x"], 7, "cannot write to"),
        (["run", "{tmp}/gone.yaml"], 2, "cannot be read: No such file"),
        (["run", "{config}", "--device", "tpu"], 2, "--device"),
        (["run", "{config}", "--workers", "many"], 2, "--workers"),
        (["run", "{config}", "--wrkers", "2"], 2, "No such option"),
        (["run"], 2, "Missing argument 'CONFIG'"),
        (["rum", "{config}"], 2, "No such command"),
        (["check", "{tmp}/gone.yaml"], 2, "cannot be read"),
        (["show", "{config}", "--out", "{config}/x.png"], 7, "cannot write"),
        (["list", "colours"], 2, "'colours'"),
        (["status", "{tmp}/empty"], 4, "holds no results"),
        (["verify", "{tmp}/empty"], 4, "holds no results"),
        (["export", "{tmp}/empty", "{tmp}/x.csv"], 4, "holds no results"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_refusals_have_a_code_and_a_reason(
    config: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    words = [word.format(config=config, tmp=tmp_path) for word in arguments]
    said = filterbank(*words)
    assert (said.code, said.out) == (code, "")
    assert says in said.err
    assert "Traceback" not in said.err


def test_an_empty_folder_may_be_fine(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = filterbank("run", config, "--input", tmp_path / "empty", "--if-empty", "skip")
    assert said.code == 0
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    again = filterbank("run", config, "--input", tmp_path / "empty", "--if-empty", "skip")
    assert again.code == 4
    assert "1 no known image format" in again.err


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="there is a GPU, so asking for one is fine"
)
def test_a_device_that_is_not_there_is_10(config: Path) -> None:
    said = filterbank("run", config, "--device", "cuda")
    assert said.code == 10
    assert "--device cpu" in said.err


# ---------------------------------------------------------------- before a run
def test_plan_foretells_the_run_and_writes_nothing(
    config: Path, broken: Path, tmp_path: Path
) -> None:
    said = filterbank("plan", config, "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert not (tmp_path / "out").exists()
    assert (found["listed_files"], found["new"], found["images"], found["done"]) == (5, 5, 5, 0)
    assert [failure["image"] for failure in found["failures"]] == ["broken.png"]
    assert found["halo"] == [4, 4]
    filterbank("run", config)
    assert found["rows"] == len(rows(tmp_path / "out", "statistics"))
    assert found["pictures"] == sum(name.startswith("png/") for name in tree(tmp_path / "out"))
    after = json.loads(filterbank("plan", config, "--json").out)
    assert (after["new"], after["done"], after["images"], after["rows"]) == (0, 5, 0, 0)
    assert after["digest"] == found["digest"]


def test_plan_in_words_names_each_response_and_its_reach(config: Path, broken: Path) -> None:
    said = filterbank("plan", config)
    assert said.code == 0
    assert re.search(r"listed files +5", said.out)
    assert re.search(r"sobel\(output=x\) +reflect +-1\+1 x -1\+1", said.out)
    assert re.search(r"gaussian\(sigma=1\) +reflect +-4\+4 x -4\+4", said.out)
    assert "will fail: broken.png: corrupt:" in said.out


def test_plan_is_refused_where_the_run_would_be(config: Path, images: Path, tmp_path: Path) -> None:
    filterbank("run", config)
    other = write_config(tmp_path / "d.yaml", images, tmp_path / "out", filters=["scharr"])
    assert filterbank("plan", other).code == 3


def test_check_names_the_responses(config: Path) -> None:
    said = filterbank("check", config)
    assert (said.code, said.out) == (0, "sobel(output=x)\ngaussian(sigma=1)\n")
    assert said.err == f"{config}: 2 responses, no problem\n"


def test_one_response_is_no_plural(tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", tmp_path, tmp_path / "out", filters=["sobel"])
    assert filterbank("check", config).err == f"{config}: 1 response, no problem\n"


def test_show_draws_the_kernels(config: Path, tmp_path: Path) -> None:
    said = filterbank("show", config, "--out", tmp_path / "kernels.png")
    assert (said.code, said.out) == (0, f"{tmp_path / 'kernels.png'}\n")
    with Image.open(tmp_path / "kernels.png") as picture:
        assert picture.format == "PNG"
        assert np.ptp(np.asarray(picture.convert("L"))) > 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml", "in", "kernels.png"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [("filters", FILTERS), ("statistics", COLUMNS), ("steps", STEPS), ("readers", READERS)],
    ids=["filters", "statistics", "steps", "readers"],
)
def test_list_names_everything_registered(kind: str, names: Any) -> None:
    said = filterbank("list", kind)
    assert said.code == 0
    first = {line.split()[0] for line in said.out.splitlines() if line}
    assert names
    assert set(names) <= first


def test_list_sorts_by_name_and_tells_of_one_where_it_is_named() -> None:
    names = [line.split()[0] for line in filterbank("list", "filters").out.splitlines()[1:]]
    assert names == sorted(names)
    said = filterbank("list", "filters", "sobel")
    heading, *rows = said.out.splitlines()
    assert heading.startswith("filter ")
    assert [row.split()[:2] for row in rows[1:]] == [
        ["sobel", name] for name in ("size", "output", "normalize", "rotation_invariant")
    ]
    wrong = filterbank("list", "filters", "gabro")
    assert (wrong.code, wrong.out) == (2, "")
    assert "unknown filter 'gabro'; did you mean 'gabor'?" in wrong.err


def test_list_filters_tells_defaults_and_units() -> None:
    assert re.search(r"gaussian +truncate .*4\.0.* sigmas", filterbank("list", "filters").out)


def test_schema_is_json_and_knows_every_family() -> None:
    said = filterbank("schema")
    assert said.code == 0
    schema = json.loads(said.out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"version", "input", "filters", "output", "run"} <= schema["properties"].keys()
    assert all(f'"{name}"' in said.out for name in FILTERS)


def test_doctor_says_what_there_is() -> None:
    said = filterbank("doctor")
    assert said.code == 0
    told = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert told["filterbank"] == __version__
    assert {"python", "torch", "processors", "memory"} <= told.keys()


def test_version_and_help_are_there_for_every_command() -> None:
    assert filterbank("--version").out.strip() == f"filterbank, version {__version__}"
    assert "Example: filterbank run" in filterbank("--help").out
    for name in cli.cli.commands:
        said = filterbank(name, "--help")
        assert said.code == 0
        assert f"filterbank {name}" in said.out
    for code in cli.EXIT_CODES:
        assert re.search(rf"^ +{code}  \w", filterbank("run", "--help").out, re.MULTILINE)


def test_whatever_can_end_a_command_has_an_exit_code_of_its_own() -> None:
    """1 is for what nobody expected; what cannot be read is a failed row."""
    kinds = set(FilterbankError.__subclasses__()) - {ReadError}
    assert {kind for kind in kinds if code_of(kind(("",))) == 1} == set()


# ---------------------------------------------------------------- after a run
def test_status_counts_and_names_failures(config: Path, broken: Path, tmp_path: Path) -> None:
    filterbank("run", config)
    said = filterbank("status", tmp_path / "out", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert (found["images"], found["done"], found["failed"], found["shards"]) == (5, 4, 1, 1)
    assert (found["last_state"], found["last_exit_code"]) == ("finished", 5)
    assert [(f["image"], f["kind"]) for f in found["failures"]] == [("broken.png", "corrupt")]
    words = filterbank("status", tmp_path / "out").out
    assert "broken.png: corrupt:" in words
    assert re.search(r"done +4", words)


def test_verify_is_0_on_a_whole_folder_and_9_on_a_damaged_one(config: Path, tmp_path: Path) -> None:
    filterbank("run", config)
    said = filterbank("verify", tmp_path / "out")
    assert (said.code, said.out) == (0, "every file is as it was committed\n")
    (part,) = (tmp_path / "out" / "statistics").iterdir()
    part.write_bytes(part.read_bytes()[:-1])
    (tmp_path / "out" / "maps" / "stray.parquet").write_bytes(b"")
    said = filterbank("verify", tmp_path / "out")
    assert said.code == 9
    *found, last = said.out.splitlines()
    assert any(line.startswith(f"statistics/{part.name}: has ") for line in found)
    assert "maps/stray.parquet: belongs to no shard" in found
    assert last == f"{len(found)} problems"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("wide.parquet", lambda path: pq.read_table(path).num_rows),
        ("wide.csv", lambda path: len(path.read_text().splitlines()) - 1),
    ],
    ids=["parquet", "csv"],
)
def test_export_writes_a_row_per_image(
    config: Path, broken: Path, tmp_path: Path, name: str, read: Callable[[Path], int]
) -> None:
    filterbank("run", config)
    said = filterbank("export", tmp_path / "out", tmp_path / name)
    assert (said.code, said.out) == (0, f"5 rows in {tmp_path / name}\n")
    assert read(tmp_path / name) == 5
    assert filterbank("export", tmp_path / "out", tmp_path / "w.xlsx").code == 4
    assert filterbank("export", tmp_path / "out", tmp_path / "gone" / name).code == 7

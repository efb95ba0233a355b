"""Killed at any moment and run again, an output folder ends as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path

from command import (
    filterbank,
    finish,
    forked,
    kill_group,
    tree,
    until_it_works,
    write_config,
)


def test_the_lock_dies_with_its_holder_and_run_json_still_names_it(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})
    with forked("run", config) as process:
        until_it_works(process, tmp_path / "out")
        second = filterbank("run", config)
        assert second.code == 75
        assert f"process {process.pid} on " in second.err
        assert filterbank("run", config, "--if-locked", "skip").code == 0
        kill_group(process, signal.SIGKILL)
        process.wait()
    assert '"running"' in (tmp_path / "out/run.json").read_text()
    assert filterbank("run", config).code == 0
    assert tree(tmp_path / "out") == tree(undisturbed)


def test_of_three_runs_at_once_one_works_and_the_others_leave_at_once(
    images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    with forked("run", config) as one, forked("run", config) as two, forked("run", config) as three:
        said = [finish(process) for process in (one, two, three)]
    assert sorted(each.code for each in said) == [0, 75, 75], said
    assert tree(tmp_path / "out") == tree(undisturbed)

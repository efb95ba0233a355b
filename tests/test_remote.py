"""What workers leave in their rooms counts for nothing until the driver adopts it, once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command import draw, tree
from running import look, run_bank, write_config

from pipeline import store
from pipeline.commit import Staging, adopt, close_room, open_room
from pipeline.errors import InputError, PlanError, WriteError
from pipeline.plan import Plan
from pipeline.refusals import refuse_executor
from pipeline.remote import Remote, pinned, shared
from pipeline.run import _execute
from pipeline.survey import Survey
from pipeline.types import ShardReport


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Survey]:
    """One shard to do, and its results in `local`."""
    monkeypatch.chdir(tmp_path)
    for i in range(3):
        draw(tmp_path / f"in/{i}.png", seed=i)
    config = write_config(tmp_path / "c.yaml", output={"path": "unused", "maps": "float32"})
    run_bank(config, tmp_path / "local", tmp_path / "in")
    return look(config, tmp_path / "out", tmp_path / "in")


def stage(remote: Remote, room: str, survey: Survey) -> None:
    """Do the shard in a room."""
    remote.open(room)
    (report,) = (e for e in remote.work(room, survey.shards) if isinstance(e, ShardReport))
    assert (report.shard, report.done) == (survey.shards[0].id, 3)


def without_filters(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(root).items() if "/" in name}


def test_two_attempts_at_a_shard_leave_one_and_it_is_that_of_a_local_run(
    survey: Survey, tmp_path: Path
) -> None:
    remote, shard = pinned(survey.plan), survey.shards[0].id
    for room in ("a", "b"):
        stage(remote, room, survey)
    assert not any((tmp_path / "out").glob("*/part-*"))
    remote.accept("b", shard)
    remote.close("a")
    remote.close("b")
    assert without_filters(tmp_path / "out") == without_filters(tmp_path / "local")
    assert not (tmp_path / "out/.tmp").exists()


def test_a_driver_that_dies_while_it_adopts_has_adopted_all_or_nothing(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote, root = pinned(survey.plan), tmp_path / "out"
    found = set()
    for death in range(8):
        stage(remote, f"room{death}", survey)
        left = death

        def die_later(self: Path, target: Path, act: object = Path.rename) -> Path:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            os.rename(self, target)  # noqa: PTH104
            return target

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", die_later)
            patch.setattr(Path, "replace", die_later)
            with contextlib.suppress(KeyboardInterrupt):
                remote.accept(f"room{death}", survey.shards[0].id)
        store.clean(root)
        found.add(len(without_filters(root)))
        if without_filters(root):
            assert without_filters(root) == without_filters(tmp_path / "local")
            store.drop(root, [survey.shards[0].id])
    assert found == {0, 4}


def test_whose_room_is_gone_can_stage_nothing(survey: Survey, tmp_path: Path) -> None:
    remote = pinned(survey.plan)
    remote.open("a")
    remote.close("a")
    with pytest.raises(WriteError):
        list(remote.work("a", survey.shards))
    assert not (tmp_path / "out/.tmp").exists()


def test_whose_room_goes_while_it_works_does_not_make_it_again(tmp_path: Path) -> None:
    open_room(tmp_path, "a")
    staging = Staging(tmp_path, "s", "a")
    staging.write("images/part-s.parquet", b"x")
    close_room(tmp_path, "a")
    for name in ("images/part-s.parquet", "maps/deep/part"):
        with pytest.raises(FileNotFoundError):
            staging.path(name)
    with pytest.raises(FileNotFoundError):
        staging.commit()
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_cluster_ends_with_no_room_left(
    survey: Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even that of a worker which went on when it was given up."""

    def run_ray(remote: Remote, *_: object, **__: object) -> Iterator[ShardReport]:
        stage(remote, "late", survey)
        stage(remote, "a", survey)
        remote.accept("a", survey.shards[0].id)
        yield from ()

    monkeypatch.setattr("pipeline.execute.ray.run_ray", run_ray)
    config = survey.plan.config
    away = replace(config.run, executor="ray", address="local")
    plan = replace(survey.plan, config=replace(config, run=away))
    assert not list(_execute(plan, survey.shards))
    assert without_filters(tmp_path / "out") == without_filters(tmp_path / "local")
    assert not (tmp_path / "out/.tmp").exists()


def test_recovery_clears_all_rooms(tmp_path: Path) -> None:
    open_room(tmp_path, "a")
    staging = Staging(tmp_path, "s", "a")
    staging.write("images/part-s.parquet", b"x")
    staging.commit()
    store.clean(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        adopt(tmp_path, "a", "s")
    close_room(tmp_path, "a")


def test_a_machine_that_sees_other_things_than_the_driver_is_refused(
    survey: Survey, tmp_path: Path
) -> None:
    remote = pinned(survey.plan)
    remote.open("a")
    remote.enter("a")
    with pytest.raises(PlanError, match=r"does not see what the driver wrote to .*one folder"):
        remote.enter("b")
    with pytest.raises(PlanError, match=r"other software.*numpy [\d.]+ \(driver: 0\)"):
        replace(remote, versions={**remote.versions, "numpy": "0"}).enter("a")
    with pytest.raises(PlanError, match="has no folder /nowhere, where the run was started"):
        replace(remote, folder="/nowhere").enter("a")
    (tmp_path / "in").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError):
        remote.enter("a")


def test_what_is_auto_means_on_every_machine_what_it_means_here(survey: Survey) -> None:
    plan = survey.plan
    run = pinned(plan).plan.config.run
    assert (run.threads, run.workers, run.memory) == (plan.threads, plan.workers, plan.memory)
    assert pinned(plan).plan.digest == plan.digest
    assert pinned(plan).plan.root == plan.root


def test_processes_share_threads_workers_and_memory(survey: Survey) -> None:
    plan = with_run(survey.plan, threads=4, workers=3, memory=8 << 30)
    count = plan.processes(survey.sources)
    assert count == 4
    run = shared(plan, count).plan.config.run
    assert (run.threads, run.workers) == (1, 1)
    assert 1.9 * 2**30 < run.memory <= 2 << 30
    assert shared(plan, count).plan.digest == plan.digest
    assert with_run(plan, memory=3 << 30).processes(survey.sources) == 2
    assert with_run(plan, memory=1 << 30).processes(survey.sources) == 1
    assert shared(with_run(plan, memory=1), 1).plan.memory == 1


def test_an_executor_that_cannot_do_what_is_asked_is_refused(survey: Survey) -> None:
    plan = replace(with_run(survey.plan, executor="processes"), device="cuda")
    with pytest.raises(PlanError, match="executor processes is for CPUs"):
        refuse_executor(plan)
    config = replace(plan.config, output=replace(plan.config.output, path="memory://out"))
    with pytest.raises(PlanError, match="memory:// is seen by one process only"):
        refuse_executor(Plan(config, "cpu"))


def with_run(plan: Plan, **run: Any) -> Plan:
    return replace(plan, config=replace(plan.config, run=replace(plan.config.run, **run)))

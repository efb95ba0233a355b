"""What every executor promises, and what the one on a cluster does when something dies there.

Actors, machines and drivers die at any moment; no row is lost or doubled.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import deadly
import halting
import pyarrow.dataset as ds
import pytest
from command import (
    Figures,
    draw,
    filterbank,
    finish,
    forked,
    kill_all,
    rows,
    started,
    tree,
    until_it_works,
    write_config,
)
from sites import Site, shard, source

from pipeline.errors import DeviceError, FilterbankError, PlanError, ReaderCrashed, WriteError
from pipeline.execute.driver import Event
from pipeline.execute.processes import run_processes
from pipeline.execute.ray import run_ray
from pipeline.types import Notice, Progress, Shard, ShardReport

SLOW = os.environ.get("FILTERBANK_SLOW") == "1"
LONG = pytest.mark.skipif(not SLOW, reason="starts many actors: make faults, FILTERBANK_SLOW=1")
KILLS = {
    "local": int(os.environ.get("FILTERBANK_KILLS", "4")),
    "processes": 20 if SLOW else 1,
    "ray": 20 if SLOW else 1,
}
"""Random kills; of local runs 500 in `make faults`."""
AGAIN = int(os.environ.get("FILTERBANK_AGAIN", "1"))
"""A resumed run is killed again so often at most; 5 in `make faults`."""
LEAST = {"object_store_memory": 100 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors and one machine with two."""
    pytest.importorskip("ray", reason="needs the extra filterbank[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        tests, code = map(str, Path(__file__).parents[1:3])  # actors unpickle `sites`
        patch.setenv("PYTHONPATH", os.pathsep.join([tests, code]))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **LEAST})
        cluster.add_node(num_cpus=2, **LEAST)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


@dataclass(frozen=True)
class Executor:
    """One of them, and the flags that choose it.

    starts: about how many seconds a run takes from its plan until it computes.
    """

    name: str
    flags: tuple[str, ...] = ()
    starts: float = 0.0

    @classmethod
    def ray(cls, address: str) -> Executor:
        return cls("ray", ("--executor", "ray", "--address", address), 6.0)


PROCESSES = Executor("processes", ("--executor", "processes"), 3.0)


@pytest.fixture(params=["local", "processes", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> Executor:
    if request.param == "ray":
        return Executor.ray(request.getfixturevalue("cluster").address)
    return PROCESSES if request.param == "processes" else Executor("local")


# ---------------------------------------------------------------- the same promise of all
def test_stopped_by_its_budget_and_run_again_it_leaves_what_one_thread_leaves_undisturbed(
    executor: Executor, images: Path, tmp_path: Path
) -> None:
    """Rows, failed ones too, and files bit for bit; exit codes, and that no shard is done twice."""
    root, alone = tmp_path / "out", tmp_path / "alone"
    shutil.copytree(images, tmp_path / "in")
    for i in (10, 70, 129):  # one in each shard
        cut = (images / f"{i:03}.png").read_bytes()[:-30]
        (tmp_path / f"in/{i:03}x.png").write_bytes(cut)
    run = {"workers": 0, "threads": 2}
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", root, run=run)
    assert filterbank("run", config, "--output", alone, "--threads", 1).code == 5
    said = filterbank("run", config, "--max-failed", 0, *executor.flags)
    assert said.code == 6, said
    assert "1 images failed, more than run.max_failed (0); stopped" in said.err
    assert json.loads((root / "run.json").read_bytes())["state"] == "stopped"
    assert len(list((root / "images").iterdir())) == 1
    assert tree(root).items() < tree(alone).items()
    said = filterbank("run", config, *executor.flags)
    assert said.code == 5, said
    assert said.err == ""
    assert said.out.startswith("done "), said
    assert tree(root) == tree(alone)
    lines = map(json.loads, (root / "log.jsonl").read_text().splitlines())
    committed = [line["shard"] for line in lines if line["event"] == "committed"]
    assert len(committed) == len(set(committed)) == 3
    said = filterbank("run", config, *executor.flags)
    assert (said.code, said.out.startswith("nothing to do")) == (5, True), said


def readable_and_undoubled(root: Path) -> None:
    """No torn part, no row twice, in any table, as a stranger reads them."""
    for table in ("images", "statistics", "regions", "maps"):
        if any((root / table).glob("*.parquet")):
            read = ds.dataset(sorted((root / table).glob("*.parquet"))).to_table()
            keys = [n for n in ("image", "band", "region", "filter") if n in read.column_names]
            found = [tuple(row.values()) for row in read.select(keys).to_pylist()]
            assert len(found) == len(set(found)), f"doubled rows in {table}"


def parts(root: Path) -> list[Path]:
    """What says which shards have landed."""
    return list((root / "images").glob("part-*.parquet"))


def test_killed_at_random_moments_and_resumed_ends_byte_identical(
    executor: Executor, images: Path, undisturbed: Path, tmp_path: Path, figures: Figures
) -> None:
    run = {"workers": int(executor.name == "local"), "threads": 2}  # two: room for one actor
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run=run)
    arguments = "run", config, *executor.flags
    expected, root = tree(undisturbed), tmp_path / "out"
    shards, chance = len(parts(undisturbed)), random.Random(36)
    killed = folders = midway = 0
    with forked("run", config) as process:
        until_it_works(process, root)
        began = time.monotonic()
        assert finish(process).code == 0
        lasts = time.monotonic() - began
    while killed < KILLS[executor.name]:
        shutil.rmtree(root, ignore_errors=True)
        with forked(*arguments) as process:
            until_it_works(process, root)
            landed = chance.randrange(shards)  # before the kill, however fast the machine is
            while process.poll() is None and len(parts(root)) < landed:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, lasts / shards + (0 if landed else executor.starts)))
            kill_all(process)
        midway += tree(root) != expected
        for _ in range(folders % (AGAIN + 1)):
            readable_and_undoubled(root)
            with forked(*arguments) as process:
                time.sleep(chance.uniform(0, executor.starts + lasts))
                kill_all(process)
            killed += 1
        readable_and_undoubled(root)
        said = filterbank(*arguments, "--workers", 0)
        assert said.code == 0, said
        assert tree(root) == expected
        assert not (root / ".tmp").exists()
        assert filterbank("verify", root).code == 0
        killed, folders = killed + 1, folders + 1
    assert midway, "no kill came before the end"
    figures(f"killed {killed} times in {folders} folders, {midway} first kills midway, all resumed")


@pytest.mark.parametrize(
    ("kind", "workers", "count"),
    [
        pytest.param("local", 2, 70, id="local"),
        pytest.param("processes", 2, 6, id="processes, kills its reader", marks=LONG),
        pytest.param("processes", 0, 6, id="processes, kills the actor", marks=LONG),
        pytest.param("ray", 1, 70, id="ray, kills its reader", marks=LONG),
        pytest.param("ray", 0, 6, id="ray, kills the actor", marks=LONG),
    ],
)
def test_files_that_kill_whoever_reads_them_are_crashed_rows_and_others_are_bit_identical(
    kind: str, workers: int, count: int, tmp_path: Path
) -> None:
    executor = {"ray": Executor.ray("local"), "processes": PROCESSES}.get(kind, Executor("local"))
    folder, root = tmp_path / "in", tmp_path / "with"
    for i in range(count):
        draw(folder / f"{i:03}.png", seed=i)
    config = write_config(tmp_path / "c.yaml", folder, root, run={"workers": workers})
    assert filterbank("run", config, "--workers", 0, "--output", tmp_path / "without").code == 0
    killers = {
        f"{count // 2:03}.deadly": signal.SIGSEGV,
        f"{count - 1:03}.deadly": signal.SIGKILL,
    }
    for name, number in killers.items():
        deadly.write(folder / name, number)
    with started("run", config, *executor.flags, env=deadly.install(tmp_path)) as process:
        said = finish(process, timeout=600)
    assert said.code == 5, said
    assert f"done {count}, failed 2 (2 crashed)" in said.out
    assert "Traceback" not in said.err
    found = rows(root, "images")
    guilty = {key[0]: row for key, row in found.items() if row["status"] == "failed"}
    assert {image: (row["kind"], row["error"]) for image, row in guilty.items()} == {
        name: (
            "crashed",
            f"the process that read this file was killed by {number.name}"
            if workers
            else "the process that works on this file dies of it, also on its own",
        )
        for name, number in killers.items()
    }
    for table in ("images", "statistics", "regions", "maps"):
        others = {k: r for k, r in rows(root, table).items() if k[0] not in guilty}
        assert others == rows(tmp_path / "without", table), table
    pictures = {n: d for n, d in tree(root).items() if n.startswith("png/")}
    assert pictures
    assert pictures.items() <= tree(tmp_path / "without").items()


# ---------------------------------------------------------------- a cluster
@LONG
@pytest.mark.ray
def test_a_driver_that_is_told_to_stop_keeps_what_is_finished(
    cluster: Any, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    root, flags = tmp_path / "out", Executor.ray(cluster.address).flags
    config = write_config(tmp_path / "c.yaml", images, root)
    with forked("run", config, *flags) as process:
        while not any(root.glob(".tmp/*-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        said = finish(process, timeout=120)
    assert said.code == 143, said
    assert "Traceback" not in said.err
    assert filterbank("run", config, *flags).code == 0
    assert tree(root) == tree(undisturbed)


@pytest.mark.ray
def test_a_lost_machine_costs_retries_and_no_bit_of_what_is_computed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two machines has room for one actor; both have work when one of them goes."""
    second = [cluster.add_node(num_cpus=2, **LEAST)]
    cluster.wait_for_nodes()

    def happens() -> None:
        if second:
            cluster.remove_node(second.pop(), allow_graceful=False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 2)
    for i in range(24):
        draw(tmp_path / f"in/{i:02}.png", seed=i, size=64)
    root, run = tmp_path / "out", {"workers": 0, "threads": 2}
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", root, run=run)
    assert filterbank("run", config, "--output", tmp_path / "local").code == 0
    monkeypatch.setattr("pipeline.remote.pinned", halting.pinned)
    monkeypatch.setattr(halting, "happens", happens)
    said = filterbank("run", config, *Executor.ray(cluster.address).flags)
    assert said.code == 0, said
    assert not second
    lines = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    assert any(line["event"] == "lost" and line["shards"] for line in lines)
    committed = [line["shard"] for line in lines if line["event"] == "committed"]
    assert len(committed) == len(set(committed)) == 12
    assert tree(root) == tree(tmp_path / "local")
    assert not (root / ".tmp").exists()


# ---------------------------------------------------------------- a crew, without pixels
Run: TypeAlias = Callable[[Site, Sequence[Shard]], Iterator[Event]]


@pytest.fixture(params=["processes", pytest.param("ray", marks=pytest.mark.ray)])
def crew(request: pytest.FixtureRequest) -> Run:
    """Two actors, here or on a cluster."""
    if request.param == "processes":
        return partial(run_processes, count=2)
    address = request.getfixturevalue("cluster").address
    return partial(run_ray, address=address, needs={"CPU": 1})


def do(
    crew: Run,
    site: Site,
    *shards: Shard,
    happens: Callable[[ShardReport], None] = lambda _: None,
) -> tuple[list[str], list[Notice]]:
    """The shards that were reported, in order, and what was noticed."""
    reported, noticed = [], []
    for event in crew(site, shards):
        if isinstance(event, ShardReport):
            reported.append(event.shard)
            happens(event)
        if isinstance(event, Notice):
            noticed.append(event)
            if event.event == "lost":
                (site.root / "go").touch()
    return reported, noticed


def done(site: Site) -> dict[str, str]:
    return {path.name: path.read_text() for path in (site.root / "done").iterdir()}


def rooms(site: Site) -> list[str]:
    return [path.name for path in site.root.iterdir() if path.is_dir() and path.name != "done"]


def test_every_shard_is_reported_once_and_committed_before_that(crew: Run, tmp_path: Path) -> None:
    site = Site(tmp_path)
    shards = [shard(f"s{i}", f"a{i}", f"b{i}") for i in range(20)]
    reported, noticed = do(
        crew, site, *shards, happens=lambda report: (tmp_path / "done" / report.shard).stat()
    )
    assert sorted(reported) == sorted(one.id for one in shards)
    assert done(site) == {f"s{i}": f"a{i} b{i}" for i in range(20)}
    assert {notice.event for notice in noticed} == {"actor"}
    assert rooms(site) == []


def test_a_killed_actor_costs_a_retry_and_a_deadly_image_itself_only(
    crew: Run, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    shards = [shard("s", "a", "kill-once", "b"), shard("t", "c", "kill", "d"), shard("u", "e")]
    reported, noticed = do(crew, site, *shards)
    assert sorted(reported) == ["s", "t", "u"]
    assert done(site) == {"s": "a kill-once b", "t": "c d", "u": "e"}
    lost = [notice.details for notice in noticed if notice.event == "lost"]
    lost = [details for details in lost if details["shards"]]  # others Ray never started
    assert len(lost) == 1 + 2 + 1 + 2, "the shard twice, its half, the image twice"
    assert all(details["machine"] and details["reason"] for details in lost)
    assert rooms(site) == []


def test_failed_images_are_reported_as_such(crew: Run, tmp_path: Path) -> None:
    one = Shard("s", (source("a"), source("b", failed=True)))
    (report,) = [event for event in crew(Site(tmp_path), [one]) if isinstance(event, ShardReport)]
    assert report == ShardReport("s", 1, (("b", "corrupt", "is none"),))


@pytest.mark.parametrize(
    ("site", "image", "error", "match"),
    [
        ({}, "WriteError", WriteError, "on WriteError"),
        ({}, "DeviceError", DeviceError, "actors in a row were of no use; .* on DeviceError"),
        ({"unfit": "PlanError"}, "a", PlanError, "machine .*: unfit"),
    ],
    ids=["disk", "device", "machine"],
)
def test_what_no_other_actor_can_mend_ends_the_run(
    crew: Run,
    tmp_path: Path,
    site: dict[str, str],
    image: str,
    error: type[FilterbankError],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        do(crew, Site(tmp_path, **site), shard("s", "a"), shard("t", image))
    assert rooms(Site(tmp_path)) == []


class Unclosed(Site):
    """One on a disk that fails."""

    def accept(self, room: str, shard: str) -> None:
        raise WriteError(shard)

    def close(self, room: str) -> None:
        raise OSError(room)


def test_no_process_stays_behind_where_rooms_cannot_be_closed(tmp_path: Path) -> None:
    """It would wait for us to end, and we for it; the first error is the one that is told."""
    with pytest.raises(WriteError, match=r"^[st]$"):
        do(partial(run_processes, count=2), Unclosed(tmp_path), shard("s", "a"), shard("t", "b"))
    assert multiprocessing.active_children() == []


def test_where_no_process_can_be_started_a_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr("multiprocessing.popen_spawn_posix.Popen", refused)
    with pytest.raises(ReaderCrashed, match=r"cannot be started: .*; lower --threads"):
        do(partial(run_processes, count=2), Site(tmp_path), shard("s", "a"))


class Faulty(Site):
    """One whose code is wrong, and raises what pickle makes nothing of."""

    def work(self, room: str, shards: Sequence[Shard]) -> Iterator[ShardReport | Progress]:
        raise Particular("this", "that")


class Particular(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def test_a_defect_in_another_process_is_told_with_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Particular: this and that") as told:
        do(partial(run_processes, count=2), Faulty(tmp_path), shard("s", "a"))
    assert "in work" in told.value.__notes__[0]


@pytest.mark.ray
def test_a_machine_too_small_for_an_actor_is_refused(cluster: Any, tmp_path: Path) -> None:
    events = run_ray(Site(tmp_path), [shard("s")], address=cluster.address, needs={"CPU": 3})
    with pytest.raises(PlanError, match=r"no machine .* takes \(CPU 3\); lower run.threads"):
        next(events)

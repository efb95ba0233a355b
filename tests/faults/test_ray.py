"""Actors, machines and drivers of a cluster die at any moment; no row is lost or doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import (
    draw,
    filterbank,
    finish,
    forked,
    rows,
    started,
    status_of,
    tree,
    write_config,
)
from sites import Site, shard, source

from pipeline.errors import DeviceError, FilterbankError, PlanError, WriteError
from pipeline.execute.cluster import _printing_nothing
from pipeline.execute.queue import Queue
from pipeline.execute.ray import _Crew, _Hired, _sentence, run_ray
from pipeline.types import Notice, Shard, ShardReport

SLOW = os.environ.get("FILTERBANK_SLOW") == "1"
KILLS = 20 if SLOW else 1
"""Of the driver."""
LEAST = {"object_store_memory": 100 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors and one machine with two."""
    pytest.importorskip("ray", reason="needs the extra filterbank[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # actors unpickle `sites`
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **LEAST})
        cluster.add_node(num_cpus=2, **LEAST)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


def do(
    cluster: Any,
    site: Site,
    *shards: Shard,
    happens: Callable[[ShardReport], None] = lambda _: None,
    cpus: int = 1,
) -> tuple[list[str], list[Notice]]:
    """The shards that were reported, in order, and what was noticed."""
    reported, noticed = [], []
    for event in run_ray(site, shards, address=cluster.address, needs={"CPU": cpus}):
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


# ---------------------------------------------------------------- the executor, without pixels
def test_every_shard_is_reported_once_and_committed_before_that(
    cluster: Any, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    shards = [shard(f"s{i}", f"a{i}", f"b{i}") for i in range(20)]
    reported, noticed = do(
        cluster, site, *shards, happens=lambda report: (tmp_path / "done" / report.shard).stat()
    )
    assert sorted(reported) == sorted(one.id for one in shards)
    assert done(site) == {f"s{i}": f"a{i} b{i}" for i in range(20)}
    assert {notice.event for notice in noticed} == {"actor"}
    assert rooms(site) == []


def test_a_killed_actor_costs_a_retry_and_a_deadly_image_itself_only(
    cluster: Any, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    shards = [shard("s", "a", "kill-once", "b"), shard("t", "c", "kill", "d"), shard("u", "e")]
    reported, noticed = do(cluster, site, *shards)
    assert sorted(reported) == ["s", "t", "u"]
    assert done(site) == {"s": "a kill-once b", "t": "c d", "u": "e"}
    lost = [notice.details for notice in noticed if notice.event == "lost"]
    assert len(lost) == 1 + 2 + 1 + 2, "the shard twice, its half, the image twice"
    assert all(details["machine"] and details["reason"] for details in lost)
    assert rooms(site) == []


def test_failed_images_are_reported_as_such(cluster: Any, tmp_path: Path) -> None:
    one = Shard("s", (source("a"), source("b", failed=True)))
    events = run_ray(Site(tmp_path), [one], address=cluster.address, needs={"CPU": 1})
    (report,) = [event for event in events if isinstance(event, ShardReport)]
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
    cluster: Any,
    tmp_path: Path,
    site: dict[str, str],
    image: str,
    error: type[FilterbankError],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        do(cluster, Site(tmp_path, **site), shard("s", "a"), shard("t", image))
    assert rooms(Site(tmp_path)) == []


def test_a_machine_too_small_for_an_actor_is_refused(cluster: Any, tmp_path: Path) -> None:
    events = run_ray(Site(tmp_path), [shard("s")], address=cluster.address, needs={"CPU": 3})
    with pytest.raises(PlanError, match=r"no machine .* takes \(CPU 3\); lower run.threads"):
        next(events)


def test_a_lost_machine_costs_retries_only(cluster: Any, tmp_path: Path) -> None:
    """Each of two machines has room for one actor; both work when one of them goes."""
    second = [cluster.add_node(num_cpus=2, **LEAST)]
    cluster.wait_for_nodes()
    site = Site(tmp_path)

    def happens(_: ShardReport) -> None:
        if second:
            cluster.remove_node(second.pop(), allow_graceful=False)

    shards = [shard(f"s{i}", "meet" if i < 10 else "wait") for i in range(20)]
    reported, noticed = do(cluster, site, *shards, happens=happens, cpus=2)
    assert sorted(reported) == sorted(one.id for one in shards)
    assert len(done(site)) == 20
    assert any(notice.event == "lost" for notice in noticed)
    assert rooms(site) == []


# ---------------------------------------------------------------- without a cluster
def test_actors_that_have_something_to_say_are_all_heard_in_one_round(tmp_path: Path) -> None:
    """Or later ones starve while the first ones talk."""

    def wait(words: list[str], *, num_returns: int = 1, **_: object) -> tuple[list[str], list[str]]:
        return words[:num_returns], words[num_returns:]

    ray = SimpleNamespace(
        nodes=lambda: [{"Alive": True, "Resources": {"CPU": 3}}],
        wait=wait,
        get=lambda word: (word, "node"),
        exceptions=SimpleNamespace(RayTaskError=KeyError, RayError=LookupError),
    )
    crew = _Crew(ray, Site(tmp_path), Queue([]), {"CPU": 1})
    crew.actors = [_Hired(None, f"room{i}", f"word{i}") for i in range(3)]
    heard = [event for event in crew._hear() if isinstance(event, Notice)]
    assert [notice.details["machine"] for notice in heard] == ["word0", "word1", "word2"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("It died.\n\tpid: 1\nIts process ended. Maybe (1) it had no memory.", "Its process ended"),
        ("no module pipeline.run", "no module pipeline.run"),
        (" ", "LookupError"),
    ],
)
def test_why_an_actor_was_lost_is_one_sentence(message: str, sentence: str) -> None:
    assert _sentence(LookupError(message)) == sentence


def test_a_ray_that_prints_by_other_means_is_put_up_with() -> None:
    with _printing_nothing(SimpleNamespace()):
        pass


# ---------------------------------------------------------------- runs
def flags(cluster: Any) -> tuple[str, ...]:
    return ("--executor", "ray", "--address", cluster.address)


def test_results_are_those_of_a_local_run_bit_for_bit(
    cluster: Any, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = {"workers": 0, "threads": 1}
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run=run)
    said = filterbank("run", config, *flags(cluster))
    assert (said.code, said.err) == (0, ""), said
    assert "done 130, failed 0" in said.out
    assert tree(tmp_path / "out") == tree(undisturbed)
    lines = map(json.loads, (tmp_path / "out/log.jsonl").read_text().splitlines())
    committed = [line["shard"] for line in lines if line["event"] == "committed"]
    assert len(committed) == len(set(committed)) == 3
    assert filterbank("run", config, *flags(cluster)).out.startswith("nothing to do")


def test_a_driver_that_is_killed_or_stopped_is_resumed_byte_identically(
    cluster: Any, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run = {"workers": 0, "threads": 2}  # so there is one actor
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run=run)
    root, chance = tmp_path / "out", random.Random(9)
    endings = [(signal.SIGKILL, -signal.SIGKILL)] * KILLS + [(signal.SIGTERM, 143)] * SLOW
    for number, code in endings:
        with forked("run", config, *flags(cluster)) as process:
            while not any(root.glob(".tmp/*-*")) and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 6))
            process.send_signal(number)
            said = finish(process, timeout=120)
        assert said.code in (code, 0), said
        assert "Traceback" not in said.err
    said = filterbank("run", config, *flags(cluster))
    assert said.code == 0, said
    assert tree(root) == tree(undisturbed)
    assert not (root / ".tmp").exists()


PLUGIN = '''
import os
import re
import signal
from pipeline.readers.base import READERS
from pipeline.readers.png import Png


@READERS.register("deadly")
class Deadly:
    """Reading it kills the process."""

    suffixes = (".deadly",)
    signature = re.compile(rb"DEADLY")

    def probe(self, path):
        return Png().probe(os.path.dirname(path) + "/000.png")

    def open(self, path, page):
        os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.mark.skipif(not SLOW, reason="starts a dozen actors; make faults, FILTERBANK_SLOW=1")
@pytest.mark.parametrize("workers", [0, 1], ids=["kills the actor", "kills its reader"])
def test_a_file_that_kills_whoever_reads_it_is_a_crashed_row_and_others_are_bit_identical(
    workers: int, tmp_path: Path
) -> None:
    for i in range(6):
        draw(tmp_path / f"in/{i:03}.png", seed=i)
    config = write_config(
        tmp_path / "c.yaml", tmp_path / "in", tmp_path / "with", run={"workers": workers}
    )
    assert filterbank("run", config, "--output", tmp_path / "without").code == 0
    (tmp_path / "in/003.deadly").write_text("DEADLY")
    (tmp_path / "sitecustomize.py").write_text(PLUGIN)
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    ray = ("--executor", "ray", "--address", "local")
    with started("run", config, *ray, env=env) as process:
        said = finish(process, timeout=300)
    assert said.code == 5, said
    assert "Traceback" not in said.err
    assert status_of(tmp_path / "with")["003.deadly"] == ("failed", "crashed")
    for table in ("images", "statistics", "regions", "maps"):
        found = rows(tmp_path / "with", table)
        others = {key: row for key, row in found.items() if key[0] != "003.deadly"}
        assert others == rows(tmp_path / "without", table), table


def test_without_ray_or_a_cluster_a_run_says_what_is_missing(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    said = filterbank("run", config, "--executor", "ray")
    assert (said.code, "write address: local" in said.err) == (2, True), said
    said = filterbank("run", config, "--executor", "ray", "--address", "auto")
    assert (said.code, "host:port" in said.err) == (2, True), said
    said = filterbank("run", config, "--executor", "ray", "--address", "127.0.0.1:1")
    assert (said.code, "no Ray cluster answers at 127.0.0.1:1" in said.err) == (10, True), said
    monkeypatch.setitem(sys.modules, "ray", None)
    said = filterbank("run", config, "--executor", "ray", "--address", "local")
    assert (said.code, "filterbank[ray]" in said.err) == (8, True), said

"""What the executor on a cluster does without one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import filterbank, write_config
from sites import Site

from pipeline.execute.cluster import _printing_nothing
from pipeline.execute.driver import Driver, _Hired
from pipeline.execute.queue import Queue
from pipeline.execute.ray import _Call, _Cluster, _sentence
from pipeline.types import Notice


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
    driver = Driver(_Cluster(ray, {"CPU": 1}), Site(tmp_path), Queue([]))
    driver.actors = [_Hired(_Call(ray, None, f"word{i}"), f"room{i}") for i in range(3)]
    heard = [event for event in driver._hear() if isinstance(event, Notice)]
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

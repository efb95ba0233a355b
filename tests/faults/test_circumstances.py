"""What changes around a run - config, code, input, clock, workers, order - is never mixed in."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import Figures, draw, filterbank, finish, forked, started, tree, write_config
from dying import deaths, put

from pipeline.fingerprint import _hash

SLOW = os.environ.get("FILTERBANK_SLOW") == "1"
DEATHS = int(os.environ.get("FILTERBANK_DEATHS", "2"))
"""Changes of the folder at which a run dies before something else changes; 20 in `make faults`."""

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images, two shards."""
    monkeypatch.setattr("pipeline.shards.SHARD_SOURCES", 2)
    for i in range(4):
        draw(tmp_path / f"in/{i}.png", seed=i, size=8)
    return write_config(tmp_path / "c.yaml", tmp_path / "in", tmp_path / "out")


def another_filter(config: Path, _: pytest.MonkeyPatch) -> None:
    write_config(config, config.parent / "in", config.parent / "out", filters=["laplacian"])


def another_statistic(config: Path, _: pytest.MonkeyPatch) -> None:
    write_config(config, config.parent / "in", config.parent / "out", statistics=["max"])


def another_arithmetic(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.plan.NUMERICS", 1000)


def another_image(config: Path, _: pytest.MonkeyPatch) -> None:
    draw(config.parent / "in/0.png", seed=100, size=8)


def other_bytes_of_the_same_size_and_time(config: Path, _: pytest.MonkeyPatch) -> None:
    path = config.parent / "in/0.png"
    old, kept = path.read_bytes(), path.stat()
    for seed in range(100, 1000):
        if len(draw(path, seed, size=8).read_bytes()) == len(old) and path.read_bytes() != old:
            break
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    _hash.cache_clear()  # a command starts with it empty


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        (another_filter, ()),
        (another_statistic, ()),
        (another_arithmetic, ()),
        (another_image, ()),
        (other_bytes_of_the_same_size_and_time, ("--verify",)),
    ],
)
def test_what_changed_between_a_kill_and_the_next_run_ends_as_a_clean_run(
    changes: Callable[[Path, pytest.MonkeyPatch], None],
    flags: tuple[str, ...],
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figures: Figures,
) -> None:
    root, chance = tmp_path / "out", random.Random(12)
    original, first = config.read_text(), (tmp_path / "in/0.png").read_bytes()
    root.mkdir()
    states = deaths(root, lambda: filterbank("run", config))
    refused = 0
    for i in range(DEATHS):
        config.write_text(original)
        (tmp_path / "in/0.png").write_bytes(first)
        put(root, chance.choice(states))
        with monkeypatch.context() as patches:
            changes(config, patches)
            said = filterbank("run", config, *flags)
            if said.code == 3:
                refused += 1
                digest = said.err.split("another plan (")[1][:8]
                said = filterbank("run", config, *flags, "--overwrite", digest)
            assert said.code == 0, said
            fresh = tmp_path / f"fresh{i}"
            assert filterbank("run", config, "--output", fresh).code == 0
        assert tree(root) == tree(fresh)
    figures(f"died {DEATHS} times, {refused} refused with 3 and overwritten, all as a clean run")


def constant(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def jumping() -> Callable[[], float]:
    chance = random.Random(13)
    return lambda: chance.uniform(0, 2**33)


@pytest.mark.parametrize(
    "clock",
    [constant(0), constant(2**31 + 10), constant(time.time() - 10 * 365 * 86400), jumping()],
    ids=["1970", "2038", "-10y", "jumping"],
)
def test_the_clock_decides_nothing(
    clock: Callable[[], float], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filterbank("run", config, "--output", tmp_path / "undisturbed").code == 0
    monkeypatch.setattr(time, "time", clock)
    assert filterbank("run", config, "--limit", 2).code == 0
    said = filterbank("run", config)
    assert said.out.startswith("done 2, failed 0, unchanged 2")
    assert 0 <= json.loads((tmp_path / "out/run.json").read_bytes())["counts"]["seconds"] < 600
    assert filterbank("run", config).out.startswith("nothing to do")
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.skipif(not SLOW, reason="processes with another clock: make faults, FILTERBANK_SLOW=1")
@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed")
@pytest.mark.parametrize("clock", ["@1970-01-01 00:00:10", "@2038-01-19 03:14:00", "-10y", "+0 i9"])
def test_the_clock_of_a_whole_process_decides_nothing(
    clock: str, images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """`+0 i9`: every look at the clock moves it by nine seconds."""
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out", run={"workers": 1})
    fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    with started("run", config, env=fake) as process:
        said = finish(process, 300)
    assert said.code == 0, said
    assert tree(tmp_path / "out") == tree(undisturbed)


def test_the_order_in_which_a_disk_lists_files_decides_nothing(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filterbank("run", config, "--output", tmp_path / "undisturbed").code == 0
    chance = random.Random(14)

    def shuffled(folder: str) -> list[os.DirEntry[str]]:
        entries = list(os.scandir(folder))
        chance.shuffle(entries)
        return entries

    other = SimpleNamespace(**{**vars(os), "scandir": shuffled})
    monkeypatch.setattr("pipeline.discover.os", other)
    for i in range(3):
        assert filterbank("run", config, "--output", tmp_path / f"{i}").code == 0
        assert tree(tmp_path / f"{i}") == tree(tmp_path / "undisturbed")


HOWS = [("--workers", 2, "--batch", 3), ("--workers", 1), ("--workers", 8), ("--threads", 3)]


@pytest.mark.parametrize("how", HOWS if SLOW else HOWS[:1])
def test_workers_batches_and_threads_decide_nothing(
    how: tuple[object, ...], images: Path, undisturbed: Path, tmp_path: Path
) -> None:
    config = write_config(tmp_path / "c.yaml", images, tmp_path / "out")
    with forked("run", config, *how) as process:
        assert finish(process).code == 0
    assert tree(tmp_path / "out") == tree(undisturbed)

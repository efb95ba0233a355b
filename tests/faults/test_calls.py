"""Killed at, or refused by, any system call on its output folder, a run leaves nothing torn."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import Figures, draw, filterbank, tree, write_config
from tracing import Point, Trace, inject, need_strace, watch

POINTS = int(os.environ.get("FILTERBANK_POINTS", "2"))
"""Calls to try in each test; `make faults` tries them all: FILTERBANK_POINTS=0."""

SLOW = os.environ.get("FILTERBANK_SLOW") == "1"
LONG = pytest.mark.skipif(not SLOW, reason="more of the same: make faults, FILTERBANK_SLOW=1")

ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Case:
    """A run, what the folder holds before and after it, the calls it makes, how many to try."""

    config: Path
    root: Path
    before: dict[str, bytes]
    after: dict[str, bytes]
    trace: Trace
    many: int = POINTS

    def chosen(self, shift: float) -> Iterator[tuple[int, Point]]:
        """Every call, or some of those that do not just go on with a file; shifts give others."""
        points = list(enumerate(self.trace.points))
        if not self.many:
            return iter(points)
        points = [(i, point) for i, point in points if not point.goes_on]
        return (points[int((i + shift) * len(points) / self.many)] for i in range(self.many))

    def set_back(self) -> None:
        """The folder as it was before the run."""
        shutil.rmtree(self.root, ignore_errors=True)
        for name, data in self.before.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def check_whole(self) -> None:
        """Each file under a final name is, byte for byte, the old one or the new one."""
        for name, data in tree(self.root).items():
            if not name.startswith(".tmp/") and not name.endswith(".tmp"):
                assert data in (self.before.get(name), self.after.get(name)), f"{name} is torn"
        if (self.root / "run.json").exists():
            json.loads((self.root / "run.json").read_bytes())

    def check_resumed(self) -> None:
        """Run again, it ends as an undisturbed one, with nothing left over."""
        said = filterbank("run", self.config, "--workers", 0)
        assert said.code == 0, said
        assert tree(self.root) == self.after


CARELESS = """
from pipeline.commit import Staging

def path(self, final):
    target = self.root / final
    target.parent.mkdir(parents=True, exist_ok=True)
    return target

Staging.path = path
Staging.commit = lambda self, remove=(): None
"""
"""A writer without a journal, that writes files under their final names."""


@pytest.fixture(
    scope="module", params=["fresh", "supersede", pytest.param("with readers", marks=LONG)]
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three images from nothing; and two shards, as one of them has changed and one is new.

    With readers: that, read in two processes; never tried at all calls, which are the same ones.
    """
    need_strace()
    folder = tmp_path_factory.mktemp("calls")
    root, before = folder / "out", dict[str, bytes]()
    for i in range(3):
        draw(folder / f"in/{i}.png", seed=i, size=8)
    run = {"threads": 1, "workers": 2 * (request.param == "with readers")}
    config = write_config(folder / "c.yaml", folder / "in", root, run=run)
    if request.param != "fresh":
        assert filterbank("run", config).code == 0
        before = tree(root)
        draw(folder / "in/1.png", seed=11, size=8)
        draw(folder / "in/3.png", seed=3, size=8)
    trace = watch(root, "run", config)
    many = POINTS if request.param != "with readers" else POINTS or 100
    return Case(config, root, before, tree(root), trace, many)


def test_killed_at_any_call_a_run_leaves_whole_files_and_resumes_identically(
    case: Case, figures: Figures
) -> None:
    assert len(case.trace.points) > 50
    tried = 0
    for i, point in case.chosen(0.6):
        case.set_back()
        said = inject(case.trace, point.once("signal=SIGKILL"), "run", case.config)
        assert said.code == -signal.SIGKILL, (i, point.line, said)
        case.check_whole()
        case.check_resumed()
        tried += 1
    figures(f"killed at {tried} of {len(case.trace.points)} calls, survived {tried}")


def test_killed_between_the_renames_of_a_commit_the_next_run_finishes_it(case: Case) -> None:
    renames = [point for point in case.trace.points if point.call.startswith("rename")]
    shards = {
        name[len("images/part-") : -len(".parquet")] for name in case.after if "images/" in name
    }
    journals = [any(f'.tmp/{shard}.json")' in point.line for shard in shards) for point in renames]
    second = renames[journals.index(True) + 2]
    case.set_back()
    assert inject(case.trace, second.once("signal=SIGKILL"), "run", case.config).code < 0
    assert list(case.root.glob(".tmp/*.json")), "decided, and not finished"
    case.check_whole()
    case.check_resumed()


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "sticky"])
def test_refused_at_any_call_a_run_says_so_and_resumes_identically(
    sticky: bool, case: Case, figures: Figures
) -> None:
    """The exit code is 7, or 0 where tidying up was refused and all is done without it."""
    tried = refused = 0
    for i, point in case.chosen(0.8 if sticky else 0.4):
        case.set_back()
        number = ERRORS[i % len(ERRORS)]
        what = f"error={errno.errorcode[number]}"
        disturb = point.sticky(what) if sticky else point.once(what)
        said = inject(case.trace, disturb, "run", case.config)
        case.check_whole()
        assert said.code in (0, 7), (i, point.line, said)
        if said.code == 7:
            assert f"cannot write to {case.root}: {os.strerror(number)}" in said.err
            assert "Traceback" not in said.err
        else:
            assert case.after.items() <= tree(case.root).items(), (i, point.line)
        case.check_resumed()
        tried, refused = tried + 1, refused + (said.code == 7)
    figures(
        f"refused {tried} of {len(case.trace.points)} calls, survived {tried}, code 7 {refused}"
    )


def test_a_careless_writer_is_caught_by_these_kills(tmp_path: Path) -> None:
    """What it had begun to write is found torn: these tests can fail."""
    need_strace()
    draw(tmp_path / "in/0.png", seed=0, size=8)
    root = tmp_path / "out"
    config = write_config(tmp_path / "c.yaml", tmp_path / "in", root, run={"threads": 1})
    trace = watch(root, "run", config, setup=CARELESS)
    case = Case(config, root, {}, tree(root), trace)
    begun = next(p for p in trace.points if p.goes_on and "/statistics/part-" in p.line)
    case.set_back()
    said = inject(trace, begun.once("signal=SIGKILL"), "run", config, setup=CARELESS)
    assert said.code == -signal.SIGKILL
    with pytest.raises(AssertionError, match="is torn"):
        case.check_whole()

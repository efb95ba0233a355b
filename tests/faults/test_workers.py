"""Processes that do tasks for another, and what happens when an item holds one up or kills it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import PlanError, ReaderCrashed
from pipeline.types import Failure
from pipeline.workers import letters
from pipeline.workers.bounds import Begin, Bounds, Guard
from pipeline.workers.pool import Crew, in_order


@dataclass(frozen=True)
class Errand:
    """Words for `run`, each said to a process; `failed` are those not to be said."""

    words: tuple[str, ...]
    failed: Mapping[int, Failure] = field(default_factory=dict)

    def alone(self, item: int) -> Errand:
        return Errand((self.words[item],))

    def without(self, item: int, failure: Failure) -> Errand:
        return replace(self, failed={**self.failed, item: failure})


@dataclass(frozen=True)
class Runner:
    """Does what words say; a line in `diary` for each that is begun."""

    diary: Path

    def __call__(self, errand: Errand, begin: Begin) -> list[str]:
        said = []
        for i, word in enumerate(errand.words):
            if i in errand.failed:
                said.append(errand.failed[i].kind)
                continue
            begin(i)
            with self.diary.open("a") as file:
                file.write(f"{word}\n")
            self.run(word)
            said.append(word)
        return said

    def run(self, word: str) -> None:
        if word == "hang":
            ctypes.PyDLL(None).sleep(600)  # in C, and Python's lock is held meanwhile
        elif word == "crash" or (word == "unlucky" and self.times(word) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "haunted" and self.times(word) % 2:
            os._exit(9)
        elif word == "mute":
            for path in Path("/dev/fd").iterdir():
                if path.is_socket():
                    os.close(int(path.name))
            time.sleep(600)
        elif word == "raise":
            message = "a defect"
            raise LookupError(message)

    def times(self, word: str) -> int:
        return self.diary.read_text().splitlines().count(word)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "diary")


def send(runner: Runner, *errands: str, count: int = 2, seconds: float = 30) -> Iterator[list[str]]:
    tasks = (Errand(tuple(errand.split())) for errand in errands)
    return in_order(runner, tasks, Crew(count, "fork", Bounds(seconds)))


def test_answers_come_in_the_order_of_tasks(runner: Runner) -> None:
    errands = [f"{i} {i + 1}" for i in range(30)]
    assert list(send(runner, *errands, count=3)) == [errand.split() for errand in errands]


def test_what_hangs_costs_its_time_once_and_its_neighbours_nothing(runner: Runner) -> None:
    began = time.monotonic()
    found = list(send(runner, "a b hang c", "d", "e", "f", seconds=2))
    took = time.monotonic() - began
    assert found == [["a", "b", "timeout", "c"], ["d"], ["e"], ["f"]]
    assert runner.times("hang") == 1
    assert 2 <= took < 2 + 5, "the limit, and what a busy machine adds"


def test_what_kills_its_process_is_tried_once_alone_and_costs_its_neighbours_nothing(
    runner: Runner,
) -> None:
    found = list(send(runner, "a crash b crash", "c", "crash"))
    assert found == [["a", "crashed", "b", "crashed"], ["c"], ["crashed"]]
    assert runner.times("crash") == 6


def test_an_item_whose_process_was_killed_by_another_hand_is_not_failed(runner: Runner) -> None:
    assert list(send(runner, "a unlucky b", "c")) == [["a", "unlucky", "b"], ["c"]]


def test_an_item_that_kills_only_in_company_is_failed_in_the_end(runner: Runner) -> None:
    assert list(send(runner, "a haunted b", "c")) == [["a", "crashed", "b"], ["c"]]


def test_an_exception_of_the_duty_reaches_the_caller_with_its_traceback(runner: Runner) -> None:
    found = send(runner, "a", "b raise", "c")
    assert next(found) == ["a"]
    with pytest.raises(LookupError, match="a defect") as caught:
        next(found)
    assert "in run\n" in caught.value.__notes__[0]


@pytest.mark.parametrize(("deaths", "gives_up"), [(2, False), (3, True)])
def test_processes_that_die_before_they_begin_end_the_run_in_the_end(
    tmp_path: Path, deaths: int, gives_up: bool
) -> None:
    def ailing(errand: Errand, begin: Begin) -> tuple[str, ...]:
        past = len([*tmp_path.iterdir()])
        if past < deaths:
            (tmp_path / str(past)).touch()
            os._exit(3)
        return errand.words

    found = in_order(ailing, [Errand(("a",))], Crew(1, "fork", Bounds()))
    if gives_up:
        with pytest.raises(ReaderCrashed, match="keep dying: the last one ended with exit code 3"):
            next(found)
    else:
        assert list(found) == [("a",)]


@pytest.mark.parametrize(
    ("error", "says"),
    [(EOFError(), "the server .* died"), (BlockingIOError(11, "try again"), "try again")],
    ids=["server", "system"],
)
def test_that_no_process_can_be_started_is_said_in_a_sentence(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fork() -> int:
        raise error

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(ReaderCrashed, match=f"cannot be started: {says}; try --workers 0"):
        next(send(runner, "a"))


def test_memory_is_bounded_unless_the_header_says_that_more_is_needed() -> None:
    def greedy(errand: Errand, begin: Begin) -> list[bool]:
        given = []
        for i, needs in enumerate(map(int, errand.words)):
            begin(i, needs=needs)
            try:
                given.append(np.empty(1 << 28, np.uint8).size > 0)
            except MemoryError:
                given.append(False)
        return given

    crew = Crew(1, "fork", Bounds(memory=1 << 27))
    assert next(in_order(greedy, [Errand(("0", str(1 << 29), "1"))], crew)) == [False, True, False]


def test_what_no_item_does_is_not_bounded() -> None:
    """Neither what was taken before a task, as by an import, nor what follows the last item."""

    def late(errand: Errand, begin: Begin) -> int:
        before = np.empty(1 << 27, np.uint8)
        begin(0)
        item = np.empty(1 << 26, np.uint8)
        begin(None)
        time.sleep(0.4)
        return before.size + item.size + np.empty(1 << 28, np.uint8).size * len(errand.words)

    found = in_order(late, [Errand(("a",))], Crew(1, "fork", Bounds(0.3, 1 << 27)))
    assert list(found) == [(1 << 27) + (1 << 26) + (1 << 28)]


def test_an_alarm_is_over_before_the_next_item_begins() -> None:
    class Watched:
        def __setattr__(self, name: str, number: int) -> None:
            assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
            super().__setattr__(name, number)

    guard, letter = Guard(Bounds(seconds=100)), Watched()
    try:
        for item in range(2):
            guard.begin(letter, item)  # type: ignore[arg-type]
            assert letter.begun == item + 1  # type: ignore[attr-defined]
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    finally:
        guard.end()


def test_a_process_that_closes_its_channel_and_stays_is_killed(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workers.pool._GRACE", 0.1)
    assert list(send(runner, "a mute b", "c")) == [["a", "crashed", "b"], ["c"]]


def test_a_letter_that_is_one_file_too_many_is_said_in_a_sentence() -> None:
    ours, theirs = socket.socketpair()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        letters.send(theirs, "word")
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        try:
            with pytest.raises(PlanError, match=r"more files are open .*; raise `ulimit -n`"):
                letters.receive(ours)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


@dataclass(frozen=True)
class Arrays:
    """Arrays and tensors as an answer, of all that a batch may hold."""

    found: tuple[object, ...]


def test_arrays_and_tensors_arrive_as_they_were_and_can_be_written_to() -> None:
    arrays = [np.arange(24).astype(d).reshape(2, 3, 4) for d in ("u1", "u2", "u8", "f8", "?")]
    arrays += [np.empty((0, 3)), np.asfortranarray(arrays[3][0])]

    def answer(errand: Errand, begin: Begin) -> Arrays:
        return Arrays((*arrays, *map(torch.from_numpy, arrays)))

    (found,) = in_order(answer, [Errand(())], Crew(1, "fork", Bounds()))
    for got, want in zip(found.found, arrays * 2, strict=True):
        array = np.asarray(got)
        np.testing.assert_array_equal(array, want, strict=True)
        array[...] = 0
    assert all(isinstance(one, torch.Tensor) for one in found.found[len(arrays) :])

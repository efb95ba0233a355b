"""Tasks -> answers, in order, from processes that may die of any item of a task.

Which item a process works on stands in the letter that holds the task, so whoever finds it dead
knows the item. One that took too long is guilty. One that died is tried once by itself in a process
of its own, for the system may have killed whoever took most memory; if it dies of that again, it is
guilty. A guilty item is failed, and its task is done without it.
"""

from __future__ import annotations

import signal
import socket
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, cycle, islice
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Generic, Literal, Protocol, Self, TypeAlias, TypeVar

from pipeline.errors import ReaderCrashed
from pipeline.types import Failure
from pipeline.workers.bounds import Begin, Bounds, Guard
from pipeline.workers.letters import Letter, receive, send
from pipeline.workers.start import become_worker, holding_signals, start_forkserver

_AHEAD = 2
"""Tasks that each process has been handed."""
_TRIALS = 2
"""How often an item may kill a process that then survives it alone."""
_GRACE = 1.0
"""Seconds that processes have to end when they are needed no more, or can do no more."""
_PROCESSES: dict[str, Callable[..., BaseProcess]] = {
    "fork": get_context("fork").Process,
    "forkserver": get_context("forkserver").Process,
}
_IN_VAIN = 3
"""Deaths in a row that no item is to blame for, after which nothing helps."""


class Task(Protocol):
    """Items to work on together; pickles."""

    def alone(self, item: int) -> Self:
        """One item by itself."""
        ...

    def without(self, item: int, failure: Failure) -> Self:
        """The same task, with an item known to be unusable."""
        ...


T = TypeVar("T", bound=Task)
R = TypeVar("R")
Duty: TypeAlias = Callable[[T, Begin], R]
"""What is done with a task: says which item begins, and returns the answer. Pickles."""


@dataclass(frozen=True)
class Crew:
    """How many processes, how they start, and what each may take for an item.

    fork: a copy of this process; forkserver: of one that has imported torch, or soon will have.
    """

    count: int
    start: Literal["fork", "forkserver"]
    bounds: Bounds


def in_order(duty: Duty[T, R], tasks: Iterable[T], crew: Crew) -> Generator[R, None, None]:
    """Do tasks in processes, a few ahead of what is asked for; process i does every n-th of them.

    Raises what the duty raises, and ReaderCrashed when processes die before they begin an item, or
    cannot be started.
    """
    tasks = iter(tasks)
    first = list(islice(tasks, crew.count))
    workers: list[_Worker[T, R]] = []
    waiting: deque[_Order[T, R]] = deque()
    try:
        workers.extend(_Worker(duty, crew) for _ in first)
        for worker, task in zip(cycle(workers), chain(first, tasks), strict=False):
            waiting.append(_Order(task))
            worker.hand(waiting[-1])
            if len(waiting) > _AHEAD * len(workers):
                yield _answer(waiting.popleft(), workers)
        while waiting:
            yield _answer(waiting.popleft(), workers)
    finally:
        _dismiss(workers)


@dataclass(eq=False)
class _Order(Generic[T, R]):
    """A task on its way: `done` holds its answer, or the error that came instead."""

    task: T
    deaths: Counter[int] = field(default_factory=Counter)
    done: _Answer[R] | None = None


@dataclass(frozen=True)
class _Answer(Generic[R]):
    value: R | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Handed(Generic[T, R]):
    """What a process was given; item: the one that it tries alone, its answer is dropped."""

    order: _Order[T, R]
    letter: Letter
    item: int | None


def _answer(order: _Order[T, R], workers: list[_Worker[T, R]]) -> R:
    """Wait for an answer, and take in what else has come."""
    while True:
        channels = {worker.channel.fileno(): worker for worker in workers}
        for ready in wait(list(channels), timeout=None if order.done is None else 0):
            channels[ready].collect()  # type: ignore[index]
        if order.done is not None:
            break
    if order.done.error is not None:
        raise order.done.error
    return order.done.value  # type: ignore[return-value]


class _Worker(Generic[T, R]):
    """A process that is started anew when it dies, and what it has yet to answer, oldest first."""

    def __init__(self, duty: Duty[T, R], crew: Crew) -> None:
        self.duty, self.crew = duty, crew
        self.handed: deque[_Handed[T, R]] = deque()
        self.in_vain = 0
        self.process, self.channel = _launch(duty, crew)

    def hand(self, order: _Order[T, R], item: int | None = None) -> None:
        """Give it a task, or one item of it to try alone."""
        task = order.task if item is None else order.task.alone(item)
        self.handed.append(_Handed(order, send(self.channel, task), item))

    def collect(self) -> None:
        """Take in an answer, or that there will be none."""
        letter = receive(self.channel)
        if letter is None:
            self._begin_again()
            return
        self.in_vain = 0
        handed = self.handed.popleft()
        if handed.item is None:
            handed.order.done = letter.content()

    def _begin_again(self) -> None:
        """Hand a new process what the dead one left undone, without what that died of."""
        self.process.join(_GRACE)  # it closed the channel, which is not to say that it ended
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.channel.close()
        left, self.handed = self.handed, deque()
        suspect = self._judge(left[0], code) if left else None
        self.process, self.channel = _launch(self.duty, self.crew)
        if suspect is not None:
            self.hand(left[0].order, suspect)
        for handed in left:
            if handed.item is None:
                self.hand(handed.order)

    def _judge(self, last: _Handed[T, R], code: int | None) -> int | None:
        """Fail the item that a process died of, or say which one is to be tried alone."""
        if not last.letter.begun:
            self.in_vain += 1
            if self.in_vain == _IN_VAIN:
                message = f"reader processes keep dying: the last one {cause(code)}"
                raise ReaderCrashed(message)
            return None
        order = last.order
        item = last.letter.begun - 1 if last.item is None else last.item
        order.deaths[item] += 1
        if code == -signal.SIGALRM:
            failure = self.crew.bounds.too_slow
        elif last.item is None and order.deaths[item] <= _TRIALS:
            return item
        else:
            failure = Failure("crashed", f"the process that read this file {cause(code)}")
        order.task = order.task.without(item, failure)
        return None


def _dismiss(workers: Sequence[_Worker[T, R]]) -> None:
    """End processes: those that have nothing to do by themselves, others do no more than read."""
    for worker in workers:
        with worker.channel, suppress(OSError):  # it is dead already
            worker.channel.shutdown(socket.SHUT_WR)  # forks may hold it open
    late = time.monotonic() + _GRACE
    for worker in workers:
        worker.process.join(max(0.0, late - time.monotonic()))
        worker.process.kill()
        worker.process.join()


def _launch(duty: Duty[T, R], crew: Crew) -> tuple[BaseProcess, socket.socket]:
    """A new process, and what connects us. Raises ReaderCrashed where there can be none."""
    with holding_signals(), warnings.catch_warnings():  # as in `start`, of threads that cope
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            if crew.start == "forkserver":
                start_forkserver()
            ours, theirs = socket.socketpair()
            with theirs:
                work = (theirs, duty, crew.bounds)
                process = _PROCESSES[crew.start](target=_serve, args=work, daemon=True)
                process.start()
        except (EOFError, OSError) as error:  # EOFError: the server died of what it was asked
            reason = getattr(error, "strerror", None) or "the server that forks them died"
            message = f"reader processes cannot be started: {reason}; try --workers 0"
            raise ReaderCrashed(message) from error
    return process, ours


def _serve(channel: socket.socket, duty: Duty[T, R], bounds: Bounds) -> None:
    """What a process does until the main one is gone."""
    become_worker()
    guard = Guard(bounds)
    while (letter := receive(channel)) is not None:
        answer: _Answer[R]
        try:
            answer = _Answer(duty(letter.content(), partial(guard.begin, letter)))
        except Exception as error:
            error.add_note(traceback.format_exc())
            answer = _Answer(error=error)
        finally:
            guard.end()
        send(channel, answer)


def cause(code: int | None) -> str:
    """How a process ended, from its exit code."""
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"

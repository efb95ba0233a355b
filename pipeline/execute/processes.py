"""Run shards in several processes of this machine: threads of one wait for Python's lock."""

from __future__ import annotations

import socket
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from pipeline.errors import ReaderCrashed
from pipeline.execute.actor import TICK, Actor, Site
from pipeline.execute.driver import Driver, Event, Lost
from pipeline.execute.queue import Queue
from pipeline.heap import keep_memory
from pipeline.types import Shard
from pipeline.workers.letters import receive, send
from pipeline.workers.pool import cause
from pipeline.workers.start import become_worker, deaf, holding_signals

_GRACE = 1.0
"""Seconds that a process has to end once it has closed its line."""


def run_processes(site: Site, shards: Sequence[Shard], count: int) -> Iterator[Event]:
    """Work through shards in so many processes. Raises what `Driver.run` does."""
    driver = Driver(_Here(count), site, Queue(shards))
    try:
        yield from driver.run({shard.id for shard in shards})
    finally:
        driver.dismiss()


@dataclass(frozen=True)
class _Here:
    """This machine, with room for some actors."""

    count: int

    def places(self) -> int:
        """How many there may be."""
        return self.count

    def hire(self, site: Site, room: str) -> _Pipe:
        """Start one, in a fresh interpreter: it shall have readers and threads of its own.

        Raises ReaderCrashed where the system has no room for one more.
        """
        try:
            with ExitStack() as undone:
                ours, theirs = socket.socketpair()
                undone.callback(ours.close)
                with theirs, holding_signals(), deaf():
                    process = get_context("spawn").Process(target=_serve, args=(theirs,))
                    process.start()
                undone.callback(process.kill)
                send(ours, (site, room))
                undone.pop_all()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"a process that computes cannot be started: {reason}; lower --threads"
            raise ReaderCrashed(message) from error
        return _Pipe(process, ours)

    def ready(self, lines: Sequence[_Pipe]) -> Sequence[_Pipe]:
        """Those on which there is a word, or that are closed; waits for one, a tick at most."""
        by_number = {line.channel.fileno(): line for line in lines}
        return [by_number[number] for number in wait(list(by_number), TICK)]  # type: ignore[index]

    def gone(self, node: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """We run on it."""
        return False


@dataclass(eq=False)
class _Pipe:
    """What connects us with a process."""

    process: BaseProcess
    channel: socket.socket

    def hand(self, shards: Sequence[Shard]) -> None:
        """Have it work on shards."""
        send(self.channel, shards)

    def word(self) -> Any:
        """What it says next; None at the end of an assignment. Raises Lost."""
        letter = receive(self.channel)
        if letter is None:
            self.process.join(_GRACE)  # it closed the line, which is not to say that it ended
            self.process.kill()
            self.process.join()
            reason = f"the process {cause(self.process.exitcode)}"
            raise Lost(reason)
        word = letter.content()
        if isinstance(word, _Defect):
            raise word.raised()
        return word

    def end(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.channel.close()


@dataclass(frozen=True)
class _Defect:
    """What an actor raised, in words, as not every exception can be sent: a defect of ours."""

    error: str
    trace: str

    def raised(self) -> RuntimeError:
        """What the driver raises."""
        error = RuntimeError(self.error)
        error.add_note(self.trace)
        return error


def _serve(channel: socket.socket) -> None:
    """What a process does until the driver is gone."""
    become_worker()
    keep_memory()
    first = receive(channel)
    if first is None:
        return
    try:
        actor = Actor(*first.content())
        send(channel, actor.enter())
        while (letter := receive(channel)) is not None:
            for word in actor.work(letter.content()):
                send(channel, word)
            send(channel, None)
    except Exception as error:
        send(channel, _Defect(f"{type(error).__name__}: {error}", traceback.format_exc()))

"""A connection to a Ray cluster: made, kept quiet, and closed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import Any
from unittest.mock import patch

from pipeline.errors import DeviceError, MissingDependency

_STORE = 100 << 20
"""Bytes of Ray's shared memory on this machine: nothing but reports travels through it."""


def require() -> None:
    """Raise MissingDependency where Ray is not installed."""
    if find_spec("ray") is None:
        message = "run.executor ray needs the extra filterbank[ray]; install it"
        raise MissingDependency(message)


@contextmanager
def connected(address: str) -> Iterator[tuple[Any, Callable[[], None]]]:
    """The module `ray`, connected, and a function that lets signals through that came meanwhile.

    `local` starts a cluster of this machine, which ends with us. Nothing is sent to Ray's makers,
    no port is opened for people, and nothing is printed: what Ray would say of lost processes is
    in log.jsonl. Raises MissingDependency, and DeviceError when nobody answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # or actors without a GPU warn
    require()
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address != "local":
        _reach(address)
    else:
        os.environ.setdefault("MALLOC_ARENA_MAX", "1")  # what `heap` wants, before an actor starts
        options |= {"include_dashboard": False, "object_store_memory": _STORE}
    signals = _Signals()
    with _printing_nothing(ray):
        try:
            signals.hold()
            try:
                ray.init(address, **options)
            except SystemExit:  # of the handler of SIGTERM that Ray sets
                signals.note(signal.SIGTERM, None)
            except ConnectionError as error:
                raise _nobody(address, error) from error
            signals.hold()
            signals.deliver()
            yield ray, signals.deliver
        finally:
            ray.shutdown()
            signals.deliver()
            signals.release()


@contextmanager
def _printing_nothing(ray: Any) -> Iterator[None]:
    """Ray has no public word for it; a release without this one prints what it likes."""
    worker = getattr(getattr(ray, "_private", None), "worker", None)
    if not hasattr(worker, "print_to_stdstream"):
        yield
        return
    with patch.object(worker, "print_to_stdstream", lambda *_, **__: None):
        yield


def _reach(address: str) -> None:
    """Raise DeviceError where nobody listens: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _nobody(address, error) from error


def _nobody(address: str, reason: Exception) -> DeviceError:
    return DeviceError(f"no Ray cluster answers at {address} ({reason}); start it, or name another")


class _Signals:
    """SIGINT and SIGTERM, held back: what their handlers raise inside of Ray is lost there."""

    def __init__(self) -> None:
        self._came: list[int] = []
        self._handlers: dict[int, Any] = {}

    def hold(self) -> None:
        """Begin, and again when somebody has put a handler of his own."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers.setdefault(number, signal.signal(number, self.note))

    def note(self, number: int, _: FrameType | None) -> None:
        """Keep a signal for later."""
        self._came.append(number)

    def deliver(self) -> None:
        """Let the first signal through that came, and all that come from now on."""
        if self._came:
            self.release()
            signal.raise_signal(self._came.pop(0))

    def release(self) -> None:
        """Give the handlers back."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

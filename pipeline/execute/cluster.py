"""A connection to a Ray cluster: made, kept quiet, and closed."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from pipeline.errors import DeviceError, MissingDependency

_STORE = 100 << 20
"""Bytes of Ray's shared memory on this machine: nothing but reports travels through it."""


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected; `local` starts a cluster of this machine, which ends with us.

    Nothing is sent to Ray's makers, no port is opened for people, and nothing is printed: what Ray
    would say of lost processes stands in log.jsonl. Raises MissingDependency, and DeviceError when
    nobody answers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # or actors without a GPU warn
    try:
        import ray
        from ray._private import worker
    except ImportError as error:
        message = "run.executor ray needs the extra filterbank[ray]; install it"
        raise MissingDependency(message) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _STORE}
    with patch.object(worker, "print_to_stdstream", lambda *_, **__: None):  # has no public word
        try:
            with _own_signals():
                ray.init(address, **options)
            yield ray
        except ConnectionError as error:
            message = f"no Ray cluster answers at {address}; start one, or name another: {error}"
            raise DeviceError(message) from error
        finally:
            ray.shutdown()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handler of SIGTERM: Ray sets one, which exits, and says nothing of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours, asked = signal.getsignal(signal.SIGTERM), False
    try:
        yield
    except SystemExit:
        asked = True
    finally:
        signal.signal(signal.SIGTERM, ours)
    if asked:
        signal.raise_signal(signal.SIGTERM)

"""Who may write below a place of an object store: the holder of the newest lease.

Leases are objects `.lock/000001`, `.lock/000002` ..., each created where there was none, so only
one process gets a number. A process that holds one puts it again from time to time. One that is
released, that nobody put for `TIME_TO_LIVE` seconds of the store's own clock, or whose process is
known to be gone, is followed by the next number; its holder finds that out before it commits.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import Locked, PlanError
from pipeline.storage import ObjectPath

TIME_TO_LIVE = float(os.environ.get("FILTERBANK_LEASE_SECONDS", "120"))
"""Seconds after which a lease that was not renewed is anybody's; renewed four times as often."""

_numbers: dict[ObjectPath, int] = {}
"""The leases that this process holds, by root."""


@contextmanager
def held(root: ObjectPath) -> Iterator[None]:
    """Hold the newest lease of a place. Raises Locked, naming its holder, PlanError, OSError."""
    now = _probe(root)
    before = _taken(root)
    if before:
        _refuse_taken(root, before[-1], now)
    me = _me()
    number = before[-1] + 1 if before else 1
    if not _path(root, number).create(_written(me)):
        message = f"{root} was taken by another run just now; wait for it, or --if-locked skip"
        raise Locked(message)
    _numbers[root] = number
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(root, number, me, ended), daemon=True)
    renewing.start()
    try:
        for old in before:
            _path(root, old).unlink(missing_ok=True)
        yield
    finally:
        ended.set()
        renewing.join(TIME_TO_LIVE / 4)
        del _numbers[root]
        with suppress(OSError):  # it runs out by itself
            _path(root, number).write_bytes(_written({**me, "released": True}))


def number_of(root: ObjectPath) -> int:
    """The lease that this process holds; 0: none."""
    return _numbers.get(root, 0)


def check(root: ObjectPath) -> None:
    """Raise Locked where another run has taken the place over."""
    if _newest(root) > number_of(root):
        message = (
            f"another run took {root} over, because this one was not heard of for "
            f"{TIME_TO_LIVE:g} s; what was committed stays"
        )
        raise Locked(message)


def _probe(root: ObjectPath) -> int:
    """The store's time in nanoseconds. Raises PlanError where it creates what exists already."""
    probe = root / ".lock" / f"probe-{uuid.uuid4().hex}"
    try:
        if not probe.create(b"first") or probe.create(b"second"):
            message = (
                f"{root}: this store creates an object that exists already (If-None-Match is not "
                "heeded), so two runs could not be kept apart; use another store, or a local folder"
            )
            raise PlanError(message)
        return probe.stat().st_mtime_ns
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _refuse_taken(root: ObjectPath, number: int, now: int) -> None:
    try:
        age = (now - _path(root, number).stat().st_mtime_ns) / 1e9
        holder = json.loads(_path(root, number).read_bytes())
    except FileNotFoundError:
        return  # released and followed meanwhile: creating the next one will say so
    except ValueError:
        holder = {}
    if holder.get("released") or age > TIME_TO_LIVE or _is_gone(holder):
        return
    name = f"process {holder.get('pid')} on {holder.get('host')}" if holder else "another process"
    message = (
        f"{root} is in use by {name}, heard of {max(0, age):.0f} s ago; wait for it, or use "
        "--if-locked skip"
    )
    raise Locked(message)


def _renew(root: ObjectPath, number: int, me: dict[str, object], ended: threading.Event) -> None:
    while not ended.wait(TIME_TO_LIVE / 4):
        with suppress(OSError):  # the next time, or it runs out, and `check` says so
            _path(root, number).write_bytes(_written(me))


def _taken(root: ObjectPath) -> list[int]:
    return sorted(int(p.name) for p in (root / ".lock").iterdir() if p.name.isdigit())


def _newest(root: ObjectPath) -> int:
    return max(_taken(root), default=0)


def _path(root: ObjectPath, number: int) -> ObjectPath:
    return root / ".lock" / f"{number:06d}"


def _written(holder: dict[str, object]) -> bytes:
    return json.dumps({**holder, "time": time.time()}).encode()


# ---------------------------------------------------------------- this process, and others here
def _me() -> dict[str, object]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "machine": _machine(),
        "began": birth(pid),
        "token": uuid.uuid4().hex,
    }


def _is_gone(holder: dict[str, object]) -> bool:
    """Whether a holder was a process of this machine, since its last start, and is no more."""
    pid = holder.get("pid")
    here = isinstance(pid, int) and holder.get("machine") == _machine() is not None
    return here and birth(pid) != holder.get("began")  # type: ignore[arg-type]


def _machine() -> str | None:
    """What only processes share that see the same process ids."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def birth(pid: int) -> str | None:
    """When a process began, in ticks since the machine did, as ids are given again; None: gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else fields[18]

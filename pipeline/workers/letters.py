"""What processes tell each other: objects in memory of their own, of which a handle is sent.

A letter is sent when it is complete, and sending never waits for who receives. It has no name, so
nothing has to fit into /dev/shm, and nothing stays behind however a process ends.
"""

from __future__ import annotations

import copyreg
import os
import pickle
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from io import BytesIO
from itertools import accumulate
from mmap import MAP_POPULATE, MAP_SHARED, mmap
from typing import Any

from pipeline.errors import PlanError

_NUMBER = struct.Struct("q")
"""Native, so that it is written at once: another process may read it meanwhile."""
_ALIGN = 64
"""Bytes: arrays begin at multiples of it, as vector instructions like them to."""


class Letter:
    """A received or sent object. Both processes see the same memory.

    Layout: `begun`; the number of parts, the bytes of each; the parts, aligned: a pickle, and the
    arrays that it leaves out.
    """

    def __init__(self, memory: mmap) -> None:
        self._memory = memory

    @property
    def begun(self) -> int:
        """A number that whoever works on the letter leaves for the other; 0 at first."""
        return int(_NUMBER.unpack_from(self._memory)[0])

    @begun.setter
    def begun(self, number: int) -> None:
        _NUMBER.pack_into(self._memory, 0, number)

    def content(self) -> Any:
        """The object; its arrays lie in the letter's memory, which goes with the last of them."""
        (count,) = _NUMBER.unpack_from(self._memory, _NUMBER.size)
        sizes = struct.unpack_from(f"{count}q", self._memory, 2 * _NUMBER.size)
        view = memoryview(self._memory)
        data, *arrays = (
            view[start : start + size] for start, size in zip(_starts(sizes), sizes, strict=False)
        )
        return pickle.loads(data, buffers=arrays)


def send(channel: socket.socket, content: object) -> Letter:
    """Send an object. Where nobody is there any more to receive it, that is no error here."""
    arrays: list[pickle.PickleBuffer] = []
    file = BytesIO()
    pickler = pickle.Pickler(file, protocol=5, buffer_callback=arrays.append)
    pickler.dispatch_table = _reducers()
    pickler.dump(content)
    parts = [file.getbuffer(), *(array.raw() for array in arrays)]
    sizes = [part.nbytes for part in parts]
    handle = os.memfd_create("filterbank")
    try:
        starts = _starts(sizes)
        os.ftruncate(handle, starts[-1])
        _write(handle, struct.pack(f"{2 + len(sizes)}q", 0, len(sizes), *sizes), 0)
        for part, start in zip(parts, starts, strict=False):
            _write(handle, part, start)
        letter = Letter(mmap(handle, starts[-1]))
        with suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(channel, [b"L"], [handle])
    finally:
        os.close(handle)
    return letter


def receive(channel: socket.socket) -> Letter | None:
    """Wait for a letter; None when the other side is gone and nothing of it is left.

    Raises PlanError where this process has no room for one more open file.
    """
    try:
        said, handles, _, _ = socket.recv_fds(channel, 1, 1)
    except ConnectionResetError:  # it left letters unread
        return None
    if not said:
        return None
    if not handles:
        message = "more files are open than this process may have; raise `ulimit -n`"
        raise PlanError(message)
    try:
        size = os.fstat(handles[0]).st_size
        return Letter(mmap(handles[0], size, flags=MAP_SHARED | MAP_POPULATE))
    finally:
        os.close(handles[0])


def _starts(sizes: tuple[int, ...] | list[int]) -> list[int]:
    """Where the parts begin, and where the last one ends."""
    head = (2 + len(sizes)) * _NUMBER.size
    return list(accumulate(map(_aligned, sizes), initial=_aligned(head)))


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def _write(handle: int, part: bytes | memoryview, start: int) -> None:
    """All of a part: one call writes 2 GiB at most."""
    rest = memoryview(part)
    while rest:
        written = os.pwrite(handle, rest, start)
        rest, start = rest[written:], start + written


def _reducers() -> Mapping[type, Callable[[Any], Any]]:
    """How tensors are pickled: as arrays, which can lie outside of a pickle.

    A process that has not imported torch has none.
    """
    if (torch := sys.modules.get("torch")) is None:
        return copyreg.dispatch_table
    return {**copyreg.dispatch_table, torch.Tensor: lambda x: (torch.from_numpy, (x.numpy(),))}

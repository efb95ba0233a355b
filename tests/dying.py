"""Die, in a fork, instead of the nth change of a folder: cheaper than a process that is killed."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Iterator

import pyarrow.parquet as pq
import pytest

DIED = 99


def dies_at(nth: int, act: Callable[[], object]) -> bool:
    """Do something in a fork of this process that dies instead of its nth change of a folder.

    A rename, deletion, new folder or batch of Parquet rows is a change. (A sync is none that can
    be seen; that all is synced in time has its own test.)
    """
    gc.freeze()  # else a collection in the fork copies every page that holds an object
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, DIED), f"ended with {code}"
        return code == DIED
    seen = 0

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal seen
            seen += 1
            if seen == nth:
                os._exit(DIED)
            return real(*arguments, **named)

        return call

    try:
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        pq.ParquetWriter.write_table = counted(pq.ParquetWriter.write_table)
        act()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def every_death(
    prepare: Callable[[], None], act: Callable[[], object], step: int = 1
) -> Iterator[int]:
    """Do something again and again, dying at the first, second ... change, until it ends."""
    for nth in range(1, 2000, step):
        prepare()
        if not dies_at(nth, act):
            return
        yield nth
    pytest.fail("never came to its end")

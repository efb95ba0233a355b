"""Loops over pixels that numba compiles once per machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(function: _F, signature: str | list[str] | None = None) -> _F:
    """Compile for one or more signatures, or take what an earlier process left in the cache.

    Without a signature it becomes part of the functions that call it, as do the constants that
    they name. The cache holds as long as the file of the function with the signature is the same:
    touch that file when what it takes from another one has changed. That is LINES, TOGETHER and the
    ways of bank/costs.py in bank/native.py and, in statistics, CELL of cells.py in native.py and
    look.py, what native.py lends to look.py, and counting.py to fine.py, finish.py and whole.py. No
    fast-math: every step is exactly rounded.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if signature is None:
        return cast("_F", numba.njit(**options)(function))
    try:
        return cast("_F", numba.njit(signature, cache=True, **options)(function))
    except RuntimeError:  # no folder to keep it in: compile in each process
        return cast("_F", numba.njit(signature, **options)(function))

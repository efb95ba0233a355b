"""Kernels for a GPU: whether Triton runs here, made of text by it, its errors in our words."""

from __future__ import annotations

import hashlib
import linecache
import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from pipeline.errors import DeviceError

_ONE_BY_ONE = Lock()
"""Triton does not promise that threads may compile side by side; a launch takes no time."""


@lru_cache(maxsize=2)
def possible(device: str) -> bool:
    """Whether such kernels run there: Triton builds its launcher in C on each machine, once."""
    if device != "cuda" or find_spec("triton") is None:
        return False
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    return bool(compiler) and Path(sysconfig.get_path("include"), "Python.h").is_file()


def build(text: str) -> Any:
    """The function that Triton makes of the text of a module; it is compiled when it is launched.

    Raises
    ------
    ImportError
        Where Triton is not installed.
    """
    name = f"<kernel {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    module: dict[str, Any] = {"__name__": name}
    exec(compile(text, name, "exec"), module)  # our own text, from kernels that are numbers
    return module["kernel"]


@contextmanager
def launching() -> Iterator[None]:
    """Launch kernels, or compile them, one by one.

    Errors of Triton, its compilers and the driver are said in our words, whatever kind they are.

    Raises
    ------
    torch.OutOfMemoryError
        Where the device's memory does not hold a kernel.
    DeviceError
        Where a kernel cannot be compiled or launched.
    """
    import torch

    try:
        with _ONE_BY_ONE:
            yield
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:
        said = str(getattr(error, "error_message", None) or error).strip() or type(error).__name__
        if said.startswith("Triton Error") and "out of memory" in said:
            raise torch.OutOfMemoryError(said) from error
        message = (
            f"Triton cannot compile or launch a kernel: {said.splitlines()[0]}; "
            "use --device cpu with another output folder"
        )
        raise DeviceError(message) from error

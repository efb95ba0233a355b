"""A GPU that is not there: tensors of the CPU which say that they are on one.

Everything but Triton's kernels, which have an interpreter, is torch's own on any device. What a
machine without a GPU can find out about code for one is whether it brings things to the right place
first, and that is what these tensors are strict about: to combine them with others, or to look at
them from numpy, is refused as CUDA does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
NAME = "a GPU that is not there"

_COPIES = {"copy_", "__setitem__", "__getitem__", "to", "index_put_"}
"""What takes tensors of both places."""
_HERE = {"cpu", "tolist", "item", "__bool__", "__int__", "__float__", "__len__", "__index__"}
"""What answers on the CPU."""
_REFUSED = {"numpy", "__array__"}


class Distant(Tensor):
    """A tensor on the GPU that is not there."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _called(func, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """Makes there what is asked to be made there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _called(func, args, kwargs or {})


class Stream:
    """Of the GPU that is not there; what is queued on it is done at once."""

    device = CUDA


class Event:
    """What a stream of it has come to."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: Event) -> float:
        """Milliseconds."""
        return 1e3 * (later.at - self.at)


_STREAM = Stream()


@contextmanager
def distant_gpu() -> Iterator[pytest.MonkeyPatch]:
    """Such a GPU is in this machine, for this thread and those that compute in its streams."""
    with pytest.MonkeyPatch.context() as patch, _Factories():
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "get_device_name", lambda: NAME)
        patch.setattr(torch.cuda, "max_memory_reserved", lambda: 1 << 30)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "Event", Event)
        patch.setattr(torch.cuda, "stream", lambda stream: _Factories())
        patch.setattr(torch.cuda, "current_stream", lambda: _STREAM)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(Tensor, "pin_memory", lambda self: self)
        yield patch


def _called(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    far = any(isinstance(x, Distant) for x in given)
    name = getattr(func, "__name__", "")
    if far and func == Tensor.device.__get__:  # type: ignore[attr-defined]
        return CUDA
    if far and func == Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
        return True
    if far and name in _REFUSED:
        message = "can't convert cuda:0 device type tensor to numpy"
        raise TypeError(message)
    if far and name not in _COPIES and any(type(x) is Tensor and x.dim() for x in given):
        message = f"Expected all tensors to be on the same device, but {name} was given two"
        raise RuntimeError(message)
    target = _target(name, args, kwargs, far=far)
    plain = {id(x): x.as_subclass(Tensor) for x in given if isinstance(x, Distant)}
    back = {id(y): x for x in given for y in [plain.get(id(x))] if y is not None}
    with torch._C.DisableTorchFunction():
        found = func(*_near(args, plain), **_near(kwargs, plain))
    if target == "cuda" and name not in _HERE:
        return tree_map(lambda x: back.get(id(x), _away(x)), found)
    return found


def _target(name: str, args: Any, kwargs: Any, *, far: bool) -> str:
    """Where the results are to be."""
    asked = [kwargs.get("device")]
    if name == "to":
        asked += [x for x in args[1:] if isinstance(x, torch.device | str)]
        asked += [x.device for x in args[1:] if isinstance(x, Tensor)]
    for device in asked:
        if device is not None:
            return torch.device(device).type
    return "cuda" if far else "cpu"


def _near(given: Any, plain: dict[int, Tensor]) -> Any:
    def moved(x: Any) -> Any:
        if isinstance(x, Tensor):
            return plain.get(id(x), x)
        there = isinstance(x, torch.device | str) and str(x).startswith("cuda")
        return "cpu" if there else x

    return tree_map(moved, given)


def _away(x: Any) -> Any:
    return x.as_subclass(Distant) if isinstance(x, Tensor) else x

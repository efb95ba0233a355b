"""What an instance computes when it is first asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class lazy(Generic[_T]):
    """functools.cached_property without a lock: that of Python 3.11 is one for all instances.

    Threads with an instance each do not wait for one another.
    """

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    def __get__(self, instance: Any, owner: type[Any]) -> _T:
        found = self._compute(instance)
        instance.__dict__[self._name] = found  # looked at before this descriptor the next time
        return found

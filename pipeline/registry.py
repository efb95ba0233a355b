"""Name -> class, once for filters, readers, steps, statistics and writers alike."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound=type)


def nearest(name: str, known: Iterable[str], choices: str | None = None) -> str:
    """Say `; did you mean 'gabor'?`, or list what is known when nothing is near.

    choices: the list, where it can be said in fewer words.
    """
    words = sorted(known)
    near = difflib.get_close_matches(name.lower(), words, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; choose from: {choices or ', '.join(words)}"


class Registry(Generic[T], Mapping[str, type[T]]):
    """A read-only mapping that refuses duplicates and answers a miss with the nearest name."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._items: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Enrol a class under the name that config files use."""

        def add(cls: C) -> C:
            if name in self._items:
                message = f"two {self.what}s are called {name!r}"
                raise ValueError(message)
            self._items[name] = cls
            return cls

        return add

    def name_of(self, item: object) -> str:
        """The name a class, or the class of an instance, was registered under."""
        cls = item if isinstance(item, type) else type(item)
        return next(name for name, known in self._items.items() if known is cls)

    def __getitem__(self, name: str) -> type[T]:
        try:
            return self._items[name]
        except KeyError:
            message = f"unknown {self.what} {name!r}{nearest(name, self._items)}"
            raise KeyError(message) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items  # without the words of a miss

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

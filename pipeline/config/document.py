"""A file of the config language before its sections mean anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.config.nodes import Node, problem, shown
from pipeline.config.parse import read
from pipeline.config.schema import VERSION
from pipeline.config.words import refuse_unknown
from pipeline.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """The mapping in a file, and what its YAML got wrong without hiding the rest."""

    root: Node
    problems: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Document:
        """Read a file. Raises ConfigError where no mapping can be made of it."""
        root, problems = read(path)
        if not isinstance(root.value, dict):
            text = f"must be a mapping (got {shown(root.plain)}); start it with 'version: 1'"
            raise ConfigError((*problems, *problem(root.place, "", text).problems))
        return cls(root, problems)

    def section(self, key: str) -> Node:
        """What stands under a key; an empty mapping where nothing does."""
        entry = self.root.entries.get(key)
        if entry is None:
            return Node(self.root.place, {})
        return Node(entry.place, {}) if entry.node.value is None else entry.node

    def required(self, key: str, example: str) -> Node:
        """What stands under a key that no default replaces. Raises ConfigError."""
        if key not in self.root.entries:
            text = f"is missing; add '{example}'"
            raise problem(self.root.place, key, text)
        return self.section(key)

    def checks(self, known: Iterable[str]) -> Iterator[Callable[[], None]]:
        """What to try before its sections: YAML, keys, version; each raises ConfigError."""
        yield self._check_yaml
        yield partial(refuse_unknown, self.root, known, "")
        yield self._check_version

    def _check_yaml(self) -> None:
        if self.problems:
            raise ConfigError(self.problems)

    def _check_version(self) -> None:
        entry = self.root.entries.get("version")
        if entry is None:
            text = f"is missing; add 'version: {VERSION}' as the first line"
            raise problem(self.root.place, "version", text)
        got = entry.node.value
        if type(got) is not int or got != VERSION:
            text = f"must be {VERSION} (got {shown(got)}); write 'version: {VERSION}'"
            raise problem(entry.node.place, "version", text)

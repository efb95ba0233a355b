"""Folders -> the files to process, in a stable order."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from glob import has_magic
from pathlib import Path

from pipeline.config.schema import Input
from pipeline.errors import InputError
from pipeline.readers import identify, parts_beside, why_no_image
from pipeline.types import Member


@dataclass(frozen=True)
class Listing:
    """What lies below the input roots.

    members: files to process, ordered by the bytes of their names; skipped: why and how often
    something was left out; waiting: names of files younger than `min_age`.
    """

    members: tuple[Member, ...]
    skipped: Counter[str] = field(default_factory=Counter)
    waiting: tuple[str, ...] = ()

    @property
    def asked_out(self) -> int:
        """How many files the config's own patterns left out."""
        return self.skipped["excluded"] + self.skipped["not included"]


def list_members(config: Input, *, output: Path | None = None, now: float) -> Listing:
    """List every file that the paths and patterns name; opens DICOM and unknown suffixes only.

    A member's name is its path below the input root: the folder given, or what precedes the first
    wildcard of a glob, or the folder of a file; the deepest common folder of several. Links are
    followed to files below the root, never out of it; folders only as themselves. `output` and what
    lies in it is never input; now: seconds since 1970. Raises InputError when a root is missing.
    """
    starts = [_start(path) for path in config.path]
    top = Path(os.path.commonpath([start.root for start in starts]))
    skipped: Counter[str] = Counter()
    found: dict[str, Member] = {}
    chosen, refused = compile_globs(config.include or ()), compile_globs(config.exclude)
    for start in starts:
        for path, status in _walk(start.path, top, output, skipped):
            name = os.path.relpath(path, top)
            inside = os.path.relpath(path, start.root)
            if start.glob and not compile_globs(("/" + start.glob,))("/" + inside):
                continue
            if refused(name):
                skipped["excluded"] += 1
            elif config.include is not None and not chosen(name):
                skipped["not included"] += 1
            elif config.include is None and not start.names_files and (why := why_no_image(path)):
                skipped[why] += 1
            else:
                found[name] = _member(path, name, status)
    members = sorted(found.values(), key=lambda m: os.fsencode(m.name))
    young = _young(members, config.min_age, now)
    ready = tuple(m for m in members if m.name not in young)
    return Listing(ready, skipped, tuple(sorted(young)))


def _member(path: str, name: str, status: os.stat_result) -> Member:
    parts = parts_beside(path)
    found = [status]
    for part in parts:
        with suppress(OSError):  # gone since: reading will say so
            found.append(Path(part).stat())
    size, latest = sum(s.st_size for s in found), max(s.st_mtime_ns for s in found)
    each = tuple((s.st_size, s.st_mtime_ns) for s in found) if parts else ()
    return Member(path, name, size, latest, parts, each)


def slices_of(members: Iterable[Member], folders: Collection[str]) -> list[Member]:
    """The DICOM files in some folders: what may be one series."""
    inside = (m for m in members if m.folder in folders)
    return [member for member in inside if identify(member.path) == "dicom"]


def _young(members: Sequence[Member], min_age: float, now: float) -> set[str]:
    """Names of files to be left for the next run; a series waits for its youngest slice."""
    fresh = [m for m in members if min_age and m.mtime_ns > (now - min_age) * 1e9]
    folders = {m.folder for m in slices_of(fresh, {m.folder for m in fresh})}
    return {m.name for m in (*fresh, *slices_of(members, folders))}


def check_roots(config: Input) -> None:
    """Raise InputError when an input path does not exist."""
    for path in config.path:
        _start(path)


@dataclass(frozen=True)
class _Start:
    path: Path
    root: Path
    glob: str = ""

    @property
    def names_files(self) -> bool:
        """Whether it says what its files are: it is one, or a glob with a suffix (`*.jp2`)."""
        return not self.path.is_dir() or Path(self.glob).suffix not in ("", ".*")


def _start(given: str) -> _Start:
    try:
        return _existing_start(given)
    except OSError as error:  # no permission, a name too long
        message = f"input {given[:200]!r} cannot be read: {error.strerror}; check input.path"
        raise InputError(message) from error


def _existing_start(given: str) -> _Start:
    path = Path(given).absolute()
    if not path.exists() and has_magic(given):
        parts = path.parts
        first = next(i for i, part in enumerate(parts) if has_magic(part))
        root = Path(*parts[:first])
        if root.is_dir():
            return _Start(root, root, "/".join(parts[first:]))
    if not path.exists():
        message = f"input {given!r} does not exist; check input.path or --input"
        raise InputError(message)
    return _Start(path, path if path.is_dir() else path.parent)


def _walk(
    path: Path, top: Path, output: Path | None, skipped: Counter[str]
) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files at or below a path, never through a linked folder."""
    if not path.is_dir():
        given = path.stat()
        if stat.S_ISREG(given.st_mode):
            yield str(path), given
        else:
            skipped["not a regular file"] += 1
        return
    limit, own = os.path.realpath(top), output and os.path.realpath(output)
    todo = [str(path)]
    while todo:
        folder = todo.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            skipped[f"folder not readable ({error.strerror})"] += 1
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if os.path.realpath(entry.path) != own:
                    todo.append(entry.path)
            elif status := _regular(entry, limit, skipped):
                yield entry.path, status


def _regular(entry: os.DirEntry[str], limit: str, skipped: Counter[str]) -> os.stat_result | None:
    try:
        if entry.is_symlink() and not _within(os.path.realpath(entry.path), limit):
            skipped["link out of the input root"] += 1
            return None
        status = entry.stat()
    except OSError:
        skipped["broken link"] += 1
        return None
    if stat.S_ISREG(status.st_mode):
        return status
    skipped["linked folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"] += 1
    return None


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


@lru_cache(maxsize=64)
def compile_globs(globs: Sequence[str]) -> Callable[[str], bool]:
    """Match relative POSIX paths: `*` and `?` stay within a part, `**/` spans any number of them.

    A pattern without `/` is matched against the last part, as in .gitignore.

    >>> match = compile_globs(("*.png", "scans/**/a?.tif"))
    >>> match("x/y.png"), match("scans/1/2/a7.tif"), match("other/a7.tif")
    (True, True, False)
    """
    rules = [("/" in glob, re.compile(_translate(glob), re.DOTALL)) for glob in globs]

    def match(name: str) -> bool:
        last = name.rsplit("/", 1)[-1]
        return any(rule.fullmatch(name if whole else last) for whole, rule in rules)

    return match


def _character_class(token: str) -> str:
    """A class such as [a-z]; taken literally where it is none, as a shell does."""
    pattern = token.replace("[!", "[^", 1).replace("\\", "\\\\")
    try:
        re.compile(pattern)
    except re.error:
        return re.escape(token)
    return pattern


def _translate(glob: str) -> str:
    out = ""
    for token in re.findall(r"\*\*/|\*+|\?|\[!?\]?[^]]*\]|.", glob, re.DOTALL):
        if token == "**/":
            out += "(?:.*/)?"
        elif token.startswith("*"):
            out += ".*" if len(token) > 1 else "[^/]*"
        elif token == "?":
            out += "[^/]"
        elif len(token) > 1:
            out += _character_class(token)
        else:
            out += re.escape(token)
    return out

"""Folders -> the files to process, in a stable order."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from glob import has_magic
from pathlib import Path

from pipeline.config.schema import Input
from pipeline.errors import InputError
from pipeline.manifest import read_manifest
from pipeline.objects import Objects, list_objects
from pipeline.pairing import is_beside, pair
from pipeline.patterns import compile_globs, patterns_of
from pipeline.readers import is_dicom, parts_beside, why_no_image
from pipeline.storage import Place, is_url
from pipeline.types import Member, Source

_BESIDE = "mask or qa layer"
_UNREAD = "folder not readable"
_ASKED = ("excluded", "not included", "band not in input.bands", "no mask", _BESIDE)
"""Reasons that the config itself gives."""


@dataclass(frozen=True)
class Listing:
    """What lies below the input roots.

    sources: images to process, unopened, ordered by the bytes of their first files' names;
    skipped: why and how often something was left out; waiting: names of files younger than
    `min_age`, and of those that are one image with such a file.
    """

    sources: tuple[Source, ...]
    skipped: Counter[str] = field(default_factory=Counter)
    waiting: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """The files of all images, without their masks and layers of classes."""
        return tuple(member for source in self.sources for member in source.members)

    @property
    def unread(self) -> str:
        """Why folders could not be listed; empty where all could."""
        return ", ".join(sorted(why for why in self.skipped if why.startswith(_UNREAD)))

    @property
    def asked_out(self) -> int:
        """How many files the config's own patterns left out."""
        return sum(self.skipped[reason] for reason in _ASKED)


def list_members(config: Input, *, output: Place | None = None, now: float) -> Listing:
    """List every file that the paths and patterns name; opens DICOM and unknown suffixes only.

    A member's name is its path below the input root: the folder given, or what precedes the first
    wildcard of a glob, or the folder of a file; the deepest common folder of several. Links are
    followed to files below the root, never out of it; folders only as themselves. A file of which a
    part lies out of the root, like a tile of a mosaic, is left out. `output` and what lies in it is
    never input; now: seconds since 1970. Raises InputError when a root is missing, and ConfigError
    for a manifest that cannot be read.
    """
    list_all = list_objects if any(map(is_url, config.path)) else _list_files
    listed = list_all(config, output)
    sources, left_out = pair(_ordered(listed.found), _ordered(listed.beside), config)
    young = _young(sources, config.min_age, now)
    ready = tuple(source for source in sources if source.key not in young)
    waiting = (m.name for s in sources if s.key in young for m in s.members)
    return Listing(ready, listed.skipped + left_out, tuple(sorted(waiting)))


def _list_files(config: Input, output: Place | None) -> Objects:
    own = output if isinstance(output, Path) else None
    starts = [_start(path) for path in config.path]
    top = Path(os.path.commonpath([start.root for start in starts]))
    skipped: Counter[str] = Counter()
    found: dict[str, Member] = {}
    beside: dict[str, Member] = {}
    belongs = is_beside(config)
    included, refused = patterns_of(config.include or ()), compile_globs(config.exclude)
    member = _Members(top, read_manifest(config.sha256) if config.sha256 else None, skipped)
    for start in starts:
        walked = start.root if config.mask or config.qa else start.path
        for path, name, status in _walk(walked, top, own, skipped):
            if belongs(name) and not refused(name):
                beside.update(member(path, name, status))
                skipped[_BESIDE] += 1
            elif not start.names(path):
                continue
            elif refused(name):
                skipped["excluded"] += 1
            elif config.include is not None and all(p.match(name) is None for p in included):
                skipped["not included"] += 1
            elif config.include is None and not start.names_files and (why := why_no_image(path)):
                skipped[why] += 1
            else:
                found.update(member(path, name, status))
    return Objects(found, beside, skipped)


def _ordered(members: Mapping[str, Member]) -> list[Member]:
    return sorted(members.values(), key=lambda member: os.fsencode(member.name))


class _Members:
    """Describes files below a root, with what is a part of them and what a manifest says."""

    def __init__(
        self, top: Path, manifest: Mapping[str, str] | None, skipped: Counter[str]
    ) -> None:
        self.top, self.limit, self.manifest = top, os.path.realpath(top), manifest
        self.skipped = skipped

    def __call__(self, path: str, name: str, status: os.stat_result) -> dict[str, Member]:
        """A file by its name; nothing, and counted, where a part of it lies out of the root."""
        parts = parts_beside(path)
        if not all(_within(os.path.realpath(part), self.limit) for part in parts):
            self.skipped["names a file out of the input root"] += 1
            return {}
        found = [status]
        for part in parts:
            with suppress(OSError):  # gone since: reading will say so
                found.append(Path(part).stat())
        size, latest = sum(s.st_size for s in found), max(s.st_mtime_ns for s in found)
        each = tuple((s.st_size, s.st_mtime_ns) for s in found) if parts else ()
        digests = self._digests(name, parts)
        return {name: Member(path, name, size, latest, parts, each, digests)}

    def _digests(self, name: str, parts: Sequence[str]) -> tuple[str, ...]:
        if self.manifest is None:
            return ()
        names = (name, *(os.path.relpath(part, self.top) for part in parts))
        return tuple(self.manifest.get(one, "") for one in names)


def slices_of(sources: Iterable[Source], folders: Collection[str]) -> list[Source]:
    """The DICOM files in some folders: what may be one series."""
    inside = (s for s in sources if s.layout != "joined" and s.members[0].folder in folders)
    return [source for source in inside if is_dicom(source.members[0].path)]


def _young(sources: Sequence[Source], min_age: float, now: float) -> set[str]:
    """Keys of images to be left for the next run; a series waits for its youngest slice."""
    latest = (now - min_age) * 1e9
    fresh = [s for s in sources if min_age and any(m.mtime_ns > latest for m in s.files)]
    series = slices_of(fresh, {s.members[0].folder for s in fresh})
    folders = {s.members[0].folder for s in series}
    return {s.key for s in (*fresh, *slices_of(sources, folders))}


def check_roots(config: Input) -> None:
    """Raise InputError when an input path does not exist; listing a store will say so."""
    for path in config.path:
        if not is_url(path):
            _start(path)


@dataclass(frozen=True)
class _Start:
    path: Path
    root: Path
    glob: str = ""

    @property
    def names_files(self) -> bool:
        """Whether it says what its files are: it is one, or a glob with a suffix (`*.jp2`)."""
        return not self._is_folder or Path(self.glob).suffix not in ("", ".*")

    @cached_property
    def _is_folder(self) -> bool:
        return self.path.is_dir()

    def names(self, path: str) -> bool:
        """Whether it names a file: it is that file, or its folder, or a glob that matches."""
        if not self.glob:
            return self._is_folder or path == str(self.path)
        inside = os.path.relpath(path, self.root)
        return compile_globs(("/" + self.glob,))("/" + inside)


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
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Regular files at or below a path, and their names below `top`; never a linked folder's."""
    first = os.path.relpath(path, top)
    if not path.is_dir():
        given = path.stat()
        if stat.S_ISREG(given.st_mode):
            yield str(path), first, given
        else:
            skipped["not a regular file"] += 1
        return
    limit, own = os.path.realpath(top), output and os.path.realpath(output)
    todo = [(str(path), "" if first == "." else first + "/")]
    while todo:
        folder, above = todo.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            skipped[f"{_UNREAD} ({error.strerror})"] += 1
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if os.path.realpath(entry.path) != own:
                    todo.append((entry.path, f"{above}{entry.name}/"))
            elif status := _regular(entry, limit, skipped):
                yield entry.path, above + entry.name, status


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

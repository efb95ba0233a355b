"""Folders -> members in a stable order -> sources with their headers."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from glob import has_magic
from pathlib import Path
from typing import Literal

from pipeline.config.schema import Input, Limits
from pipeline.errors import InputError, ReadError
from pipeline.keys import escape
from pipeline.readers import identify, known_suffixes
from pipeline.readers.base import READERS
from pipeline.types import Failure, Grid, ImageInfo, Member, Source


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
    """List every file that the paths and patterns name; opens files of unknown suffix only.

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
            elif config.include is None and start.path.is_dir() and not _looks_like_image(path):
                skipped["no known image format"] += 1
            else:
                found[name] = Member(path, name, status.st_size, status.st_mtime_ns)
    members = sorted(found.values(), key=lambda m: os.fsencode(m.name))
    young = {
        m.name for m in members if config.min_age and m.mtime_ns > (now - config.min_age) * 1e9
    }
    ready = tuple(m for m in members if m.name not in young)
    return Listing(ready, skipped, tuple(sorted(young)))


def check_roots(config: Input) -> None:
    """Raise InputError when an input path does not exist."""
    for path in config.path:
        _start(path)


@dataclass(frozen=True)
class _Start:
    path: Path
    root: Path
    glob: str = ""


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


def _looks_like_image(path: str) -> bool:
    return Path(path).suffix.lower() in known_suffixes() or identify(path) is not None


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


# ---------------------------------------------------------------- headers
def open_headers(member: Member, config: Input, limits: Limits) -> tuple[Source, ...]:
    """The sources of one file, from its header; a file that cannot be used is one failed source."""
    key = escape(member.name)
    name = identify(member.path) or ""
    try:
        if member.bytes > limits.bytes:
            message = f"file of {member.bytes} bytes is over limits.bytes ({limits.bytes})"
            raise ReadError("limit", message)
        if not name:
            message = "no reader knows this format; exclude it, or convert it"
            raise ReadError("unsupported", message)
        pages = READERS[name]().probe(member.path)
        arranged = _arrange(Source(key, (member,), name), pages, config.pages)
        sources = [replace(source, info=_describe(source.header, config)) for source in arranged]
    except ReadError as error:
        return (Source(key, (member,), name, failure=Failure(error.kind, str(error))),)
    return tuple(_limited(source, limits) for source in sources)


def _describe(info: ImageInfo, config: Input) -> ImageInfo:
    """Fill in what the config knows and the file does not."""
    spacing = config.spacing
    if info.grid.unit == "unknown" and config.unit is not None:
        info = replace(info, grid=replace(info.grid, unit=config.unit))
    elif info.grid.unit is None and spacing is not None:
        ndim = len(info.shape)
        given = spacing if isinstance(spacing, tuple) else (spacing,) * ndim
        if len(given) != ndim:
            message = f"input.spacing has {len(given)} values, the image {ndim} axes"
            raise ReadError("unsupported", message)
        info = replace(info, grid=Grid(given, config.unit))
    return info if config.nodata is None else replace(info, nodata=config.nodata)


def _arrange(base: Source, pages: Sequence[ImageInfo], rule: str) -> list[Source]:
    """Turn the pages of one file into sources, bands of one, or one volume.

    `auto` makes several pages several sources and takes a three-dimensional array as a volume.
    """
    first = pages[0]
    stack = len(pages) == 1 and len(first.shape) == 3
    if len(pages) == 1 and not (stack and rule in ("sources", "bands")):
        return [replace(base, info=first)]
    if stack:
        grid = Grid(first.grid.spacing[1:], first.grid.unit)
        pages = [replace(first, shape=first.shape[1:], grid=grid)] * first.shape[0]
    if rule in ("auto", "sources"):
        word = "page" if base.reader in ("tiff", "npy") else "frame"
        layout: Literal["slice", "page"] = "slice" if stack else "page"
        return [
            replace(base, key=f"{base.key}#{word}={i + 1}", page=i, layout=layout, info=info)
            for i, info in enumerate(pages)
        ]
    return [_join(base, pages, rule)]


def _join(base: Source, pages: Sequence[ImageInfo], rule: str) -> Source:
    """One source of all pages, which must be alike."""
    flat = pages[0]
    if rule == "volume" and len(flat.shape) > 2:
        message = "frames that are volumes make no volume; use pages: sources or pages: bands"
        raise ReadError("unsupported", message)
    if any((p.shape, p.bands, p.dtype) != (flat.shape, flat.bands, flat.dtype) for p in pages):
        message = f"pages differ in size, bands or type; use pages: sources (got pages: {rule})"
        raise ReadError("unsupported", message)
    if rule == "bands":
        labels = tuple(str(i + 1) for i in range(len(pages) * len(flat.bands)))
        return replace(base, layout="bands", info=replace(flat, bands=labels))
    grid = Grid((1.0, *flat.grid.spacing), flat.grid.unit)
    volume = replace(flat, shape=(len(pages), *flat.shape), grid=grid)
    return replace(base, layout="volume", info=volume)


def _limited(source: Source, limits: Limits) -> Source:
    pixels = len(source.header.bands)
    for n in source.header.shape:
        pixels *= n
    if pixels <= limits.pixels:
        return source
    size = " x ".join(map(str, source.header.shape))
    text = f"{size} x {len(source.header.bands)} bands is over limits.pixels ({limits.pixels})"
    return source.fail(Failure("limit", text))

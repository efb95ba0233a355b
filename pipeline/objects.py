"""Objects of a store -> the files to process: what `discover` does for folders."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import has_magic
from pathlib import PurePosixPath

from pipeline.config.schema import Input
from pipeline.errors import InputError
from pipeline.manifest import read_manifest
from pipeline.pairing import is_beside
from pipeline.patterns import compile_globs, patterns_of
from pipeline.readers import named_reader
from pipeline.readers.recognise import BESIDE, NAMED
from pipeline.readers.vrt import MASK_SUFFIX, VRT_SUFFIX
from pipeline.storage import ObjectPath, Place, Stat, is_url, is_within, place
from pipeline.types import Member

BESIDE_IMAGES = "mask or qa layer"


@dataclass(frozen=True)
class Objects:
    """What lies below the URLs: images, and masks and layers of classes, by name.

    skipped: why and how often something was left out.
    """

    found: dict[str, Member]
    beside: dict[str, Member]
    skipped: Counter[str]


def list_objects(config: Input, output: Place | None) -> Objects:
    """List every object that the URLs and patterns name, and open none.

    Names are as in folders; but only its suffix says what an object is, so that one of no known
    suffix is left out unless it is named. What lies in `output` is never input.

    Raises InputError where there is nothing below a URL, or where folders and URLs are mixed;
    PlanError for URLs that cannot be used.
    """
    listing = Objects({}, {}, Counter())
    starts = [_start(path) for path in config.path]
    top = posixpath.commonpath([f"{start.root.protocol}/{start.root.key}" for start in starts])
    belongs, refused = is_beside(config), compile_globs(config.exclude)
    included = patterns_of(config.include or ())
    manifest = read_manifest(config.sha256) if config.sha256 else None
    for start in starts:
        objects = _stats(start)
        for inside, status in objects.items():
            path = start.root / inside
            name = posixpath.relpath(f"{path.protocol}/{path.key}", top)
            if (output is not None and is_within(str(path), output)) or not _is_name(inside):
                continue
            member = _member(path, inside, name, status, objects, manifest)
            if belongs(name) and not refused(name):
                listing.beside[name] = member
                listing.skipped[BESIDE_IMAGES] += 1
            elif not start.names(inside):
                continue
            elif why := _why_not(name, start, objects, inside):
                listing.skipped[why] += 1
            elif refused(name):
                listing.skipped["excluded"] += 1
            elif config.include is not None and all(p.match(name) is None for p in included):
                listing.skipped["not included"] += 1
            elif config.include is None and not start.names_files and not named_reader(name):
                listing.skipped["no known suffix"] += 1
            else:
                listing.found[name] = member
    return listing


@dataclass(frozen=True)
class _Start:
    """Where to list, and which of it: all (no glob), or what matches."""

    root: ObjectPath
    glob: str

    @property
    def names_files(self) -> bool:
        """Whether it says what its files are: it is one, or a glob with a suffix (`*.jp2`)."""
        return PurePosixPath(self.glob).suffix not in ("", ".*")

    def names(self, inside: str) -> bool:
        return not self.glob or compile_globs(("/" + self.glob,))("/" + inside)


def _start(given: str) -> _Start:
    if not is_url(given):
        message = f"input.path mixes folders and URLs ({given!r}); give each a run of its own"
        raise InputError(message)
    parts = given.split("/")
    first = next((i for i, part in enumerate(parts) if has_magic(part)), len(parts))
    root, glob = place("/".join(parts[:first])), "/".join(parts[first:])
    assert isinstance(root, ObjectPath)
    with _asking(root):
        return _Start(root.parent, root.name) if not glob and root.is_file() else _Start(root, glob)


def _stats(start: _Start) -> Mapping[str, Stat]:
    """What lies below, by its path from there. Raises InputError."""
    with _asking(start.root):
        found = start.root.stats()
        if not found and not start.root.exists():
            raise FileNotFoundError
    return found


@contextmanager
def _asking(root: ObjectPath) -> Iterator[None]:
    """Let InputError say what a store refuses."""
    try:
        yield
    except FileNotFoundError:
        message = f"input '{root}' does not exist; check input.path or --input"
        raise InputError(message) from None
    except OSError as error:
        why = error.strerror or error
        message = f"input '{root}' cannot be read: {why}; check input.path and credentials"
        raise InputError(message) from error


def _is_name(inside: str) -> bool:
    """Whether an object has a name that a file can have; `a/` stands for an empty folder."""
    return all(part not in ("", ".", "..") and "\0" not in part for part in inside.split("/"))


def _why_not(name: str, start: _Start, objects: Mapping[str, Stat], inside: str) -> str | None:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == VRT_SUFFIX:
        return f"{suffix} in a store"
    if suffix in NAMED and not start.names_files:
        return f"{suffix} not named"
    if suffix in BESIDE and inside[: -len(suffix)] in objects:
        return "mask or overviews of another file"
    return None


def _member(
    path: ObjectPath,
    inside: str,
    name: str,
    status: Stat,
    objects: Mapping[str, Stat],
    manifest: Mapping[str, str] | None,
) -> Member:
    """An object with the mask of a TIFF that lies beside it, and what a manifest says of both."""
    parts = [status]
    beside: tuple[str, ...] = ()
    if (mask := objects.get(inside + MASK_SUFFIX)) is not None:
        parts.append(mask)
        beside = (f"{path}{MASK_SUFFIX}",)
    names = (name, *(name + MASK_SUFFIX for _ in beside))
    return Member(
        str(path),
        name,
        sum(part.st_size for part in parts),
        max(part.st_mtime_ns for part in parts),
        beside,
        tuple((part.st_size, part.st_mtime_ns) for part in parts) if beside else (),
        () if manifest is None else tuple(manifest.get(one, "") for one in names),
    )

"""Does an output folder hold, byte for byte, what was committed?"""

from __future__ import annotations

import hashlib
import json

import pipeline.writers.parquet as tables
from pipeline.keys import PICTURES
from pipeline.storage import Place, glob
from pipeline.store import TABLES, check_filters, files_in


def verify(root: Place) -> list[str]:
    """Re-read everything that was committed; name each damaged, missing or stray file."""
    found: list[str] = []
    known: set[str] = set()
    for path in glob(root / "images", "part-*.parquet"):
        known.add(f"images/{path.name}")
        if not tables.check_seal(path):
            found.append(f"images/{path.name}: damaged")
            continue
        for name, (size, digest) in json.loads(tables.footer_of(path)["filterbank:files"]).items():
            known.add(name)
            problem = _problem(root / name, size, digest)
            if problem:
                found.append(f"{name}: {problem}")
    if known:
        found += [f"{name}: {problem}" for name, problem in check_filters(root).items()]
    strays = (name for name in files_in(root, ("images", *PICTURES, *TABLES)) if name not in known)
    return found + [f"{name}: belongs to no shard" for name in strays]


def _problem(path: Place, size: int, digest: str) -> str | None:
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return None
            return "damaged" if file.tell() == size else f"has {file.tell()} bytes, not {size}"
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return error.strerror or "not readable"

"""Does an output folder hold, byte for byte, what was committed?"""

from __future__ import annotations

from pipeline.commit import damage, reading
from pipeline.keys import PICTURES
from pipeline.storage import Place, glob
from pipeline.store import TABLES, check_filters, files_in, listed
from pipeline.survey import Survey


def verify(root: Place) -> list[str]:
    """Re-read everything that was committed; name each damaged, missing or stray file.

    Raises WriteError for one that cannot be read.
    """
    with reading(root):
        return _verify(root)


def _verify(root: Place) -> list[str]:
    found: list[str] = []
    known: set[str] = set()
    for path in glob(root / "images", "part-*.parquet"):
        known.add(f"images/{path.name}")
        files = listed(root, path.stem.removeprefix("part-"))
        if files is None:
            found.append(f"images/{path.name}: damaged")
            continue
        for name, (size, digest) in files.items():
            known.add(name)
            problem = damage(root / name, size, digest)
            if problem:
                found.append(f"{name}: {problem}")
    if known:
        found += [f"{name}: {problem}" for name, problem in check_filters(root).items()]
    strays = (name for name in files_in(root, ("images", *PICTURES, *TABLES)) if name not in known)
    return found + [f"{name}: belongs to no shard" for name in strays]


def beyond_repair(survey: Survey) -> list[str]:
    """What a run cannot make again, because images that it came from are gone."""
    redone = {shard.id for shard in survey.shards}
    kept = [
        f"{name}: damaged, and its images are gone"
        for shard, names in survey.state.damaged.items()
        if shard not in redone
        for name in names
    ]
    torn = [
        f"{row.image}: its rows stood in a damaged table, and its files are gone"
        for row in survey.todo.vanished
        if row.shard in redone & survey.state.torn and row.image not in survey.pruned
    ]
    return kept + torn

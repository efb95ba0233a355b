"""Does an output folder hold, byte for byte, what was committed?"""

from __future__ import annotations

from collections.abc import Container

from pipeline.commit import damage, reading
from pipeline.keys import PICTURES, escape
from pipeline.storage import Place, glob
from pipeline.store import TABLES, check_filters, files_in, images_in, listed
from pipeline.survey import Survey


def verify(root: Place) -> list[str]:
    """Re-read everything that was committed; name each damaged, missing or stray file.

    What seems wrong is looked at twice: a run may have replaced it meanwhile. Raises WriteError for
    a file that cannot be read.
    """
    with reading(root):
        found = _problems(root)
        again = _problems(root, found) if found else {}
    return [f"{name}: {problem}" for name, problem in again.items() if name in found]


def _problems(root: Place, only: Container[str] | None = None) -> dict[str, str]:
    """What is wrong with which file; only: of others nothing is read but images parts."""
    files = [*files_in(root, ("images", *PICTURES, *TABLES))]  # first: what comes later is no stray
    found: dict[str, str] = {}
    known: set[str] = set()
    for path in glob(root / "images", "part-*.parquet"):
        part = f"images/{path.name}"
        known.add(part)
        listing = listed(root, path.stem.removeprefix("part-"))
        if listing is None:
            found[part] = "damaged"
            continue
        known.update(listing)
        for name, (size, digest) in listing.items():
            if only is None or name in only:
                problem = damage(root / name, size, digest)
                if problem:
                    found[name] = problem
    if known:
        found |= check_filters(root)
    return found | {name: "belongs to no shard" for name in files if name not in known}


def beyond_repair(survey: Survey) -> list[str]:
    """What stays damaged, because all images of its shard are gone."""
    redone = {shard.id for shard in survey.shards}
    return [
        f"{name}: damaged, and its images are gone"
        for shard, names in survey.state.damaged.items()
        if shard not in redone
        for name in names
    ]


def lost(survey: Survey) -> list[str]:
    """Which rows go with a damaged table that is made anew, as the files of their images are gone.

    Asked before the run, which deletes the table.
    """
    torn, redone = survey.state.torn, {shard.id for shard in survey.shards}
    rows = (row for row in survey.todo.vanished if row.status == "done")
    found = {
        row.image: f"in {' and '.join(torn[row.shard])} are lost: the table is damaged"
        for row in rows
        if row.shard in redone & torn.keys() and row.image not in survey.pruned
    }
    found |= dict.fromkeys(_forgotten(survey), "are lost: the images part is damaged")
    return [f"{image}: its rows {what}, and its files are gone" for image, what in found.items()]


def _forgotten(survey: Survey) -> list[str]:
    """Images of shards whose images part is damaged, that nothing listed now can be."""
    root, unsealed = survey.plan.root, survey.state.unsealed
    held = {image for shard in unsealed for image in images_in(root, shard)}
    listed = {escape(m.name) for source in survey.listing.sources for m in source.members}
    listed |= {escape(name) for name in survey.listing.waiting}
    known = {source.key for source in survey.sources} | listed
    return sorted(image for image in held - known if image.partition("#")[0] not in listed)

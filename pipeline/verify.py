"""Does an output folder hold, byte for byte, what was committed?"""

from __future__ import annotations

from collections.abc import Callable, Container

from pipeline.commit import damage, reading
from pipeline.keys import PICTURES, escape, picture_folder
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
    """What stays damaged, because no image of its shard is made anew, and why."""
    redone, gone = {shard.id for shard in survey.shards}, set(survey.todo.vanished)
    return [
        f"{name}: damaged, and its images {'are gone' if gone.issuperset(rows) else 'have to wait'}"
        for shard, rows in survey.state.shards.items()
        if shard not in redone
        for name in survey.state.damaged.get(shard, ())
    ]


def lost(survey: Survey) -> list[str]:
    """Which rows and files go with damaged files of shards that are made anew, as those of their
    images are not there to be read.

    Asked before the run, which deletes what is damaged.
    """
    state, gone = survey.state, set(survey.todo.vanished)
    found: list[str] = []
    for shard in survey.shards:
        tables, names = " and ".join(shard.torn), state.damaged.get(shard.id, ())
        for row in state.shards.get(shard.id, ()):
            if row.image not in shard.kept or not row.had_results:
                continue
            why = "its files are gone" if row in gone else "its files have to wait"
            if tables:
                what = f"its rows in {tables} are lost: the table is damaged"
                found.append(f"{row.image}: {what}, and {why}")
            folders = tuple(f"{picture_folder(row.image, kind)}/" for kind in PICTURES)
            pictures = [name for name in names if name.startswith(folders)]
            found += [f"{row.image}: {name} is lost: it is damaged, and {why}" for name in pictures]
    what = "its rows are lost: the images part is damaged, and nothing listed makes them anew"
    return found + [f"{image}: {what}" for image in _forgotten(survey)]


def _forgotten(survey: Survey) -> list[str]:
    """Images of shards whose images part is damaged, that nothing listed now can be."""
    root, unsealed = survey.plan.root, survey.state.unsealed
    held = {image for shard in unsealed for image in images_in(root, shard)}
    if not held:
        return []
    may_be = _possible(survey)
    return sorted(image for image in held if not may_be(image))


def _possible(survey: Survey) -> Callable[[str], bool]:
    """What tells whether a key may be that of an image listed now, opened or not."""
    listing, join = survey.listing, survey.plan.config.input.join
    opened = (*survey.sources, *survey.postponed)
    waiting = {escape(name) for name in listing.waiting}
    names = waiting | {escape(member.name) for member in listing.members}
    keys = names | {source.key for source in (*listing.sources, *opened)}
    settled = {
        escape(member.name)
        for source in opened
        if source.layout == "files" or source.reader not in ("", "dicom")
        for member in source.members
    }
    others = names - settled - survey.state.by_file.keys()
    folders = {name.rpartition("/")[0] for name in others}  # a series there may be any

    def may_be(image: str) -> bool:
        file = image.partition("#")[0]
        if image in keys or file in keys or ("#series=" in image and file in folders):
            return True
        before, band, after = image.partition(f"{{{join}}}")
        bands = (name for name in waiting if name.startswith(before) and name.endswith(after))
        return bool(join and band) and any(bands)

    return may_be

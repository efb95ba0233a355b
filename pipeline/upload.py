"""The commit of an object store: a redo log without renames.

Files are put below `.tmp/<id>/`, then `.tmp/<id>.json` is created, where there is none: it lists
every final name, in order, and what goes. From that moment the set is decided; the copies to the
final names that follow can be cut off anywhere, because `recover` repeats them. The files below
`.tmp/<id>/` go last, after the journal, so a journal without them is of a set that is done.

A run that lost its lease and does not know it puts nothing: who takes over creates the journals of
all sets that are not decided itself, as given up, before it deletes their files, and no other run
has the same ids. No clock decides any of this. Deletion knows no such condition: a run that sleeps
between asking for its lease and the one deletion after it may delete what the other one put there
meanwhile. That file is then missing, which the next run notices, and makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline import lease
from pipeline.errors import Locked, WriteError
from pipeline.storage import TMP, ObjectPath

_GIVEN_UP = b'{"given up": true}'
_TODO = ".todo.json"
"""Among the staged files: the journal as it will be."""


def todo_of(written: bytes) -> Mapping[str, Sequence[str]] | None:
    """What a journal says is to be done; None where no commit wrote it, or not for this folder."""
    try:
        todo = json.loads(written)
        found = {key: todo[key] for key in ("files", "remove")}
        fits = all(
            isinstance(names, list) and all(map(_is_final, names)) for names in found.values()
        )
        return found if fits else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_final(name: str) -> bool:
    """Whether a name is one below the root, and of a file that everybody sees."""
    name.encode()
    parts = Path(name).parts
    hidden = name.startswith(".") or "\0" in name
    return not hidden and ".." not in parts and "/".join(parts) == name != ""


def stage(
    root: ObjectPath, name: str, room: str, folder: Path, todo: Mapping[str, Sequence[str]]
) -> None:
    """Put the local files below `folder` that a journal names where `decide` finds them."""
    id = _id(root, name, room)
    staged = root / TMP / id
    staged.clear()
    staged.put({final: folder / final for final in todo["files"]})
    (staged / _TODO).write_bytes(json.dumps({"id": id, **todo}).encode())


def decide(root: ObjectPath, name: str, room: str = "") -> None:
    """Give staged files their final names in order, and delete what is to go.

    Raises Locked where another run has taken over, OSError.
    """
    id = _id(root, name, room)
    lease.check(root)
    try:
        written = (root / TMP / id / _TODO).read_bytes()
        if not (root / TMP / f"{id}.json").create(written):
            message = f"another run took {root} over and gave {name} up; what was committed stays"
            raise Locked(message)
        if _finish(root, id, json.loads(written)):
            return
    except FileNotFoundError:
        pass
    lease.check(root)
    message = (
        f"cannot write to {root}: what was put below {TMP} for {name} is not there any more; is "
        "something else clearing it? Run again: what was committed stays"
    )
    raise WriteError(message)


def forget(root: ObjectPath, room: str) -> None:
    """Delete what was staged in a room and is not decided."""
    for path in (root / TMP).iterdir():
        if path.name.startswith(f"{room}-"):
            path.clear()


def recover(root: ObjectPath) -> int:
    """Finish sets that were decided, give up the others; count the former.

    Must run, under the lease, before anything else is written.
    """
    (root / TMP).abort_uploads()
    ids = {path.name.removesuffix(".json") for path in (root / TMP).iterdir()}
    done = 0
    for id in sorted(ids):
        journal = root / TMP / f"{id}.json"
        if journal.create(_GIVEN_UP) or (todo := todo_of(journal.read_bytes())) is None:
            (root / TMP / id).clear()
            journal.unlink(missing_ok=True)
        else:
            done += _finish(root, id, todo)
    return done


def _id(root: ObjectPath, name: str, room: str) -> str:
    return f"{room or format(lease.number_of(root), '06d')}-{name}"


def _finish(root: ObjectPath, id: str, todo: Mapping[str, Sequence[str]]) -> bool:
    """Do what a journal says; False where another run has done it already, or gave it up.

    Raises Locked where another run has taken over.
    """
    staged, journal = root / TMP / id, root / TMP / f"{id}.json"
    try:
        staged.copy(todo["files"][:-1], root)
        staged.copy(todo["files"][-1:], root)  # the images part: that the others are there
    except FileNotFoundError:
        whole = False
    else:
        whole = True
        for final in todo["remove"]:
            lease.check(root)  # each time: the one that took over may have put it there again
            (root / final).unlink(missing_ok=True)
    journal.unlink(missing_ok=True)
    staged.clear()
    return whole
